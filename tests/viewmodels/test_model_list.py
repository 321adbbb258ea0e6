"""The list of models over a scripted engine and scripted downloads, with real folders."""

from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt

from app.catalogue.entries import CatalogueEntry
from app.chat.options import CacheMode
from app.engine.protocol import Estimate, Estimated, Failed, Loaded
from app.settings.schema import Settings
from app.viewmodels.column_table import SORT_ROLE
from app.viewmodels.downloads import DownloadStatus
from app.viewmodels.model_list import ModelList
from app.viewmodels.model_table import HEADINGS, KEY_ROLE, ModelTable
from app.viewmodels.open_model import OpenModel
from app.viewmodels.settings_model import SettingsModel
from tests.chat_parts import MODEL, ScriptedEngine
from tests.model_parts import needs
from tests.scripted_downloads import ScriptedDownloads

ONE, TWO = "mlx-community/One-4bit", "mlx-community/Two-4bit"
ENTRIES = tuple(CatalogueEntry(r, r[14:17], "mit", f'{{"of": "{r}"}}', 4096, "config: nobody's") for r in (ONE, TWO))


class Shelf:
    """A list of models with what it stands on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = ScriptedEngine()
        self.engine.is_running = True
        self.downloads = ScriptedDownloads()
        self.settings = SettingsModel(Settings(), folder / "settings.json")
        self.model = OpenModel(self.engine, self.settings, Path("/starter"))
        self.models = ModelList(
            self.engine, self.model, self.settings, ENTRIES, Path("/starter"), self.downloads, folder
        )
        self.told: list[str] = []
        self.models.row_changed.connect(self.told.append)
        self.models.changed.connect(lambda: self.told.append("all"))

    @property
    def asked(self) -> Estimate:
        return self.engine.sent_of(Estimate)[-1]

    def answer(self, event: object = None) -> None:
        self.engine.event_received.emit(event or Estimated(self.asked.request_id, needs()))

    def put(self, repo: str, *, whole: bool = True) -> Path:
        """Put a folder where LM Studio would."""
        made = self.folder / ".lmstudio" / "models" / repo
        made.mkdir(parents=True)
        (made / "config.json").write_text('{"model_type": "qwen3"}')
        (made / "tokenizer.json").write_text("{}")
        (made / "model.safetensors").write_bytes((2).to_bytes(8, "little") + (b"{}" if whole else b"{"))
        return made


@pytest.fixture
def shelf(tmp_path, qapp, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return Shelf(tmp_path)


def test_nothing_is_asked_before_somebody_looks(shelf):
    assert shelf.models.rows == []
    assert shelf.engine.sent == []


def test_the_catalogue_and_the_models_on_this_machine_are_one_list(shelf):
    mine, one = shelf.put("someone/Mine"), shelf.put(ONE)
    shelf.models.refresh()
    rows = shelf.models.rows
    assert [(r.key, r.folder) for r in rows] == [("", ""), (ONE, str(one)), (str(mine), str(mine)), (TWO, None)]
    assert [r.name for r in rows] == ["Starter", "One", "Mine", "Two"]
    assert shelf.told == ["all"]


def test_one_model_after_the_other_is_asked_about_and_none_twice(shelf):
    mine = shelf.put("someone/Mine")
    shelf.models.refresh()
    asked = []
    for _ in range(4):
        asked.append((shelf.asked.path, shelf.asked.config))
        shelf.answer()
    assert asked == [("/starter", ""), (str(mine), ""), ("", ENTRIES[0].config), ("", ENTRIES[1].config)]
    assert len(shelf.engine.sent_of(Estimate)) == 4
    assert all(row.needs == needs() for row in shelf.models.rows)
    shelf.models.refresh()
    assert len(shelf.engine.sent_of(Estimate)) == 4
    assert shelf.told[0] == "all"
    assert set(shelf.told[1:]) == {"", str(mine), ONE, TWO}


def test_what_cannot_be_computed_is_said_and_the_next_is_asked(shelf):
    shelf.models.refresh()
    shelf.answer(Failed(shelf.asked.request_id, "mlx-lm does not know the architecture 'x'.", "Choose another."))
    assert shelf.models.row("").problem == "mlx-lm does not know the architecture 'x'."
    assert shelf.asked.config == ENTRIES[0].config


def test_an_engine_that_died_is_asked_again_once_it_runs(shelf):
    shelf.models.refresh()
    first = shelf.asked
    shelf.engine.is_running = False
    shelf.engine.died.emit("The engine stopped.", "")
    shelf.answer(Estimated(first.request_id, needs()))
    shelf.models.refresh()
    assert shelf.models.row("").needs is None
    assert shelf.asked is first, "nothing is asked of an engine that does not run"
    shelf.engine.is_running = True
    shelf.engine.started_up.emit(None)
    assert shelf.asked.path == first.path
    assert shelf.asked.request_id != first.request_id
    shelf.answer()
    assert shelf.models.row("").needs == needs()


def test_a_folder_that_is_not_whole_cannot_be_opened_and_is_sized_by_its_config(shelf):
    mine = shelf.put("someone/Mine", whole=False)
    shelf.models.refresh()
    row = shelf.models.row(str(mine))
    assert not row.is_here
    assert "cut short" in row.missing
    shelf.answer()
    assert (shelf.asked.path, shelf.asked.config) == ("", '{"model_type": "qwen3"}')


def test_of_two_copies_the_whole_one_stands_for_the_model(shelf, tmp_path):
    broken, whole = shelf.put(ONE, whole=False), tmp_path / ".cache" / "lm-studio" / "models" / ONE
    whole.parent.mkdir(parents=True)
    shelf.put("other/name").rename(whole)
    shelf.models.refresh()
    assert shelf.models.row(ONE).folder == str(whole)
    assert shelf.models.row(str(broken)).missing


def test_the_open_model_is_marked(shelf):
    mine = shelf.put("someone/Mine")
    shelf.models.refresh()
    shelf.model.load(str(mine))
    assert shelf.models.row(str(mine)).is_opening
    shelf.engine.event_received.emit(Loaded(shelf.engine.sent[-1].request_id, MODEL))
    assert shelf.models.row(str(mine)).is_open
    assert not shelf.models.row("").is_open


def test_downloads_are_driven_and_followed(shelf):
    shelf.models.refresh()
    shelf.models.fetch(ONE)
    shelf.models.pause(ONE)
    assert shelf.models.row(ONE).download.status is DownloadStatus.PAUSED
    shelf.told.clear()
    shelf.downloads.set(ONE, status=DownloadStatus.RUNNING, bytes_done=5, bytes_total=10)
    assert shelf.told == [ONE]
    assert shelf.models.row(ONE).download.bytes_done == 5
    shelf.models.cancel(ONE)
    assert shelf.models.row(ONE).download.status is DownloadStatus.ABSENT
    shelf.models.fetch("")
    assert shelf.downloads.asked == [("start", ONE), ("pause", ONE), ("cancel", ONE)]


def test_a_fetched_model_is_found_where_it_was_put(shelf):
    shelf.models.refresh()
    shelf.models.fetch(TWO)
    folder = shelf.put(TWO)
    shelf.downloads.set(TWO, status=DownloadStatus.DONE)
    shelf.downloads.finished.emit(TWO, folder)
    assert shelf.models.row(TWO).folder == str(folder)
    assert shelf.models.row(TWO).is_here


def test_without_downloads_nothing_can_be_fetched(shelf):
    models = ModelList(shelf.engine, shelf.model, shelf.settings, ENTRIES, Path("/starter"), None, shelf.folder)
    models.refresh()
    assert not models.can_fetch
    for call in (models.fetch, models.pause, models.cancel):
        call(ONE)
    assert models.row(ONE).download.status is DownloadStatus.ABSENT


def test_the_table_shows_sorts_and_says_every_column(shelf, qtmodeltester):
    shelf.models.refresh()
    for _ in range(3):
        shelf.answer()
    table = ModelTable(shelf.models)
    qtmodeltester.check(table)
    assert (table.rowCount(), table.columnCount()) == (3, len(HEADINGS))
    shown = [table.index(1, c).data() for c in range(len(HEADINGS))]
    assert shown == ["One", "2.00 GB", "mit", "40,960", "yes", "40,960", "40,960", "can be fetched"]
    column = HEADINGS.index("Longest, fp16")
    assert table.index(1, column).data(SORT_ROLE) == needs().longest(CacheMode.FP16, 32)
    assert table.index(1, 0).data(KEY_ROLE) == ONE
    for c in range(len(HEADINGS)):
        assert table.index(1, c).data(Qt.ItemDataRole.ToolTipRole)
        assert table.headerData(c, Qt.Orientation.Horizontal, Qt.ItemDataRole.ToolTipRole)
    seen = []
    table.dataChanged.connect(lambda first, last: seen.append((first.row(), last.row())))
    shelf.downloads.set(TWO, status=DownloadStatus.WAITING)
    assert seen == [(2, 2)]
    assert table.index(2, HEADINGS.index("State")).data() == "waiting"


def test_the_group_size_of_new_chats_decides(shelf):
    shelf.models.refresh()
    shelf.told.clear()
    shelf.settings.replace(replace(Settings(), chat=replace(Settings().chat, group_size=64)))
    assert shelf.models.group_size == 64
    assert shelf.told == ["", ONE, TWO]


def test_the_budget_that_is_set_decides_what_fits(shelf):
    shelf.models.refresh()
    shelf.answer()
    own = shelf.models.row("").needs
    shelf.settings.replace(replace(Settings(), memory_budget_gb=0.5))
    within = shelf.models.row("").needs
    assert within == own.within(500_000_000)
    assert (within.budget_bytes, within.outlook.memory_source) == (500_000_000, "set in Settings")
    shelf.answer()
    assert shelf.models.row(ONE).needs == within, "what is found out later is held against it too"
    shelf.settings.replace(Settings())
    assert shelf.models.row("").needs == own
    assert len(shelf.engine.sent_of(Estimate)) == 3, "nothing is asked again for it"
