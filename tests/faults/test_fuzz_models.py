"""Model folders from anywhere: opened or refused with a sentence; nothing of them runs, nothing else is touched."""

import json
import os
import pickle
import resource
import shutil
import signal
import struct
import sys
import time
from pathlib import Path

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_lm.utils import load_tokenizer

from app.chat.message import Message, Role
from app.engine import template_sandbox
from app.engine.folder_check import MOST_CONFIG_BYTES, check_headers
from app.engine.model_folder import open_model
from app.engine.prompt import prompt_tokens
from app.errors import NibbleError
from tests.faults.fuzzing import JSON, damaged, fuzz, mutated, soon
from tests.tiny_model import write_tiny_model

TOUCHING = (
    "socket.connect",
    "socket.getaddrinfo",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "pickle.find_class",
    "builtins.input",
    "ftplib.connect",
    "urllib.Request",
)
CHANGING = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.truncate",
    "shutil.rmtree",
)


class Watch:
    """Notes what Python does that a folder must not make it do. Hooks stay for ever, so that there is one."""

    def __init__(self):
        self.is_on = False
        self.seen = []
        sys.addaudithook(self._note)

    def _note(self, event, arguments):
        if not self.is_on:
            return
        if event in TOUCHING or event in CHANGING or (event == "open" and writes(arguments)):
            self.seen.append((event, str(arguments)[:200]))
        elif event == "import" and "evil" in str(arguments[0]):
            self.seen.append((event, str(arguments[0])))


def writes(arguments) -> bool:
    path, mode, flags = arguments
    if str(path).endswith((".pyc", ".pyo")) or "__pycache__" in str(path):
        return False
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) if isinstance(flags, int) else "w" in (mode or "")


WATCH = Watch()


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    folder = write_tiny_model(tmp_path_factory.mktemp("models") / "tiny", num_hidden_layers=1)
    open_model(folder, lambda _: None)  # what is imported for the first time is imported now
    return folder


@pytest.fixture
def folder(good, tmp_path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "model"))


def opens(folder: Path) -> str:
    """Return why a folder is refused; "" where it opens."""
    WATCH.seen.clear()
    WATCH.is_on = True
    try:
        with soon():
            open_model(folder, lambda _: None)
        reason = ""
    except NibbleError as error:
        reason = error.message
    finally:
        WATCH.is_on = False
        mx.clear_cache()
    assert WATCH.seen == []
    return reason


def test_the_watch_sees(tmp_path):
    WATCH.seen.clear()
    WATCH.is_on = True
    (tmp_path / "a").write_text("x")
    pickle.loads(pickle.dumps(Path))
    WATCH.is_on = False
    assert {event for event, _ in WATCH.seen} == {"open", "pickle.find_class"}


def with_header(header: bytes, length: int | None = None, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def tensor(shape: list[int], begin: int = 0, end: int = 4, dtype: str = "F32") -> bytes:
    return json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}}).encode()


HEADERS = {
    "empty": b"",
    "a header longer than the file": with_header(b"{}", 2**40),
    "a header of 2**64-1 bytes": with_header(b"{}", 2**64 - 1),
    "a header that is no JSON": with_header(b"{" * 1000),
    "a header of many brackets": with_header(b"[" * 1_000_000),
    "a tensor larger than the file": with_header(tensor([2**40], end=2**42), data=b"1234"),
    "a shape that overflows": with_header(tensor([2**33, 2**33]), data=b"1234"),
    "a shape that does not fit its place": with_header(tensor([1000]), data=b"1234"),
    "a negative shape": with_header(tensor([-1]), data=b"1234"),
    "places that go backwards": with_header(tensor([1], 8, 4), data=b"12345678"),
    "places outside": with_header(tensor([1], 2**50, 2**50 + 4), data=b"1234"),
    "an unknown type": with_header(tensor([1], dtype="PICKLE"), data=b"1234"),
    "thirty thousand tensors": with_header(
        json.dumps({f"{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(30_000)}).encode()
    ),
    "a pickle": pickle.dumps({"a": 1}),
    "more than its tensors": with_header(tensor([1]), data=b"1234" + b"x" * 100),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_says_more_than_is_there_is_refused_before_anything_is_allocated(folder, name):
    (folder / "model.safetensors").write_bytes(HEADERS[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert opens(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kilobytes"


@fuzz(25)
@given(st.data())
def test_damaged_weights_are_refused_or_read(good, tmp_path_factory, data):
    folder = Path(shutil.copytree(good, tmp_path_factory.mktemp("damaged") / "model"))
    content = (good / "model.safetensors").read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    (folder / "model.safetensors").write_bytes(data.draw(damaged(content[:header])) + content[header:])
    with soon():
        try:
            check_headers(folder, {})
        except NibbleError:
            return
    opens(folder)


@fuzz(20)
@given(st.data())
def test_any_config_is_refused_or_opens(good, tmp_path_factory, data):
    folder = Path(shutil.copytree(good, tmp_path_factory.mktemp("config") / "model"))
    config = json.loads((good / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(data.draw(mutated(config))))
    opens(folder)


@fuzz(15)
@given(st.data())
def test_any_tokenizer_is_refused_or_opens(good, tmp_path_factory, data):
    folder = Path(shutil.copytree(good, tmp_path_factory.mktemp("tokenizer") / "model"))
    file = folder / data.draw(st.sampled_from(["tokenizer.json", "tokenizer_config.json"]))
    content = json.loads(file.read_text())
    file.write_text(json.dumps(data.draw(st.one_of(mutated(content), JSON))))
    opens(folder)


CONFIGS = {
    "layers without end": {"num_hidden_layers": 10**9},
    "layers without end, deeper": {"text_config": {"num_hidden_layers": 10**9}},
    "infinitely many layers": {"num_hidden_layers": float("inf")},
    "rows as wide as the world": {"hidden_size": 2**31},
    "words without end": {"vocab_size": 10**12},
    "no heads": {"num_attention_heads": 0},
    "negative": {"intermediate_size": -5},
    "texts for numbers": {"rms_norm_eps": "x", "rope_theta": []},
    "quantized to nothing": {"quantization": {"group_size": 0, "bits": 0}},
    "another's code": {"model_file": "evil.py"},
    "another's code by auto_map": {"auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}},
    "a path for a type": {"model_type": "../../../evil"},
    "a module for a type": {"model_type": "..utils"},
}


HARMLESS = ("another's code by auto_map", "quantized to nothing")
"""mlx-lm asks for none of those names, and quantizes only what has scales."""


@pytest.mark.parametrize("name", CONFIGS)
def test_a_hostile_config_allocates_and_runs_nothing(folder, name):
    (folder / "evil.py").write_text("import os; os.system('touch ran')\nclass Config: pass\nclass Model: pass\n")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **CONFIGS[name]}))
    reason = opens(folder)
    assert reason or name in HARMLESS


TOKENIZERS = {
    "code beside it": {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}, "tokenizer_class": "Evil"},
    "code on the net": {"auto_map": {"AutoTokenizer": ["someone/evil--t.Evil", None]}, "tokenizer_class": "Evil"},
    "another module": {"chat_template_type": "evil"},
    "a module outside": {"tool_parser_type": "..evil"},
    "a class that runs programs": {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab"},
    "another repository": {"tokenizer_file": "https://example.org/tokenizer.json", "name_or_path": "someone/model"},
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_brings_no_code_and_asks_nobody(folder, monkeypatch, name):
    def ask(*_):
        raise AssertionError("stdin is the protocol")

    monkeypatch.setattr("builtins.input", ask)
    (folder / "evil.py").write_text("import os; os.system('touch ran')\nclass Tokenizer: pass\n")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, **TOKENIZERS[name]}))
    opens(folder)
    assert not list(folder.rglob("ran"))


class Evil:
    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "model.safetensors",
        "tokenizer.model",
        "vocab.json",
        "merges.txt",
        "tokenizer.json",
        "adapter_config.json",
        "generation_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
    ],
)
def test_no_pickle_is_read_under_any_name(folder, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (folder / name).write_bytes(pickle.dumps(Evil()))
    opens(folder)
    assert not (tmp_path / "ran").exists()


def special(kind: str, path: Path) -> None:
    path.unlink(missing_ok=True)
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "endless":
            path.symlink_to("/dev/zero")
        case "itself":
            path.symlink_to(path.name)
        case "nowhere":
            path.symlink_to("nowhere")


@pytest.mark.parametrize("kind", ["pipe", "endless", "itself", "nowhere"])
@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "generation_config.json", "chat_template.jinja"]
)
def test_what_is_no_ordinary_file_is_not_opened(folder, kind, name):
    special(kind, folder / name)
    assert opens(folder)


def test_links_to_ordinary_files_are_followed(folder, tmp_path):
    """As in the cache of Hugging Face's own downloads."""
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for file in list(folder.iterdir()):
        file.rename(blobs / file.name)
        file.symlink_to(Path("..") / "blobs" / file.name)
    assert opens(folder) == ""


def test_a_config_larger_than_any_is_not_read(folder):
    with (folder / "config.json").open("r+b") as file:
        file.truncate(MOST_CONFIG_BYTES + 1)
    assert "MB" in opens(folder)


def test_a_config_of_a_million_brackets_is_refused(folder):
    (folder / "config.json").write_text("[" * 1_000_000)
    assert "cannot be read" in opens(folder)


# Chat templates

TURNS = (Message(Role.USER, "Hello"),)
TEMPLATES = {
    "a loop in a loop": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a text without end": "{% for i in range(99999) %}{{ 'x' * 99 }}{% endfor %}",
    "a long word": "{{ 'x' * 10**11 }}",
    "a long list": "{{ [0] * 10**11 }}",
    "the other way round": "{{ 10**11 * 'x' }}",
    "a power of powers": "{{ 9**9**9 }}",
    "padding": "{{ 'x'.ljust(10**11) }}",
    "padding by a filter": "{{ 'x'|center(10**11) }}",
    "indentation": "{{ 'x\\ny'|indent(width=10**11) }}",
    "a wide field": "{{ '%99999999999d' % 1 }}",
    "a wide field by a filter": "{{ '%99999999999d'|format(1) }}",
    "a wide field by a method": "{{ '{:>99999999999}'.format(1) }}",
    "a wide field by an argument": "{{ '{:>{}}'.format(1, 99999999999) }}",
    "replacements": "{{ ('x' * 99999).replace('x', 'y' * 99999) }}",
    "replacements by a filter": "{{ ('x' * 99999)|replace('x', 'y' * 99999) }}",
    "numbers without end": "{{ range(10**18)|list }}",
    "itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "doubling": "{% set ns = namespace(s='x' * 9999) %}"
    "{% for i in range(10) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
    "brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "blocks": "{% if 1 %}" * 3000,
    "an unfinished one": "{% for",
    "a division by zero": "{{ 1 / 0 }}",
    "its own refusal": "{{ raise_exception('no') }}",
    "a class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.system('touch ran') }}",
    "a class by a filter": "{{ ''|attr('__class__') }}",
    "a class by a format": "{{ '{0.__class__}'.format('') }}",
    "a file": "{% include '/etc/passwd' %}",
    "an import": "{% import 'os' as os %}",
    "the messages": "{{ messages.append(1) }}",
    "the environment": "{{ self.__dict__ }}{{ self._TemplateReference__context.environment }}",
    "a message's insides": "{{ messages[0].__class__ }}{{ messages[0]['content'].__len__ }}",
}


@pytest.fixture(scope="module")
def tokenizer(good):
    template_sandbox.install()
    return load_tokenizer(good)


def rendered(tokenizer, template: str) -> str:
    """Return what a template makes of a message, or "" where it is refused."""
    tokenizer._tokenizer.chat_template = template
    WATCH.seen.clear()
    WATCH.is_on = True
    text, reason = "", "chat template"
    try:
        with soon():
            text = tokenizer.decode(prompt_tokens(tokenizer, TURNS, "Be brief"))
    except NibbleError as error:
        reason = error.message
    finally:
        WATCH.is_on = False
    assert WATCH.seen == []
    assert "chat template" in reason
    return text


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_hostile_template_is_stopped(tokenizer, name):
    text = rendered(tokenizer, TEMPLATES[name])
    assert "<class" not in text
    assert "built-in" not in text
    assert "root:" not in text


def test_what_templates_use_goes_on_working(tokenizer):
    template = (
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}"
        "{% set ns.n = ns.n + 2 * 3 ** 2 %}{{ m.role.upper() ~ ' ' ~ m['content'].replace('l', 'L')|trim }}"
        "{{ '%s-%03d' % ('a', 7) }}{{ '{:>4}'.format('b') }}{{ 'x' * 3 }}{{ m|tojson }}{% endfor %}{{ ns.n }}"
    )
    expected = 'USER HeLLoa-007   bxxx{"role": "user", "content": "Hello"}18'
    assert rendered(tokenizer, template) == expected


JINJA = st.sampled_from(
    [
        *("{{ ", " }}", "{% ", " %}", "{# ", " #}", "for m in messages", "endfor", "if ", "else", "endif", "set x = "),
        *("m", "x", "messages", "m.content", "m['role']", "loop.index", "namespace(a=1)", "range(9)", "'text'", "1"),
        *("|join", "|length", "|tojson", "|list", "|attr('x')", "|map('upper')", "|first", "|sort", ".strip()", "[0]"),
        *(
            "[::-1]",
            "[-1:]",
            " + ",
            " ~ ",
            " * ",
            " ** ",
            " % ",
            " - ",
            " == ",
            " in ",
            " is defined",
            "(",
            ")",
            "[",
            "]",
        ),
        *(
            "macro f(a)",
            "endmacro",
            "f(1)",
            "raise_exception('x')",
            "strftime_now('%Y')",
            "self",
            "caller()",
            "\n",
            "-",
        ),
        *(
            "generation",
            "endgeneration",
            "break",
            "continue",
            "block b",
            "endblock",
            "super()",
            "filter upper",
            "{",
            "}",
        ),
        *("999999999", "-1", "1.5e308", "none", "true", "dict(a=1)", "cycler(1)", "joiner()", "lipsum()", "__class__"),
    ]
)


# The alarm may fall into hypothesis's own callback of the garbage collection, where Python drops it; it comes again.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@fuzz(80)
@given(st.lists(JINJA, max_size=25).map("".join))
def test_any_template_is_rendered_or_refused(tokenizer, template):
    rendered(tokenizer, template)


class SlowToGo:
    def __del__(self):
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_alarm_that_python_drops_comes_again():
    dropped = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", dropped.append)
        with pytest.raises(template_sandbox.TemplateTimeError), template_sandbox.time_limit(0.05):
            time.sleep(10 + bool(SlowToGo()))  # which is gone at once
    assert len(dropped) == 1


def test_the_alarm_of_another_is_left_alone():
    """The time limit belongs to the template alone: what comes after it is not interrupted, and handlers come back."""
    before = signal.getsignal(signal.SIGALRM)
    signal.setitimer(signal.ITIMER_REAL, 200)
    with pytest.raises(template_sandbox.TemplateTimeError), template_sandbox.time_limit(0.05):
        time.sleep(10)
    with template_sandbox.time_limit(0.05):
        pass
    assert signal.getsignal(signal.SIGALRM) == before
    waiting_s, interval_s = signal.setitimer(signal.ITIMER_REAL, 0)
    assert 190 < waiting_s < 200
    assert interval_s == 0


def test_every_special_file_was_made_as_meant(tmp_path):
    for kind in ("pipe", "endless", "itself", "nowhere"):
        special(kind, tmp_path / kind)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["endless", "itself", "nowhere", "pipe"]
    with (tmp_path / "endless").open("rb") as file:
        assert file.read(2) == b"\0\0"
