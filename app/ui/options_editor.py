"""Edits settings by the fields' own words and bounds: a value out of bounds cannot be entered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QSignalBlocker, QTimer, Signal
from PySide6.QtGui import QHideEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from app.chat.options import CacheMode, ChatOptions
from app.settings.schema import FIELDS, Field, Settings, value_of, with_value
from app.ui.prompt_edit import PromptEdit
from app.ui.theme import GAP, TIGHT, WIDE, Hairline, SubtleLabel, TextLabel, scaled_font
from app.ui.wheel import turn_with_focus_only

TYPING_PAUSE_MS = 400
"""How long a pause in typing is before the text counts as entered."""

NUMBER_WIDTH = 120

CHAT_FIELDS = tuple(field for field in FIELDS if field.key.startswith("chat."))
DISK_FIELDS = tuple(field for field in FIELDS if field.key == "saved_caches_gb")
UPDATE_FIELDS = tuple(field for field in FIELDS if field.key == "update_check")
MEMORY_FIELDS = tuple(field for field in FIELDS if field.key.startswith("memory_"))
WINDOW_FIELDS = tuple(
    field for field in FIELDS if field not in (*CHAT_FIELDS, *DISK_FIELDS, *UPDATE_FIELDS, *MEMORY_FIELDS)
)


@dataclass(frozen=True, slots=True)
class Section:
    """Fields that belong together, and what stands above them."""

    fields: Sequence[Field]
    title: str = ""
    about: str = ""


class FieldsEditor(QWidget):
    """One row a field: label, control, and a line that says what it does, its default and its bounds.

    A change is told at once by `changed`; text when typing pauses, and in any case before the editor is hidden.
    """

    changed = Signal(object)
    """Settings, all within their bounds."""

    def __init__(self, settings: Settings, sections: Sequence[Section], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._settings = settings
        self._fields = [field for section in sections for field in section.fields]
        self._controls: dict[str, QWidget] = {}
        self._show: dict[str, Callable[[Any], None]] = {}
        self._typing = QTimer(self)
        self._typing.setSingleShot(True)
        self._typing.setInterval(TYPING_PAUSE_MS)
        self._typing.timeout.connect(self._take_texts)

        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setHorizontalSpacing(GAP)
        form.setVerticalSpacing(WIDE)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for section in sections:
            self._add_heading(form, section)
            for field in section.fields:
                self._add_row(form, field)
        self.set_settings(settings)

    def settings(self) -> Settings:
        """Return what is entered."""
        return self._settings

    def set_settings(self, settings: Settings) -> None:
        """Show other settings; `changed` stays silent."""
        self._typing.stop()
        self._settings = settings
        for field in self._fields:
            with QSignalBlocker(self._controls[field.key]):
                self._show[field.key](value_of(settings, field.key))
        self._enable()

    def flush(self) -> None:
        """Take what is typed but not yet entered."""
        for control in self._controls.values():
            if isinstance(control, QSpinBox | QDoubleSpinBox):
                control.interpretText()
            elif isinstance(control, OptionalNumber):
                control.number.interpretText()
        if self._typing.isActive():
            self._typing.stop()
            self._take_texts()

    def hideEvent(self, event: QHideEvent) -> None:
        """Lose nothing that was typed."""
        self.flush()
        super().hideEvent(event)

    def _add_heading(self, form: QFormLayout, section: Section) -> None:
        if form.rowCount():
            form.addRow(Hairline())
        if section.title:
            title = TextLabel(section.title)
            title.setFont(scaled_font(title.font(), 1.15, bold=True))
            form.addRow(title)
        if section.about:
            form.addRow(SubtleLabel(section.about))

    def _add_row(self, form: QFormLayout, field: Field) -> None:
        control = self._control(field)
        name = field.key.rpartition(".")[2]
        control.setObjectName(f"option_{name}")
        control.setAccessibleName(field.label)
        control.setAccessibleDescription(f"{field.help} {bounds_text(field)}")
        self._controls[field.key] = control

        label = TextLabel(field.label)
        label.setObjectName(f"option_{name}_label")
        label.setBuddy(control)
        help_line = SubtleLabel(field.help, factor=0.9)
        help_line.setObjectName(f"option_{name}_help")
        line = QHBoxLayout()
        line.setSpacing(GAP)
        line.addWidget(control)
        if not isinstance(control, PromptEdit):
            bounds = SubtleLabel(bounds_text(field), factor=0.9)
            bounds.setObjectName(f"option_{name}_bounds")
            line.addWidget(bounds, 1)
        cell = QWidget()
        column = QVBoxLayout(cell)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(TIGHT)
        column.addLayout(line)
        column.addWidget(help_line)
        form.addRow(label, cell)

    def _control(self, field: Field) -> QWidget:
        if field.choices:
            return self._choice(field)
        if field.default is None:
            return self._optional(field)
        if isinstance(field.default, str):
            return self._text(field)
        if isinstance(field.default, float):
            return self._real(field)
        return self._whole(field)

    def _choice(self, field: Field) -> QWidget:
        box = QComboBox()
        turn_with_focus_only(box)
        box.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        for i, choice in enumerate(field.choices):
            box.addItem(field.words[i] if field.words else f"{choice} {field.unit}".rstrip(), choice)
        box.currentIndexChanged.connect(lambda index: self._enter(field.key, field.choices[index]))
        self._show[field.key] = lambda value: box.setCurrentIndex(field.choices.index(value))
        return box

    def _whole(self, field: Field) -> QWidget:
        box = _whole_box(field)
        box.valueChanged.connect(lambda value: self._enter(field.key, value))
        self._show[field.key] = box.setValue
        return box

    def _real(self, field: Field) -> QWidget:
        box = _real_box(field)
        box.valueChanged.connect(lambda value: self._enter(field.key, round(value, 2)))
        self._show[field.key] = box.setValue
        return box

    def _text(self, field: Field) -> QWidget:
        edit = PromptEdit(lines=4)
        edit.setPlaceholderText(bounds_text(field).capitalize())
        edit.textChanged.connect(self._typing.start)
        self._show[field.key] = edit.setPlainText
        return edit

    def _optional(self, field: Field) -> QWidget:
        control = OptionalNumber(field)
        control.entered.connect(lambda value: self._enter(field.key, value))
        self._show[field.key] = control.set_value
        return control

    def _take_texts(self) -> None:
        for key, control in self._controls.items():
            if isinstance(control, PromptEdit):
                self._enter(key, control.toPlainText())

    def _enter(self, key: str, value: object) -> None:
        settings = with_value(self._settings, key, value)
        if settings != self._settings:
            self._settings = settings
            self._enable()
            self.changed.emit(settings)

    def _enable(self) -> None:
        chat = self._settings.chat
        without_effect = set() if chat.cache_mode is CacheMode.INT4 else {"chat.group_size"}
        if chat.sampling.temperature == 0:
            without_effect |= {f"chat.sampling.{name}" for name in ("top_p", "top_k", "min_p", "seed")}
        for key, control in self._controls.items():
            control.setEnabled(key not in without_effect)


class OptionsEditor(QWidget):
    """Edits the options of one chat."""

    changed = Signal(object)
    """ChatOptions, all within their bounds."""

    def __init__(self, options: ChatOptions, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("options_editor")
        self.setAccessibleName("Chat settings")
        self._fields = FieldsEditor(Settings(chat=options), [Section(CHAT_FIELDS)])
        self._fields.changed.connect(lambda settings: self.changed.emit(settings.chat))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._fields)

    def options(self) -> ChatOptions:
        """Return what is entered."""
        return self._fields.settings().chat

    def set_options(self, options: ChatOptions) -> None:
        """Show other options; `changed` stays silent."""
        self._fields.set_settings(Settings(chat=options))

    def flush(self) -> None:
        """Take what is typed but not yet entered."""
        self._fields.flush()


class OptionalNumber(QWidget):
    """A number that may be left open: a seed to chance, a budget to the machine."""

    entered = Signal(object)
    """The number, or None where it is left open."""

    def __init__(self, field: Field, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        name = field.key.rpartition(".")[2]
        self._first = field.first
        self.fixed = QCheckBox("Fixed")
        self.fixed.setObjectName(f"option_{name}_fixed")
        self.fixed.setAccessibleName(f"{field.label} is fixed")
        self.fixed.setAccessibleDescription(field.help)
        self.number = _real_box(field) if isinstance(field.step, float) else _whole_box(field)
        self.number.setObjectName(f"option_{name}_number")
        self.number.setAccessibleName(f"{field.label} number")
        self.setFocusProxy(self.fixed)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.fixed)
        row.addWidget(self.number)
        self.fixed.toggled.connect(self._tell)
        self.number.valueChanged.connect(self._tell)

    def set_value(self, value: float | None) -> None:
        """Show a number; None is left open."""
        with QSignalBlocker(self.fixed), QSignalBlocker(self.number):
            self.fixed.setChecked(value is not None)
            shown = self._first if value is None else value
            if isinstance(self.number, QDoubleSpinBox):
                self.number.setValue(shown)
            else:
                self.number.setValue(int(shown))
        self.number.setEnabled(value is not None)

    def _tell(self) -> None:
        fixed = self.fixed.isChecked()
        self.number.setEnabled(fixed)
        value = self.number.value()
        self.entered.emit((round(value, 2) if isinstance(value, float) else value) if fixed else None)


def bounds_text(field: Field) -> str:
    """Return a field's bounds and its default, in words."""
    parts = []
    if field.minimum is not None and field.maximum is not None:
        parts.append(f"{_shown(field.minimum)} to {_shown(field.maximum)} {field.unit}".rstrip())
    words = dict(zip(field.choices, field.words, strict=False))
    default = field.unset if field.default is None else _shown(field.default)
    parts.append(f"default {words[field.default] if words else default}")
    return ", ".join(parts)


def _shown(value: object) -> str:
    if isinstance(value, float) and not value.is_integer():
        return f"{value:g}"
    if isinstance(value, int | float):
        return f"{value:,.0f}"
    return str(value) or "empty"


def _real_box(field: Field) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    turn_with_focus_only(box)
    box.setDecimals(2)
    box.setRange(field.minimum or 0.0, field.maximum or 0.0)
    box.setSingleStep(field.step or 0.01)
    box.setKeyboardTracking(False)
    box.setFixedWidth(NUMBER_WIDTH)
    return box


def _whole_box(field: Field) -> QSpinBox:
    box = QSpinBox()
    turn_with_focus_only(box)
    box.setRange(int(field.minimum or 0), int(field.maximum or 0))
    box.setSingleStep(int(field.step or 1))
    box.setKeyboardTracking(False)
    box.setFixedWidth(NUMBER_WIDTH)
    return box
