"""Any catalogue, any answer of a hub, any record of a download, any folder of another program: read, or refused."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.hf_api import ModelInfo
from hypothesis import given
from hypothesis import strategies as st

from app.catalogue import hub
from app.catalogue.completeness import is_complete
from app.catalogue.download_records import DownloadRecords
from app.catalogue.entries import catalogue
from app.catalogue.hub import explained, plan_of
from app.catalogue.plan import Plan, PlannedFile
from app.errors import NibbleError
from app.resources import catalogue_path
from tests.catalogue import small_model
from tests.faults.fuzzing import JSON, TEXTS, damaged, fuzz, mutated, soon

REPO = "mlx-community/Small-4bit"
COMMIT = "1234567890" * 4
DIGEST = "ab" * 32
ANSWER = {
    "id": REPO,
    "modelId": REPO,
    "sha": COMMIT,
    "lastModified": "2026-01-01T00:00:00.000Z",
    "tags": ["mlx"],
    "siblings": [
        {"rfilename": "config.json", "size": 700, "blobId": "cd" * 20},
        {
            "rfilename": "model.safetensors",
            "size": 9000,
            "blobId": "ef" * 20,
            "lfs": {"size": 9000, "sha256": DIGEST, "pointerSize": 130},
        },
        {"rfilename": "modeling.py", "size": 10, "blobId": "ef" * 20},
    ],
}
PLAN = Plan(REPO, "main", COMMIT, (PlannedFile("config.json", 700, "cd" * 20),))


@fuzz(60)
@given(damaged(catalogue_path().read_bytes()))
def test_any_catalogue_is_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "models.toml"
    path.write_bytes(data)
    with soon():
        try:
            entries = catalogue(path)
        except NibbleError:
            return
    assert all(type(entry.context_limit_tokens) is int and json.loads(entry.config) for entry in entries)


@fuzz(150)
@given(mutated(ANSWER))
def test_any_answer_of_a_hub_is_a_plan_or_a_sentence(answer: Any) -> None:
    """What comes out names no path but plain files, and is explained where it is none."""

    def model_info(self: HfApi, repo: str, **_: Any) -> ModelInfo:
        return ModelInfo(**answer) if isinstance(answer, dict) else ModelInfo(**dict(answer))

    failure: Exception | None = None
    plan: Plan | None = None
    with pytest.MonkeyPatch.context() as patch, soon():
        patch.setattr(HfApi, "model_info", model_info)
        try:
            plan = plan_of(REPO, "main", None)
        except Exception as error:  # the download's process explains all that the library raises
            failure = error
    if plan is None:
        assert failure is not None
        said = explained(failure, REPO, has_token=False)
        assert said is not None, f"nobody explains {failure!r}"
        assert said.message
        return
    for file in plan.files:
        assert hub.is_safe(file.name)
        assert Path(file.name).name == file.name
        assert file.size >= 0


@fuzz(80)
@given(st.one_of(mutated(json.loads(json.dumps(ANSWER["siblings"]))), JSON, st.binary(max_size=200)))
def test_any_record_of_a_download_is_read_or_moved_aside(tmp_path_factory: Any, record: Any) -> None:
    folder = tmp_path_factory.mktemp("records")
    records = DownloadRecords(folder)
    records.save(PLAN)
    (path,) = folder.iterdir()
    path.write_bytes(record if isinstance(record, bytes) else _dumped(record))
    with soon():
        assert records.load(REPO) in (None, PLAN)
        assert records.repositories() in ((), (REPO,))
    assert len(list(folder.iterdir())) == 1, "moved aside, not deleted"


@fuzz(60)
@given(st.data())
def test_a_folder_of_another_program_is_whole_or_not(tmp_path_factory: Any, data: st.DataObject) -> None:
    folder: Path = tmp_path_factory.mktemp("models") / "model"
    folder.mkdir()
    for name, content in small_model.files(3000).items():
        if name in small_model.FETCHED:
            (folder / name).write_bytes(content)
    assert is_complete(folder)
    name = data.draw(st.sampled_from(sorted(small_model.FETCHED)))
    (folder / name).write_bytes(data.draw(damaged((folder / name).read_bytes())))
    with soon():
        assert is_complete(folder) in (True, False)


@pytest.mark.parametrize("name", ["a/../../b", "..", "/etc/passwd", "x\0y", "-rf", "~", "a//b", "."])
@pytest.mark.parametrize("revision", [False, True])
def test_names_that_lead_elsewhere_are_refused(name: str, revision: bool) -> None:
    with pytest.raises(NibbleError, match="cannot be the name"):
        plan_of(REPO if revision else name, name if revision else "main", None)


@fuzz(80)
@given(TEXTS, TEXTS, st.integers())
def test_no_planned_file_leads_out_of_its_folder(name: str, digest: str, size: int) -> None:
    make: Callable[..., PlannedFile] = PlannedFile
    try:
        file = make(name, size, digest)
    except ValueError:
        return
    assert os.path.basename(file.name) == file.name  # noqa: PTH119
    assert file.name not in ("", ".", "..")


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")
