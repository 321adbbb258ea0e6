"""The outlook: a small table of lengths to come, int4 beside fp16."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from app.ui.theme import GAP, TIGHT, SubtleLabel, TextLabel, figure_font
from app.viewmodels.outlook_table import OutlookRow, OutlookTable

_MODES = ("int4", "fp16")
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop


class OutlookGrid(QWidget):
    """Shows one OutlookTable at a time; its lines are made once and rewritten after."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("panel_outlook")
        self.setAccessibleName("Outlook")
        self._labels: dict[str, TextLabel] = {}
        self._figures: dict[str, tuple[TextLabel, TextLabel]] = {}
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(GAP)
        self._grid = QGridLayout()
        whole.addLayout(self._grid)
        self._grid.setVerticalSpacing(TIGHT)
        self._grid.setHorizontalSpacing(GAP + TIGHT)
        self._grid.setColumnStretch(0, 1)
        for column, mode in enumerate(_MODES, 1):
            self._grid.addWidget(SubtleLabel(mode), 0, column, _RIGHT)
        self._note = SubtleLabel(factor=0.92)
        self._note.setObjectName("panel_outlook_note")
        self._note.setAccessibleName("What the outlook's marks mean")
        whole.addWidget(self._note)

    def show_table(self, table: OutlookTable) -> None:
        """Show `table`."""
        for row in table.rows:
            if row.key not in self._figures:
                self._add(row)
            self._labels[row.key].setText(row.label)
            for mode, figure, text in zip(_MODES, self._figures[row.key], (row.int4, row.fp16), strict=True):
                figure.setText(text)
                figure.setAccessibleName(f"Outlook, {row.label}, {mode}")
            for part in (self._labels[row.key], *self._figures[row.key]):
                part.setToolTip(row.tooltip)
                part.setAccessibleDescription(row.tooltip)
        self._note.setText(table.note)
        self._note.setVisible(bool(table.note))

    def _add(self, row: OutlookRow) -> None:
        line = self._grid.rowCount()
        self._labels[row.key] = SubtleLabel(row.label)
        self._labels[row.key].setWordWrap(False)
        self._grid.addWidget(self._labels[row.key], line, 0)
        figures = [TextLabel(), TextLabel()]
        for column, (mode, figure) in enumerate(zip(_MODES, figures, strict=True), 1):
            figure.setObjectName(f"panel_outlook_{row.key}_{mode}")
            figure.setFont(figure_font(figure.font()))
            self._grid.addWidget(figure, line, column, _RIGHT)
        self._figures[row.key] = (figures[0], figures[1])
