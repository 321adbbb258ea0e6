"""The row with a Close button at the foot of a dialog that has nothing to confirm."""

from PySide6.QtWidgets import QDialog, QDialogButtonBox


class CloseBox(QDialogButtonBox):
    """Closes `dialog`; its button is `<name>_close`."""

    def __init__(self, dialog: QDialog, name: str) -> None:
        super().__init__(dialog)
        self.setObjectName(f"{name}_buttons")
        self.close_button = self.addButton(QDialogButtonBox.StandardButton.Close)
        self.close_button.setObjectName(f"{name}_close")
        self.close_button.setAccessibleName("Close")
        self.close_button.setAutoDefault(False)
        self.rejected.connect(dialog.reject)
