"""A download: what it fetches, how it goes on after a lost connection, and what it checks."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx2
import pytest

from app.catalogue import transfer
from app.catalogue.completeness import is_complete
from app.catalogue.download_protocol import Checking, FailureKind, Planned, Progress, Waiting
from app.catalogue.hub_cache import CachedRepository
from tests.catalogue import small_model
from tests.catalogue.download_desk import data, part_of
from tests.catalogue.local_hub import COMMIT, REPO, Fault, digest_of

SHARD, OTHER_SHARD = small_model.SHARDS


def test_a_model_is_fetched_checked_and_laid_out_as_the_hub_does(hub, desk):
    folder = desk.fetch()
    assert folder == CachedRepository(REPO).folder / "snapshots" / COMMIT
    assert {path.name for path in folder.iterdir()} == small_model.FETCHED
    assert all((folder / name).read_bytes() == data(hub, name) for name in small_model.FETCHED)
    assert (folder / SHARD).readlink() == Path("../../blobs") / digest_of(data(hub, SHARD))
    assert CachedRepository(REPO).main_snapshot() == folder
    assert is_complete(folder)
    total = sum(len(data(hub, name)) for name in small_model.FETCHED)
    assert desk.of(Planned) == [Planned(len(small_model.FETCHED), total, 0)]
    assert desk.of(Progress)[-1].bytes_done == total
    assert sum(hub.served.values()) == total
    assert desk.records.load(REPO) is None


def test_huggingface_hub_itself_finds_what_was_fetched(hub, desk):
    from huggingface_hub import constants, scan_cache_dir, snapshot_download

    folder = desk.fetch()
    cache = Path(os.environ["HF_HOME"]) / "hub"
    assert Path(snapshot_download(REPO, cache_dir=cache, local_files_only=True)) == folder
    assert not scan_cache_dir(cache).warnings
    assert constants.HF_HUB_CACHE  # what the library itself would use; the process's tests compare ours with it


def test_only_safe_files_are_asked_for(hub, desk):
    desk.fetch()
    asked = {path.rpartition("/")[2] for _, path, _, _ in hub.requests if "/resolve/" in path}
    assert asked == small_model.FETCHED - {"merges.txt"}  # an empty file needs no asking


def test_nothing_is_fetched_twice(hub, desk):
    desk.fetch()
    served = hub.served.copy()
    folder = desk.fetch()
    assert hub.served == served
    assert is_complete(folder)


def test_an_update_fetches_only_what_changed(hub, desk):
    old = desk.fetch()
    served = sum(hub.served.values())
    changed = small_model.safetensors("b.weight", 200_000, seed=9)
    repository = hub.repositories[REPO]
    hub.repositories[REPO] = replace(repository, commit="b" * 40, files=repository.files | {OTHER_SHARD: changed})
    new = desk.fetch()
    assert new.name == "b" * 40
    assert sum(hub.served.values()) - served == len(changed)
    assert is_complete(old)
    assert is_complete(new)


def test_a_commit_can_be_named_and_names_no_branch(hub, desk):
    assert desk.fetch(revision=COMMIT).name == COMMIT
    assert CachedRepository(REPO).main_snapshot() is None


@pytest.mark.parametrize("drops", [1, 4])
def test_a_dropped_connection_goes_on_where_it_was_cut(hub, desk, drops):
    hub.faults[SHARD] = [Fault(drop_after=50_000)] * drops
    assert is_complete(desk.fetch())
    assert hub.served[SHARD] == len(data(hub, SHARD))
    assert [asked for origin, path, asked, _ in hub.requests if origin == "cdn" and path.endswith(SHARD)] == [
        f"bytes={50_000 * n}-" if n else "" for n in range(drops + 1)
    ]
    assert desk.slept == [1.0] * drops  # every one brought something: patience is never worn
    assert "connection was lost" in desk.of(Waiting)[0].why


def test_a_connection_that_stays_lost_ends_the_download_and_keeps_the_part(hub, desk):
    hub.faults[SHARD] = [Fault(drop_after=50_000)] + [Fault(drop_after=0)] * 20
    failure = desk.failure()
    assert failure.kind is FailureKind.OFFLINE
    assert "kept" in failure.hint
    assert desk.slept == [1, 2, 4, 8, 16]
    assert part_of(hub, SHARD).stat().st_size == 50_000
    assert not (CachedRepository(REPO).folder / "snapshots").exists()
    hub.faults.clear()
    served = hub.served[SHARD]
    assert is_complete(desk.fetch())
    assert hub.served[SHARD] - served == len(data(hub, SHARD)) - 50_000


def test_a_silent_connection_counts_as_lost(hub, desk, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT", httpx2.Timeout(0.2))
    hub.faults[SHARD] = [Fault(stall_after=50_000)]
    assert is_complete(desk.fetch())
    assert hub.served[SHARD] == len(data(hub, SHARD))


def test_a_server_without_ranges_is_asked_for_all_of_it_again(hub, desk):
    hub.faults[SHARD] = [Fault(drop_after=50_000), Fault(no_ranges=True)]
    assert is_complete(desk.fetch())
    assert hub.served[SHARD] == 50_000 + len(data(hub, SHARD))
    assert desk.of(Progress)[-1].bytes_done == sum(len(data(hub, name)) for name in small_model.FETCHED)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("name", ["api", SHARD])
def test_a_busy_hub_is_waited_for_as_long_as_it_asks(hub, desk, status, name):
    hub.faults[name] = [Fault(status, {"Retry-After": "7"}), Fault(status), Fault(status, {"Retry-After": "0"})]
    assert is_complete(desk.fetch())
    assert desk.slept == [7.0, 2.0, 4.0]
    assert "busy" in desk.of(Waiting)[0].why


def test_other_ways_to_ask_for_patience(hub, desk):
    in_half_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    hub.faults[SHARD] = [
        Fault(429, {"RateLimit": '"resolvers";r=0;t=55'}),
        Fault(503, {"Retry-After": in_half_a_minute}),
        Fault(503, {"Retry-After": "some day"}),
    ]
    assert is_complete(desk.fetch())
    assert desk.slept[0] == 55.0
    assert 25 < desk.slept[1] <= 30
    assert desk.slept[2] == 4.0


@pytest.mark.parametrize(("faults", "tries"), [([Fault(503)] * 20, 6), ([Fault(429, {"Retry-After": "3600"})], 1)])
@pytest.mark.parametrize("name", ["api", SHARD])
def test_patience_has_an_end(hub, desk, name, faults, tries):
    hub.faults[name] = list(faults)
    assert desk.failure().kind is FailureKind.BUSY
    assert len(desk.slept) == tries - 1


def test_a_corrupt_file_is_never_opened_and_alone_is_fetched_again(hub, desk):
    hub.faults[SHARD] = [Fault(corrupt=True)]
    failure = desk.failure()
    assert failure.kind is FailureKind.CORRUPT
    assert SHARD in failure.message
    assert not (CachedRepository(REPO).folder / "snapshots").exists()
    assert not part_of(hub, SHARD).exists()
    served = sum(hub.served.values())
    assert is_complete(desk.fetch())
    assert sum(hub.served.values()) - served == len(data(hub, SHARD))


def test_a_small_file_is_checked_by_its_git_checksum(hub, desk):
    hub.faults["config.json"] = [Fault(corrupt=True)]
    assert "config.json" in desk.failure().message
    assert is_complete(desk.fetch())


def test_a_damaged_file_that_was_there_before_is_moved_aside(hub, desk):
    folder = desk.fetch()
    blob = (folder / SHARD).resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    assert desk.failure().kind is FailureKind.CORRUPT
    assert [path for path in blob.parent.iterdir() if "damaged" in path.name]
    assert is_complete(desk.fetch())
    assert (folder / SHARD).read_bytes() == data(hub, SHARD)


def test_a_file_cut_short_on_the_hub_is_refused(hub, desk):
    hub.faults[SHARD] = [Fault(announce_cut=True)]
    failure = desk.failure()
    assert failure.kind is FailureKind.CORRUPT
    assert f"{len(data(hub, SHARD)):,}" in failure.message
    assert is_complete(desk.fetch())


def test_a_part_beyond_the_end_of_the_hubs_file_is_refused(hub, desk):
    hub.faults[SHARD] = [Fault(drop_after=200_000), Fault(announce_cut=True)]
    assert desk.failure().kind is FailureKind.CORRUPT


def test_a_part_that_is_too_long_is_begun_anew(hub, desk):
    part = part_of(hub, SHARD)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * (len(data(hub, SHARD)) + 1))
    assert is_complete(desk.fetch())
    assert desk.of(Progress)[-1].bytes_done == desk.of(Planned)[0].bytes_total


def test_checking_is_told(hub, desk, monkeypatch):
    monkeypatch.setattr("app.catalogue.download.REPORT_INTERVAL_S", 0.0)
    desk.fetch()
    checked = desk.of(Checking)
    assert [c.bytes_done for c in checked] == sorted(c.bytes_done for c in checked)
    assert checked[-1].bytes_done == checked[-1].bytes_total


def test_a_damaged_record_is_moved_aside_and_the_part_is_used_all_the_same(hub, desk, tmp_path):
    hub.faults[SHARD] = [Fault(drop_after=50_000)] + [Fault(drop_after=0)] * 20
    desk.failure()
    hub.faults.clear()
    (record,) = (tmp_path / "downloads").iterdir()
    record.write_text(json.dumps({"repo": REPO}))
    served = hub.served[SHARD]
    assert is_complete(desk.fetch())
    assert hub.served[SHARD] - served == len(data(hub, SHARD)) - 50_000
    assert [path.name for path in (tmp_path / "downloads").iterdir() if "damaged" in path.name]
