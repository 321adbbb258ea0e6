"""Code that comes with a model is never run: files that would leave a trace lie in its folder, and none is left."""

import json
import pickle
import runpy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.engine.child import EngineChild
from app.engine.command import engine_command
from app.engine.protocol import Failed, Load, Loaded
from tests.engine.child_chat import Chat, finished
from tests.tiny_model import write_tiny_model


class Trap:
    """A folder, and the file that anything of it leaves when it is run."""

    def __init__(self, root: Path) -> None:
        self.trace = root / "trace"
        self.code = f"__import__('pathlib').Path({str(self.trace)!r}).touch()\n"
        # transformers knows no tokenizer for models of this type, and would take the folder's own.
        self.folder = write_tiny_model(root / "model", "nanbeige")
        classes = "".join(f"class {name}:\n    pass\n" for name in ("Config", "Model", "Tok"))
        for name in ("configuration_own", "modeling_own", "tokenization_own", "__init__", "conftest", "sitecustomize"):
            (self.folder / f"{name}.py").write_text(self.code + classes)
        (self.folder / "pytorch_model.bin").write_bytes(pickle.dumps(self))
        self.change(
            "config.json", auto_map={"AutoConfig": "configuration_own.Config", "AutoModel": "modeling_own.Model"}
        )
        self.change(
            "tokenizer_config.json",
            tokenizer_class="Tok",
            auto_map={"AutoTokenizer": ["tokenization_own.Tok", "tokenization_own.Tok"]},
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self.code,)

    def change(self, name: str, **fields: object) -> None:
        file = self.folder / name
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path)


@pytest.fixture(scope="module")
def child() -> Iterator[EngineChild]:
    with EngineChild(engine_command()) as child:
        yield child
        assert child.quit() == 0


@pytest.mark.parametrize("name", ["modeling_own.py", "tokenization_own.py", "pytorch_model.bin"])
def test_the_trap_works(name: str, trap: Trap) -> None:
    file = trap.folder / name
    if name.endswith(".py"):
        runpy.run_path(str(file))
    else:
        pickle.loads(file.read_bytes())
    assert trap.trace.exists()


def test_a_model_with_code_beside_it_is_opened_without_it(trap: Trap, child: EngineChild) -> None:
    trap.change("tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", auto_map={})
    assert isinstance(child.ask(Load("a", str(trap.folder)))[-1], Loaded)
    assert finished(Chat(child, "a").events("Hello")).token_ids
    assert not trap.trace.exists()


def test_a_tokenizer_that_is_code_is_refused_at_once_and_nobody_is_asked(trap: Trap, child: EngineChild) -> None:
    """Transformers would ask on stdin, which is where the window's requests come from, and wait for 15 seconds."""
    begun = time.monotonic()
    answer = child.ask(Load("b", str(trap.folder)))[-1]
    assert isinstance(answer, Failed)
    assert "wants to run Python code of its own, which Nibble never does" in answer.message
    assert answer.hint
    assert time.monotonic() - begun < 14
    assert not trap.trace.exists()


def test_a_model_that_is_code_is_refused(trap: Trap, child: EngineChild) -> None:
    trap.change("config.json", model_file="modeling_own.py")
    answer = child.ask(Load("c", str(trap.folder)))[-1]
    assert isinstance(answer, Failed)
    assert "wants to run Python code of its own (modeling_own.py)" in answer.message
    assert not trap.trace.exists()


def test_a_chat_template_cannot_leave_its_sandbox(trap: Trap, child: EngineChild) -> None:
    way_out = "{{ cycler.__init__.__globals__.os.system('touch " + str(trap.trace) + "') }}"
    trap.change("tokenizer_config.json", chat_template=way_out, tokenizer_class="PreTrainedTokenizerFast", auto_map={})
    answer = child.ask(Load("d", str(trap.folder)))[-1]
    assert isinstance(answer, Loaded)
    assert any("chat template fails" in remark for remark in answer.model.remarks)
    assert finished(Chat(child, "d").events("Hello")).token_ids
    assert not trap.trace.exists()
