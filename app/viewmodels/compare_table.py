"""What a comparison found, as a table and in words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.chat.comparison import Comparison, Round, median_figures, spread_figures
from app.chat.figures import CacheFigures, ReplyFigures
from app.chat.options import CacheMode, ChatOptions
from app.engine.protocol import Finished
from app.viewmodels.panel_state import EXPLANATIONS, UNMEASURED, format_bytes, format_seconds, format_speed


@dataclass(frozen=True, slots=True)
class CompareResult:
    """Both replies of the first round, where they part, and the figures of every round."""

    fp16: Finished
    int4: Finished
    comparison: Comparison
    rounds: tuple[Round, ...] = ()
    """All of them, the first among them; empty where there was but one."""

    @property
    def all_rounds(self) -> tuple[Round, ...]:
        """The figures of every round."""
        return self.rounds or (Round(self.fp16.figures, self.int4.figures),)


@dataclass(frozen=True, slots=True)
class CompareRow:
    """One figure of both replies, as shown. `difference` is int4's as seen from fp16's."""

    label: str
    fp16: str
    int4: str
    difference: str
    tooltip: str = ""


def compare_rows(result: CompareResult) -> tuple[CompareRow, ...]:
    """Return the table of figures of both replies, with what int4 changes."""
    rows = [_figure_row(result, *figure) for figure in _FIGURES]
    parting, agreement = result.comparison.first_different_token, result.comparison.agreement
    where = "never" if parting is None else f"after {counted(parting, 'equal token')}"
    rows.append(CompareRow(_PARTING[0], "", "", where, _PARTING[1]))
    rows.append(CompareRow(_AGREEMENT[0], "", "", f"{100 * agreement:.1f} %", _AGREEMENT[1]))
    return tuple(rows)


def unmeasured_rows() -> tuple[CompareRow, ...]:
    """Return the same table before anything was measured."""
    rows = [CompareRow(label, UNMEASURED, UNMEASURED, UNMEASURED, tooltip) for label, tooltip, _, _ in _FIGURES]
    rows += [CompareRow(label, "", "", UNMEASURED, tooltip) for label, tooltip in (_PARTING, _AGREEMENT)]
    return tuple(rows)


def markdown_table(rows: Sequence[CompareRow]) -> str:
    """Return the rows as a Markdown table, ending in a line feed."""
    lines = [("Figure", "fp16", "int4", "Difference"), ("---", "---:", "---:", "---:")]
    lines += [(row.label, row.fp16, row.int4, row.difference) for row in rows]
    return "".join(f"| {' | '.join(markdown_cell(cell) for cell in line)} |\n" for line in lines)


def rounds_text(result: CompareResult) -> str:
    """Say what the figures are where there was more than one round; "" otherwise."""
    count = len(result.all_rounds)
    return f"Figures are medians of {count} rounds, least and most in brackets." if count > 1 else ""


def conditions_text(options: ChatOptions, greedy: bool) -> str:
    """Say in a line under which settings both replies are written."""
    sampling = options.sampling
    if greedy or sampling.temperature == 0:
        drawn = "Always the likeliest token"
    else:
        seed = "one seed drawn for both" if sampling.seed is None else f"seed {sampling.seed}"
        drawn = f"Temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, {seed}"
    length = f"at most {counted(sampling.max_tokens, 'token')}"
    return f"{drawn}; {length}; int4 in groups of {options.group_size}. Sent without earlier turns, to empty caches."


def summary_text(figures: ReplyFigures) -> str:
    """Return one reply's figures in a line."""
    parts = (
        counted(figures.generated_tokens, "token"),
        format_speed(figures.decode_tokens_per_s),
        f"KV cache {format_bytes(figures.cache.allocated_bytes)}",
    )
    return ", ".join(part for part in parts if part != UNMEASURED)


def parting_text(result: CompareResult) -> str:
    """Say in a sentence where the two texts part."""
    at = result.comparison.first_different_char
    if at is None:
        return "Both replies are the same, to the last character."
    for mode, reply in ((CacheMode.FP16, result.fp16), (CacheMode.INT4, result.int4)):
        if at >= len(reply.text):
            return f"The texts are the same for {counted(at, 'character')}, then {mode} ends and the other goes on."
    return f"The texts are the same for {counted(at, 'character')}; where they part is underlined in both."


_Shown = Callable[[ReplyFigures], str]
_Change = Callable[[ReplyFigures, ReplyFigures], str]


def _figure_row(result: CompareResult, label: str, tooltip: str, shown: _Shown, change: _Change) -> CompareRow:
    rounds = result.all_rounds
    fp16, int4 = median_figures([r.fp16 for r in rounds]), median_figures([r.int4 for r in rounds])
    cells = [
        _with_spread(shown(median), [shown(figures) for figures in every])
        for median, every in (
            (fp16, spread_figures([r.fp16 for r in rounds])),
            (int4, spread_figures([r.int4 for r in rounds])),
        )
    ]
    return CompareRow(label, cells[0], cells[1], change(fp16, int4), tooltip)


def _with_spread(median: str, bounds: Sequence[str]) -> str:
    """Return a median with the least and the most of all rounds, which are left out where they look the same."""
    if len(set(bounds)) < 2:
        return median
    unit = f" {median.partition(' ')[2]}"
    low, high = (bound.removesuffix(unit) for bound in bounds)
    return f"{median} ({low} to {high})"


def _percent(get: Callable[[ReplyFigures], float]) -> _Change:
    def change(fp16: ReplyFigures, int4: ReplyFigures) -> str:
        before, after = get(fp16), get(int4)
        if before <= 0 or after <= 0:
            return UNMEASURED
        return _signed(f"{100 * (after / before - 1):+.1f}", " %")

    return change


def _smaller(own: Callable[[CacheFigures], int], in_fp16: Callable[[CacheFigures], int]) -> _Change:
    """Compare bytes; a token's share of them where the caches differ in length, as their size in fp16 tells."""

    def change(fp16: ReplyFigures, int4: ReplyFigures) -> str:
        before, after = own(fp16.cache), own(int4.cache)
        of_before, of_after = in_fp16(fp16.cache), in_fp16(int4.cache)
        if 0 in (before, after, of_before, of_after):
            return UNMEASURED
        a_token = "" if of_before == of_after else " a token"
        ratio = before / after * of_after / of_before
        if f"{ratio:.2f}" == "1.00":
            return f"the same{a_token}"
        return f"{ratio:.2f}x smaller{a_token}" if ratio > 1 else f"{1 / ratio:.2f}x larger{a_token}"

    return change


def _saved(get: Callable[[ReplyFigures], int]) -> _Change:
    def change(fp16: ReplyFigures, int4: ReplyFigures) -> str:
        delta = get(int4) - get(fp16)
        if not delta:
            return "the same"
        return f"{'+' if delta > 0 else '−'}{format_bytes(abs(delta))}"

    return change


def _more(fp16: ReplyFigures, int4: ReplyFigures) -> str:
    delta = int4.generated_tokens - fp16.generated_tokens
    return _signed(f"{delta:+,}")


def _nothing(fp16: ReplyFigures, int4: ReplyFigures) -> str:
    return ""


def _signed(number: str, unit: str = "") -> str:
    return "the same" if not number.strip("+-0.,") else number.replace("-", "−") + unit


def counted(number: int, noun: str) -> str:
    """Return a number and what it counts: "1 token", "2 tokens"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def markdown_cell(text: str) -> str:
    """Return `text` as it may stand in a cell of a Markdown table."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")


_A_TOKEN = "Where one cache holds or reserves room for more tokens than the other, bytes a token are compared."
_PARTING = ("Texts part", "How many tokens both replies have in common at their start.")
_AGREEMENT = ("Agreement", "Equal tokens at equal positions, as a share of the longer reply's tokens.")

_FINISH_WORDS = {"stop": "the model ended", "length": "length limit", "cancelled": "stopped", "memory": "memory budget"}

_FIGURES: tuple[tuple[str, str, _Shown, _Change], ...] = (
    (
        "Decode speed",
        EXPLANATIONS["speed.decode"],
        lambda f: format_speed(f.decode_tokens_per_s),
        _percent(lambda f: f.decode_tokens_per_s),
    ),
    (
        "Prefill speed",
        EXPLANATIONS["speed.prefill"],
        lambda f: format_speed(f.prefill_tokens_per_s),
        _percent(lambda f: f.prefill_tokens_per_s),
    ),
    (
        "Time to first token",
        EXPLANATIONS["speed.ttft"],
        lambda f: format_seconds(f.ttft_s),
        _percent(lambda f: f.ttft_s),
    ),
    (
        "KV cache allocated",
        f"{EXPLANATIONS['cache.allocated']} {_A_TOKEN}",
        lambda f: format_bytes(f.cache.allocated_bytes),
        _smaller(lambda c: c.allocated_bytes, lambda c: c.fp16_allocated_bytes),
    ),
    (
        "KV cache used",
        f"{EXPLANATIONS['cache.used']} {_A_TOKEN}",
        lambda f: format_bytes(f.cache.used_bytes),
        _smaller(lambda c: c.used_bytes, lambda c: c.fp16_used_bytes),
    ),
    ("Ratio to fp16", EXPLANATIONS["cache.ratio"], lambda f: f"{f.cache.ratio:.2f}x", _nothing),
    (
        "Peak memory",
        EXPLANATIONS["memory.peak"],
        lambda f: format_bytes(f.memory.peak_bytes),
        _saved(lambda f: f.memory.peak_bytes),
    ),
    (
        "Layers in int4",
        EXPLANATIONS["cache.layers"],
        lambda f: f"{f.cache.layers_int4} of {f.cache.layers_total}",
        _nothing,
    ),
    ("Attention path", EXPLANATIONS["cache.path"], lambda f: f.cache.path or UNMEASURED, _nothing),
    (
        "Prompt",
        "Tokens of the whole prompt after the chat template.",
        lambda f: counted(f.prompt_tokens, "token"),
        _nothing,
    ),
    ("Reply", "Tokens written, the end-of-text token included.", lambda f: counted(f.generated_tokens, "token"), _more),
    (
        "Ended by",
        "Why the reply ended: the model ended it, a length limit, or a person.",
        lambda f: _FINISH_WORDS.get(f.finish_reason, f.finish_reason),
        _nothing,
    ),
)
