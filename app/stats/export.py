"""Figures of replies as a table: CSV for spreadsheets, JSON for programs, Markdown for people.

One table says what is in the first two; Markdown has the columns of it that fit on a page.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from operator import attrgetter
from pathlib import Path
from typing import Any

from app import __version__
from app.chat.comparison import KeptComparison, median_figures
from app.chat.figures import MachineFacts
from app.chat.plain import plain_fields
from app.errors import NibbleError
from app.paths import replace_text
from app.stats.session import Row

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Column:
    """One figure: its name with unit, where it comes from (a dotted path from Row or MachineFacts), what it means."""

    name: str
    source: str
    description: str


COLUMNS = (
    Column("chat_title", "chat_title", "Title of the conversation."),
    Column("model", "figures.model", "Name of the model."),
    Column("started_at_utc", "figures.started_at", "When the reply was asked for; UTC, ISO 8601."),
    Column("requested_mode", "figures.requested_mode", "KV cache that was asked for: int4 or fp16."),
    Column("effective_mode", "figures.cache.mode", "KV cache that was used: int4 or fp16."),
    Column("group_size_values", "group_size", "Values that share one scale; empty where the cache was fp16."),
    Column("attention_path", "figures.cache.path", "Where MLX computed attention: metal, cuda or cpu, and how."),
    Column("int4_layers", "figures.cache.layers_int4", "Layers whose cache was int4."),
    Column("cache_layers", "figures.cache.layers_total", "Layers that have a cache."),
    Column("fp16_layer_reasons", "fp16_layer_reasons", "Why the other layers' caches were not int4; layers from 0."),
    Column("cache_tokens", "figures.cache.tokens", "Tokens in the KV cache when the reply ended."),
    Column("kv_used_bytes", "figures.cache.used_bytes", "KV cache: bytes of the rows that hold a token."),
    Column("kv_allocated_bytes", "figures.cache.allocated_bytes", "KV cache: bytes reserved; it grows in steps."),
    Column(
        "kv_fp16_used_bytes", "figures.cache.fp16_used_bytes", "mlx-lm's own cache: the same rows at 16 bits a value."
    ),
    Column(
        "kv_fp16_allocated_bytes",
        "figures.cache.fp16_allocated_bytes",
        "mlx-lm's own cache: the same reserved rows at 16 bits a value.",
    ),
    Column("kv_saving_ratio", "figures.cache.ratio", "kv_fp16_allocated_bytes over kv_allocated_bytes."),
    Column("mlx_active_bytes", "figures.memory.active_bytes", "MLX memory in use when the reply ended."),
    Column("mlx_peak_bytes", "figures.memory.peak_bytes", "Most MLX memory in use during the reply, pool left out."),
    Column("mlx_pool_bytes", "figures.memory.pool_bytes", "Freed MLX buffers kept for reuse."),
    Column("process_bytes", "figures.memory.process_bytes", "Memory of the engine's process when the reply ended."),
    Column("process_measure", "figures.memory.process_measure", "How the system counted process_bytes."),
    Column("prompt_tokens", "figures.prompt_tokens", "Tokens of the whole prompt, chat template included."),
    Column("reused_tokens", "figures.reused_tokens", "Of those, in the cache already."),
    Column("disk_tokens", "figures.disk_tokens", "Of the reused ones, continued from disk: all or none."),
    Column("prefilled_tokens", "figures.prefilled_tokens", "Of those, read for this reply."),
    Column("generated_tokens", "figures.generated_tokens", "Tokens written, end of text included."),
    Column("ttft_s", "figures.ttft_s", "From when the engine takes up the request to the first token."),
    Column("prefill_tokens_per_s", "figures.prefill_tokens_per_s", "Speed of reading the prompt."),
    Column("decode_tokens_per_s", "figures.decode_tokens_per_s", "Speed of writing after the first token."),
    Column("elapsed_s", "figures.elapsed_s", "From when the engine takes up the request to the reply's end."),
    Column("context_limit_tokens", "figures.context_limit_tokens", "Longest context the model's config.json allows."),
    Column("seed", "figures.seed", "Seed of the sampling; a plain number."),
    Column("temperature", "figures.temperature", "Sampling: 0 is greedy; a plain number."),
    Column("top_p", "figures.top_p", "Sampling: probability kept, 0 to 1."),
    Column("top_k_tokens", "figures.top_k", "Sampling: tokens kept; 0 keeps all."),
    Column("min_p", "figures.min_p", "Sampling: least share of the likeliest token's probability, 0 to 1."),
    Column("max_tokens", "figures.max_tokens", "Longest reply allowed."),
    Column("finish_reason", "figures.finish_reason", "stop, length, cancelled or memory."),
    Column(
        "model_dtype", "figures.compute_dtype", "The model's type, which an fp16 cache has too: float16 or bfloat16."
    ),
)
"""What is told of every reply; sources are read from Row."""

MARKDOWN_COLUMNS = (
    "chat_title",
    "model",
    "started_at_utc",
    "effective_mode",
    "cache_tokens",
    "kv_allocated_bytes",
    "kv_fp16_allocated_bytes",
    "kv_saving_ratio",
    "generated_tokens",
    "ttft_s",
    "prefill_tokens_per_s",
    "decode_tokens_per_s",
    "finish_reason",
)
"""The columns that Markdown has."""

MACHINE_COLUMNS = (
    Column("machine", "machine", "Chip or processor."),
    Column("machine_memory_bytes", "memory_bytes", "Memory of the machine."),
    Column("os", "os", "Operating system."),
    Column("mlx_device", "device", "MLX's default device: gpu or cpu."),
    Column("mlx_backend", "backend", "metal, cuda or cpu."),
    Column("nibble_version", "nibble_version", "Version of Nibble."),
    Column("python_version", "python_version", "Version of Python."),
    Column("mlx_version", "mlx_version", "Version of MLX."),
    Column("mlx_lm_version", "mlx_lm_version", "Version of mlx-lm."),
)
"""Where it was measured: last in every line of a CSV file, once in a JSON file; sources are read from MachineFacts."""


def export_rows(
    path: Path, rows: Sequence[Row], machine: MachineFacts, comparisons: Sequence[KeptComparison] = ()
) -> None:
    """Write one line a reply, as CSV, JSON or Markdown by the suffix of `path`; an old file is replaced whole.

    JSON has the comparisons too: prompt, both texts, where they part, the medians of all rounds.

    Raises NibbleError for another suffix and where the file cannot be written.
    """
    match path.suffix.lower():
        case ".csv":
            replace_text(path, _csv_text(rows, machine))
        case ".json":
            replace_text(path, _json_text(rows, machine, comparisons))
        case ".md":
            replace_text(path, _markdown_text(rows, machine))
        case suffix:
            raise NibbleError(
                f"Figures cannot be exported as {suffix or 'a file without a suffix'}.",
                "Choose a name that ends in .csv, .json or .md.",
            )


def _csv_text(rows: Sequence[Row], machine: MachineFacts) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(c.name for c in (*COLUMNS, *MACHINE_COLUMNS))
    here = [_spreadsheet_cell(_cell(machine, c)) for c in MACHINE_COLUMNS]
    for row in rows:
        writer.writerow([*(_spreadsheet_cell(_cell(row, c)) for c in COLUMNS), *here])
    return text.getvalue()


def _json_text(rows: Sequence[Row], machine: MachineFacts, comparisons: Sequence[KeptComparison]) -> str:
    data = {
        "nibble": __version__,
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {c.name: _cell(machine, c) for c in MACHINE_COLUMNS},
        "columns": {c.name: c.description for c in (*COLUMNS, *MACHINE_COLUMNS)},
        "replies": [{c.name: _cell(row, c) for c in COLUMNS} for row in rows],
        "comparisons": [_comparison(kept) for kept in comparisons],
    }
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _markdown_text(rows: Sequence[Row], machine: MachineFacts) -> str:
    columns = [column for column in COLUMNS if column.name in MARKDOWN_COLUMNS]
    cells = [[_markdown_cell(_cell(row, column)) for column in columns] for row in rows]
    # A column that holds text in no row is one of figures, which stand at the right.
    texts = [any(isinstance(_cell(row, column), str) for row in rows) for column in columns]
    lines = [[c.name for c in columns], ["---" if text else "---:" for text in texts], *cells]
    facts = "\n".join(f"- {c.name}: {_markdown_cell(_cell(machine, c))}" for c in MACHINE_COLUMNS)
    meaning = "\n".join(f"- {c.name}: {c.description}" for c in columns)
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"# Nibble session stats\n\n{table}\n## Measured on\n\n{facts}\n\n## Columns\n\n{meaning}\n"


def _markdown_cell(cell: Cell) -> str:
    """Return a figure as it may stand in a table: floats to four digits, text without what ends a cell."""
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:.4g}"
    return " ".join(str(cell).split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _comparison(kept: KeptComparison) -> dict[str, Any]:
    """Return a comparison with its medians in the words of the columns; the rounds themselves are among the replies."""
    medians = {
        "fp16": median_figures([one.fp16 for one in kept.rounds]),
        "int4": median_figures([one.int4 for one in kept.rounds]),
    }
    return {
        "made_at_utc": kept.made_at,
        "prompt": kept.prompt,
        "conditions": kept.conditions,
        "fp16_text": kept.fp16_text,
        "int4_text": kept.int4_text,
        **plain_fields(kept.comparison),
        "rounds": len(kept.rounds),
        "medians": {
            mode: {c.name: _cell(Row("", figures), c) for c in COLUMNS if c.name != "chat_title"}
            for mode, figures in medians.items()
        },
    }


def _cell(owner: Row | MachineFacts, column: Column) -> Cell:
    value = attrgetter(column.source)(owner)
    return value.value if isinstance(value, Enum) else value  # type: ignore[no-any-return]


def _spreadsheet_cell(cell: Cell) -> Cell:
    """Mark text that a spreadsheet would run as a formula: titles and model names come from anywhere."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else cell
