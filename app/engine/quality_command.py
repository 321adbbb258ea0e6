"""`python -m app --quality`: the measuring stick on the terminal. Tables go to stdout, progress to stderr."""

import argparse
import sys
import traceback
from typing import TextIO

from app.chat.quality import Effort, QualityReport, Spread, VariantQuality, csv_text, json_text
from app.engine.model_folder import Calibrating, open_model
from app.engine.quality import measure_deployed
from app.engine.quality_text import bundled_texts, own_text
from app.errors import NibbleError
from app.paths import default_paths, replace_text
from app.resources import starter_model_path

DONE, REFUSED, DEFECT, STOPPED = 0, 1, 2, 130
"""Exit codes."""


def main(arguments: argparse.Namespace) -> int:
    """Measure what the command line asks for; return the exit code."""
    progress = _Progress(sys.stderr)
    try:
        run(arguments, sys.stdout, progress)
    except NibbleError as error:
        progress.clear()
        print(f"nibble: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        progress.clear()
        return STOPPED
    except Exception:
        progress.clear()
        traceback.print_exc()
        return DEFECT
    return DONE


def run(arguments: argparse.Namespace, out: TextIO, progress: "_Progress") -> None:
    """Print a table for each text, and write the files after each, so that a stop loses one text only.

    The constants of ours are those of the window: read where it keeps them, made and kept there where there are none.
    """
    texts = (own_text(arguments.text),) if arguments.text else bundled_texts()
    for file in (arguments.csv, arguments.json):
        if file and not file.parent.is_dir():
            raise NibbleError(f"There is no folder {file.parent} to write to.", "Make it, or name another.")
    calibrating = Calibrating(
        default_paths().calibrations, lambda share: progress.show(share, "calibrating"), lambda: False
    )
    opened = open_model(arguments.model or starter_model_path(), progress.step, calibrating)
    effort = Effort(arguments.windows, arguments.context)
    reports: list[QualityReport] = []
    for text in texts:
        report = measure_deployed(opened, text, effort, progress.show, lambda: False)
        reports.append(report)
        progress.clear()
        print(table(report), end="\n\n", file=out, flush=True)
        if arguments.csv:
            replace_text(arguments.csv, csv_text(reports))
        if arguments.json:
            replace_text(arguments.json, json_text(reports))


def table(report: QualityReport) -> str:
    """Lay a report out for people, one variant a line."""
    model, machine = report.model, report.machine
    head = ("variant", "bits", "perplexity", "change", f"KL, nats ({report.spread_kind})", "same top token", "")
    fp16 = next((v for v in report.variants if v.name == "fp16"), None)
    rows = [head, *(_row(v, fp16) for v in report.variants)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    plural = "window" if report.windows == 1 else "windows"
    lines = [
        f"{model.name} ({model.architecture}, {report.compute_dtype}) on {report.text_name}: {report.windows} {plural} "
        f"of {report.context_tokens:,} tokens, the last {report.scored_tokens:,} of each scored.",
        f"Against its own 16-bit cache, as in decode. Constants of ours: {report.calibration}.",
        *("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows),
        *report.remarks,
        f"{machine.machine}, {machine.os}, {machine.backend}; Nibble {machine.nibble_version}, MLX "
        f"{machine.mlx_version}, mlx-lm {machine.mlx_lm_version}; text {report.text_sha256[:12]}.",
    ]
    return "\n".join(lines)


def _row(variant: VariantQuality, fp16: VariantQuality | None) -> tuple[str, ...]:
    change = variant.perplexity.overall - fp16.perplexity.overall if fp16 else 0.0
    return (
        variant.name,
        f"{variant.bits_per_value:.2f}",
        f"{variant.perplexity.overall:,.3f}",
        f"{change:+,.3f}" if fp16 else "",
        _spread(variant.kl_nats, "{:.4f}"),
        _spread(variant.agreement, "{:.1%}"),
        variant.description,
    )


def _spread(spread: Spread, form: str) -> str:
    overall, low, high = (form.format(x) for x in (spread.overall, spread.low, spread.high))
    return f"{overall} ({low} to {high})"


class _Progress:
    """One line on a terminal that says what is being done; nothing where nobody watches."""

    def __init__(self, err: TextIO) -> None:
        self._err = err
        self._width = 0

    def show(self, fraction: float, what: str) -> None:
        """Replace the line."""
        self.step(f"{fraction:4.0%}  {what}")

    def step(self, line: str) -> None:
        """Replace the line."""
        if self._err.isatty():
            self._err.write(f"\r{line.ljust(self._width)}")
            self._err.flush()
            self._width = len(line)

    def clear(self) -> None:
        """Remove the line."""
        if self._width:
            self.step("")
            self._err.write("\r")
            self._width = 0
