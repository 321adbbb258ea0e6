"""A download that cannot be: no such model, no token, no network, no hub, no room, no model in it."""

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from app.catalogue.completeness import is_complete
from app.catalogue.download import RESERVE_BYTES
from app.catalogue.download_protocol import FailureKind
from app.catalogue.hub_cache import CachedRepository
from tests.catalogue import small_model
from tests.catalogue.download_desk import data, part_of
from tests.catalogue.local_hub import REPO, Fault, Repository, digest_of

SHARD = small_model.SHARDS[0]


def blobs() -> set[str]:
    folder = CachedRepository(REPO).folder / "blobs"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_a_model_that_is_not_there(hub, desk):
    for token in (None, "hf_any"):
        failure = desk.failure("mlx-community/Nowhere", token=token)
        assert failure.kind is FailureKind.NOT_FOUND
        assert "mlx-community/Nowhere" in failure.message


def test_a_revision_that_is_not_there(hub, desk):
    failure = desk.failure(revision="older")
    assert failure.kind is FailureKind.NOT_FOUND
    assert "revision" in failure.message


@pytest.mark.parametrize("repo", ["../../etc", "a/b/c", "", "mlx-community/..", "a b"])
def test_a_name_that_is_none_is_asked_for_nowhere(hub, desk, repo):
    assert desk.failure(repo).kind is FailureKind.NOT_FOUND
    assert hub.requests == []


class TestGated:
    @pytest.fixture(autouse=True)
    def gate(self, hub):
        hub.repositories[REPO] = replace(hub.repositories[REPO], gated=True, token="hf_owner", members=("hf_member",))

    def test_without_a_token_one_is_wanted(self, desk):
        failure = desk.failure()
        assert failure.kind is FailureKind.TOKEN_WANTED
        assert f"huggingface.co/{REPO}" in failure.hint

    def test_with_a_token_that_the_hub_does_not_know(self, desk):
        assert desk.failure(token="hf_wrong").kind is FailureKind.TOKEN_WANTED

    def test_with_a_token_of_somebody_who_did_not_accept_the_terms(self, desk):
        failure = desk.failure(token="hf_known_but_no_member")
        assert failure.kind is FailureKind.NO_ACCESS
        assert f"huggingface.co/{REPO}" in failure.hint

    def test_with_a_members_token_which_the_other_origin_never_sees(self, hub, desk):
        assert is_complete(desk.fetch(token="hf_member"))
        assert {authorization for origin, *_, authorization in hub.requests if origin == "cdn"} == {None}
        assert {authorization for origin, *_, authorization in hub.requests if origin == "hub"} == {"Bearer hf_member"}

    def test_no_other_programs_token_is_used(self, hub, desk, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_member")
        assert desk.failure().kind is FailureKind.TOKEN_WANTED
        assert {authorization for *_, authorization in hub.requests} == {None}


def test_a_token_that_the_hub_does_not_accept(hub, desk):
    hub.faults["api"] = [Fault(401, {"X-Error-Message": "Invalid credentials in Authorization header"})]
    assert desk.failure(token="hf_revoked").kind is FailureKind.TOKEN_WANTED


def test_a_token_without_the_right(hub, desk):
    hub.faults["api"] = [Fault(403)]
    assert desk.failure(token="hf_narrow").kind is FailureKind.NO_ACCESS


def test_a_model_that_the_hub_has_closed(hub, desk):
    hub.faults["api"] = [Fault(403, {"X-Error-Message": "Access to this resource is disabled."})]
    assert "closed" in desk.failure().message


def test_a_file_that_is_gone(hub, desk):
    hub.faults[SHARD] = [Fault(404, {"X-Error-Code": "EntryNotFound"})]
    assert desk.failure().kind is FailureKind.NOT_FOUND


def test_no_network_is_said_at_once(hub, desk, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    failure = desk.failure()
    assert failure.kind is FailureKind.OFFLINE
    assert "cannot be reached" in failure.message
    assert desk.slept == []


def test_offline_by_the_hubs_own_variable(hub, desk, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    failure = desk.failure()
    assert failure.kind is FailureKind.OFFLINE
    assert "HF_HUB_OFFLINE" in failure.message


@pytest.mark.parametrize("body", [b"<html>Sign in to the hotel's network</html>", b"{}", b'{"id": 1, "siblings": 3}'])
def test_what_is_no_hub(hub, desk, body):
    hub.faults["api"] = [Fault(200, {"Content-Type": "text/html"}, body)]
    failure = desk.failure()
    assert failure.kind is FailureKind.OFFLINE
    assert "not the Hugging Face hub" in failure.message


@pytest.mark.parametrize("left_out", ["config.json", "weights"])
def test_a_repository_without_a_model(hub, desk, left_out):
    files = {
        name: content
        for name, content in small_model.files().items()
        if name != left_out and not (left_out == "weights" and name in small_model.SHARDS)
    }
    hub.repositories[REPO] = Repository(files)
    assert desk.failure().kind is FailureKind.UNSUITABLE
    assert blobs() == set()


def test_a_repository_that_lacks_a_shard_of_its_own_index(hub, desk):
    files = small_model.files()
    del files[SHARD]
    hub.repositories[REPO] = Repository(files)
    failure = desk.failure()
    assert failure.kind is FailureKind.UNSUITABLE
    assert SHARD in failure.message
    assert not (CachedRepository(REPO).folder / "snapshots").exists()


def test_a_disk_too_small_is_found_before_anything_is_fetched(hub, desk):
    hub.repositories[REPO].claimed_sizes[SHARD] = 10**18
    failure = desk.failure()
    assert failure.kind is FailureKind.DISK
    assert "1000000000.0 GB are wanted" in failure.message
    assert sum(hub.served.values()) == 0
    assert not CachedRepository(REPO).folder.exists()


def test_room_is_needed_for_what_is_missing_alone(hub, desk, monkeypatch):
    hub.faults[SHARD] = [Fault(drop_after=50_000)] + [Fault(drop_after=0)] * 20
    desk.failure()
    hub.faults.clear()
    total = sum(len(data(hub, name)) for name in small_model.FETCHED)
    usage = namedtuple("usage", "free")
    missing = total - CachedRepository(REPO).bytes_present(desk.records.load(REPO))
    assert 0 < missing < total
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(RESERVE_BYTES + missing - 1))
    assert desk.failure().kind is FailureKind.DISK
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(RESERVE_BYTES + missing))
    assert is_complete(desk.fetch())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's file that is always full")
def test_a_disk_that_fills_up_on_the_way(hub, desk):
    part = part_of(hub, SHARD)
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    failure = desk.failure()
    assert failure.kind is FailureKind.DISK
    assert failure.message == "The disk is full."


def test_a_cache_that_cannot_be_written(hub, desk, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file"))
    failure = desk.failure()
    assert failure.kind is FailureKind.DISK
    assert str(tmp_path / "file") in failure.hint


def test_two_programs_never_fetch_the_same_file(hub, desk):
    locks = CachedRepository(REPO).locks
    locks.mkdir(parents=True)
    with FileLock(locks / f"{digest_of(data(hub, SHARD))}.lock"):
        assert desk.failure().kind is FailureKind.IN_USE
    assert is_complete(desk.fetch())
