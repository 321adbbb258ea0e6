from PySide6.QtWidgets import QDialog, QListWidget, QPlainTextEdit

from app.resources import bundled_parts


def test_about_shows_the_licence_of_each_part(driver) -> None:
    driver.window.actions_.about.trigger()
    driver.click("about_licences")
    parts = driver.find("licences_list", QListWidget)
    text = driver.find("licences_text", QPlainTextEdit)
    assert parts.count() == len(bundled_parts())
    assert "You may use Nibble with a changed Qt." in text.toPlainText()
    row = next(row for row in range(parts.count()) if parts.item(row).text().startswith("mlx-lm "))
    parts.setCurrentRow(row)
    assert text.toPlainText().startswith("mlx-lm 0.")
    assert "Permission is hereby granted" in text.toPlainText()
    driver.find("licences_dialog", QDialog).close()
    driver.find("about_dialog", QDialog).close()
