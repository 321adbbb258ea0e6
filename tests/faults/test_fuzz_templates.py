"""Chat templates from anywhere: rendered or refused in time; nothing is touched, and no other's alarm is lost."""

import signal
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_lm.utils import load_tokenizer

from app.chat.message import Message, Role
from app.engine import template_sandbox
from app.engine.prompt import prompt_tokens
from app.errors import NibbleError
from tests.faults.audit_watch import WATCH
from tests.faults.fuzzing import fuzz, soon
from tests.tiny_model import write_tiny_model

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
def tokenizer(tmp_path_factory):
    template_sandbox.install()
    return load_tokenizer(write_tiny_model(tmp_path_factory.mktemp("models") / "tiny", num_hidden_layers=1))


def rendered(tokenizer, template: str) -> str:
    """Return what a template makes of a message, or "" where it is refused."""
    tokenizer._tokenizer.chat_template = template
    text, reason = "", "chat template"
    try:
        with WATCH.on(), soon():
            text = tokenizer.decode(prompt_tokens(tokenizer, TURNS, "Be brief"))
    except NibbleError as error:
        reason = error.message
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
