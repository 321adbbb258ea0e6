"""About Nibble: what it is, and what it runs on."""

from PySide6.QtCore import QSize, Qt, qVersion
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QHBoxLayout, QVBoxLayout, QWidget

from app import __version__
from app.chat.figures import MachineFacts
from app.resources import bundled_parts, icon_path
from app.ui.close_box import CloseBox
from app.ui.licences_dialog import LicencesDialog
from app.ui.theme import GAP, WIDE, SubtleLabel, TextLabel, scaled_font

ICON_SIZE = 64


class AboutDialog(QDialog):
    """Versions, for the curious and for error reports."""

    def __init__(self, machine: MachineFacts | None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("about_dialog")
        self.setAccessibleName("About Nibble")
        self.setWindowTitle("About Nibble")
        title = TextLabel("Nibble")
        title.setFont(scaled_font(title.font(), 1.7, bold=True))
        icon = TextLabel()
        icon.setObjectName("about_icon")
        icon.setPixmap(QIcon(str(icon_path())).pixmap(QSize(ICON_SIZE, ICON_SIZE), self.devicePixelRatioF()))
        head = QHBoxLayout()
        head.setSpacing(WIDE)
        head.addWidget(icon)
        head.addWidget(title, 1)
        what = TextLabel("A chat for local language models whose KV cache is held and read in int4.")
        what.setWordWrap(True)
        versions = SubtleLabel(versions_text(machine))
        versions.setObjectName("about_versions")
        versions.setAccessibleName("Versions")
        versions.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        buttons = CloseBox(self, "about")
        licences = buttons.addButton("Licences…", QDialogButtonBox.ButtonRole.HelpRole)
        licences.setObjectName("about_licences")
        licences.setAccessibleName("Licences")
        licences.setAutoDefault(False)
        licences.clicked.connect(self._show_licences)
        column = QVBoxLayout(self)
        column.setContentsMargins(2 * WIDE, 2 * WIDE, 2 * WIDE, WIDE)
        column.setSpacing(GAP)
        column.addLayout(head)
        column.addSpacing(GAP)
        column.addWidget(what)
        column.addWidget(versions)
        column.addSpacing(GAP)
        column.addWidget(buttons)
        self.setMinimumWidth(420)

    def _show_licences(self) -> None:
        dialog = LicencesDialog(bundled_parts(), self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()


def versions_text(machine: MachineFacts | None) -> str:
    """Return one line for each version that matters; the engine's are known once it has started."""
    lines = [f"Nibble {__version__}", f"Qt {qVersion()}"]
    if machine is not None:
        lines += [
            f"Python {machine.python_version}",
            f"MLX {machine.mlx_version}, mlx-lm {machine.mlx_lm_version}",
            f"{machine.machine}, {machine.os}",
            f"Computes on {machine.device} ({machine.backend})",
        ]
    else:
        lines.append("The engine is not running.")
    return "\n".join(lines)
