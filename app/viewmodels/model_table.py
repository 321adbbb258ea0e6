"""The list of models as a table that can be sorted by any column."""

from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QModelIndex, QObject, QPersistentModelIndex, Qt

from app.chat.options import CacheMode
from app.viewmodels import model_rows
from app.viewmodels.column_table import SORT_ROLE, Column, ColumnTable
from app.viewmodels.model_list import ModelList
from app.viewmodels.model_rows import ModelRow
from app.viewmodels.panel_state import UNMEASURED

KEY_ROLE = SORT_ROLE + 1
"""The row's key."""


@dataclass(frozen=True, slots=True)
class _Row:
    model: ModelRow
    group_size: int
    """That of new chats."""


def _longest(mode: CacheMode) -> Column[_Row]:
    return Column(
        f"Longest, {mode.value}",
        f"Most tokens of one chat that fit in memory with a cache in {mode.value}, never more than the model reads.",
        lambda r: model_rows.longest_text(r.model, mode, r.group_size),
        lambda r: -1 if (longest := r.model.longest(mode, r.group_size)) is None else longest,
        lambda r: model_rows.longest_tooltip(r.model, mode, r.group_size),
    )


_COLUMNS: tuple[Column[_Row], ...] = (
    Column(
        "Model",
        "Name of the model.",
        lambda r: r.model.name,
        lambda r: r.model.name.casefold(),
        lambda r: "\n".join(filter(None, (r.model.repo or r.model.folder or "The embedded starter", r.model.sources))),
        is_figure=False,
    ),
    Column(
        "Size",
        "Bytes to fetch, or of the weights on this machine.",
        lambda r: model_rows.size_text(r.model),
        lambda r: r.model.download_bytes or -1,
        lambda r: model_rows.size_tooltip(r.model),
    ),
    Column(
        "Licence",
        "As the model's page names it.",
        lambda r: r.model.licence or UNMEASURED,
        lambda r: r.model.licence,
        lambda r: (
            f"{r.model.licence}, as the model's page or README says" if r.model.licence else "Its folder does not say."
        ),
        is_figure=False,
    ),
    Column(
        "Context",
        "Most tokens that the model reads, by its config.json.",
        lambda r: model_rows.context_text(r.model),
        lambda r: r.model.limit_tokens or -1,
    ),
    Column(
        "Fits",
        "Whether a chat of some length fits in this machine's memory.",
        lambda r: model_rows.fit_text(r.model, r.group_size),
        lambda r: model_rows.fit_text(r.model, r.group_size),
        lambda r: model_rows.fit_tooltip(r.model),
        is_figure=False,
    ),
    _longest(CacheMode.INT4),
    _longest(CacheMode.FP16),
    Column(
        "State",
        "Whether it is on this machine, and how far it is fetched.",
        lambda r: model_rows.state_text(r.model),
        lambda r: model_rows.state_text(r.model),
        lambda r: model_rows.state_tooltip(r.model),
        is_figure=False,
    ),
)
HEADINGS = tuple(column.heading for column in _COLUMNS)


class ModelTable(ColumnTable[_Row]):
    """One line a model."""

    def __init__(self, models: ModelList, parent: QObject | None = None) -> None:
        super().__init__(_COLUMNS, parent)
        self._models = models
        models.changed.connect(self._reset)
        models.row_changed.connect(self._change)
        self._reset()

    def data(self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the row's key too."""
        if role == KEY_ROLE and index.isValid():
            return self._rows[index.row()].model.key
        return super().data(index, role)

    def _reset(self) -> None:
        self.set_rows([_Row(model, self._models.group_size) for model in self._models.rows])

    def _change(self, key: str) -> None:
        model = self._models.row(key)
        line = next((i for i, row in enumerate(self._rows) if row.model.key == key), None)
        if model is not None and line is not None:
            self._rows[line] = _Row(model, self._models.group_size)
            self.dataChanged.emit(self.index(line, 0), self.index(line, len(_COLUMNS) - 1))
