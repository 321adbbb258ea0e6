import subprocess
import sys
from pathlib import Path

import pytest

from app.catalogue.hub_cache import CachedRepository, cache_folder
from app.catalogue.plan import Plan, PlannedFile
from tests.catalogue.local_hub import digest_of

COMMIT = "a" * 40


def planned(name: str, data: bytes) -> PlannedFile:
    return PlannedFile(name, len(data), digest_of(data))


def store(cached: CachedRepository, file: PlannedFile, data: bytes) -> None:
    cached.blob(file).parent.mkdir(parents=True, exist_ok=True)
    cached.blob(file).write_bytes(data)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"HF_HOME": "~/elsewhere"},
        {"HF_HOME": "/data/$USER/hf", "USER": "me"},
        {"XDG_CACHE_HOME": "/data/cache"},
        {"HUGGINGFACE_HUB_CACHE": "/data/old", "HF_HOME": "/data/hf"},
        {"HF_HUB_CACHE": "~/hub", "HUGGINGFACE_HUB_CACHE": "/data/old"},
    ],
)
def test_the_cache_is_where_the_hubs_own_library_has_it(variables, monkeypatch):
    for name in ("HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    theirs = subprocess.run(
        [sys.executable, "-c", "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE, end='')"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(cache_folder()) == theirs.stdout


@pytest.mark.parametrize("name", ["../x.json", "a/b.json", ".hidden", "", "a b", "x\\y"])
def test_a_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(ValueError, match="plain file name"):
        PlannedFile(name, 1, "0" * 40)


@pytest.mark.parametrize(
    ("repo", "revision", "commit", "digest"),
    [("../x", "main", COMMIT, "0" * 64), ("a/b", "../main", COMMIT, "0" * 64), ("a/b", "/etc", COMMIT, "0" * 64),
     ("a/b", "main", "../x", "0" * 64), ("a/b", "main", COMMIT, "../x")],
)  # fmt: skip
def test_so_is_everything_else_that_becomes_a_path(repo, revision, commit, digest):
    with pytest.raises(ValueError, match="is no"):
        Plan(repo, revision, commit, (PlannedFile("x.json", 1, digest),))


def test_a_disk_without_links_keeps_the_bytes_under_the_name(monkeypatch):
    def refuse(*_args, **_options):
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    file = planned("config.json", b"{}")
    plan = Plan("a/b", "main", COMMIT, (file,))
    cached = CachedRepository("a/b")
    store(cached, file, b"{}")
    snapshot = cached.link(plan)
    assert (snapshot / "config.json").read_bytes() == b"{}"
    assert not (snapshot / "config.json").is_symlink()
    assert cached.whole(plan, file) == snapshot / "config.json"
    assert cached.bytes_present(plan) == 2


def test_a_link_to_a_blob_that_is_gone_is_made_anew():
    file = planned("config.json", b"{}")
    plan = Plan("a/b", "refs/pr/1", COMMIT, (file,))
    cached = CachedRepository("a/b")
    cached.snapshot(COMMIT).mkdir(parents=True)
    (cached.snapshot(COMMIT) / "config.json").symlink_to("../../blobs/gone")
    store(cached, file, b"{}")
    assert (cached.link(plan) / "config.json").read_bytes() == b"{}"
    assert (cached.folder / "refs" / "refs" / "pr" / "1").read_text() == COMMIT


def test_discarding_leaves_what_a_snapshot_has():
    kept, dropped, part = planned("a.json", b"a"), planned("b.json", b"bb"), planned("c.json", b"ccc")
    cached = CachedRepository("a/b")
    store(cached, kept, b"a")
    cached.link(Plan("a/b", "main", COMMIT, (kept,)))
    store(cached, dropped, b"bb")
    cached.part(part).write_bytes(b"c")
    cached.discard((kept, dropped, part))
    assert [path.name for path in (cached.folder / "blobs").iterdir()] == [kept.digest]


def test_discarding_everything_leaves_no_folder():
    part = planned("c.json", b"ccc")
    cached = CachedRepository("a/b")
    cached.part(part).parent.mkdir(parents=True)
    cached.part(part).write_bytes(b"c")
    cached.discard((part,))
    assert not cached.folder.exists()
