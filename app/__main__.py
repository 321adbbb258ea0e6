"""The program: `python -m app`, or the `nibble` command. Its first lines choose which process this is.

Without arguments, or with `--model` alone, it is the window. `--engine`, `--download` and `--token` make it a child of
the window; `--prompt`, `--quality` and `--self-test` work without a screen. Each choice imports only what it needs: no
Qt in the engine, no MLX in the window.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Sequence
from pathlib import Path

from app import __version__
from app.chat.options import GROUP_SIZES, Sampling
from app.paths import keep_private

_PROCESSES = ("prompt", "prompt_file", "self_test", "quality", "engine", "download", "token")
_QUALITY_OPTIONS = ("text", "windows", "context", "csv", "json")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the process that the arguments ask for; return its exit code."""
    keep_private()
    multiprocessing.freeze_support()  # in the frozen app, multiprocessing's own children start here too
    parser = command_line()
    arguments = parser.parse_args(argv)
    _check_options(parser, arguments)
    if arguments.engine:
        from app.engine.process import serve

        return serve(arguments.engine)
    if arguments.download:
        from app.catalogue.download_process import serve as download

        return download()
    if arguments.token:
        from app.catalogue.token_process import serve as token

        return token()
    if arguments.self_test:
        from app import self_test

        return self_test.main()
    if arguments.prompt is not None or arguments.prompt_file is not None:
        from app import headless

        return headless.main(arguments)
    if arguments.quality:
        from app.engine import quality_command

        return quality_command.main(arguments)
    from app.main import main as window

    return window(sys.argv[:1], arguments.model)


def _check_options(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End with an error where an option stands without the one that it belongs to."""
    for name, value in vars(arguments).items():
        if name in _PROCESSES or value == parser.get_default(name):
            continue
        option = f"--{name.replace('_', '-')}"
        if name == "model":
            if arguments.self_test:
                parser.error("--model does not go with --self-test")
        elif name in _QUALITY_OPTIONS:
            if not arguments.quality:
                parser.error(f"{option} needs --quality")
        elif arguments.quality:
            parser.error(f"{option} does not go with --quality")
        elif arguments.prompt is None and arguments.prompt_file is None and not arguments.quality:
            parser.error(f"{option} needs --prompt or --prompt-file")


def command_line() -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(
        prog="nibble",
        description="Chat with a local language model whose KV cache is held in int4; by default in a window.",
        epilog="Exit codes: 0 done, 1 it cannot be done (the message says why), 2 a wrong option or a defect of ours, "
        "130 stopped with Ctrl-C.",
    )
    parser.add_argument("--version", action="version", version=f"Nibble {__version__}")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="PATH",
        help="mlx-lm model folder (default: the embedded starter, in the window the model that was open last)",
    )
    process = parser.add_mutually_exclusive_group()
    process.add_argument("--prompt", metavar="TEXT", help="answer TEXT on the terminal and print the figures")
    process.add_argument(
        "--prompt-file", metavar="FILE", help="the same with the text of FILE, or of standard input where FILE is -"
    )
    process.add_argument("--self-test", action="store_true", help="run the whole chain once and say what is broken")
    process.add_argument(
        "--quality", action="store_true", help="measure what int4 costs a model in quality, and print a table"
    )
    process.add_argument("--engine", choices=("child", "fake"), help=argparse.SUPPRESS)
    process.add_argument("--download", action="store_true", help=argparse.SUPPRESS)
    process.add_argument("--token", action="store_true", help=argparse.SUPPRESS)

    reply = parser.add_argument_group("with --prompt or --prompt-file")
    reply.add_argument(
        "--cache",
        choices=("int4", "fp16", "compare"),
        default="int4",
        help="hold the KV cache in int4 or fp16, or answer with both and compare (default: %(default)s)",
    )
    reply.add_argument("--anyway", action="store_true", help="open the model even where it does not fit in memory")
    reply.add_argument("--export", type=Path, metavar="FILE", help="write the figures to FILE, .csv, .json or .md")
    reply.add_argument("--system-prompt", default="", metavar="TEXT", help="what the model is told before the prompt")
    reply.add_argument(
        "--group-size",
        type=int,
        choices=GROUP_SIZES,
        default=GROUP_SIZES[0],
        help="values that share one scale in int4 (default: %(default)s)",
    )
    default = Sampling()
    reply.add_argument(
        "--max-tokens",
        type=int,
        default=default.max_tokens,
        metavar="N",
        help="most tokens in the reply (default: %(default)s)",
    )
    heat = reply.add_mutually_exclusive_group()
    heat.add_argument(
        "--temperature",
        type=float,
        default=default.temperature,
        metavar="T",
        help="how freely tokens are drawn (default: %(default)s)",
    )
    heat.add_argument(
        "--greedy",
        action="store_const",
        dest="temperature",
        const=0.0,
        default=default.temperature,
        help="always take the likeliest token; the same as --temperature 0",
    )
    reply.add_argument(
        "--top-p",
        type=float,
        default=default.top_p,
        metavar="P",
        help="draw from the likeliest tokens that make up P; 1 is all (default: %(default)s)",
    )
    reply.add_argument(
        "--top-k",
        type=int,
        default=default.top_k,
        metavar="K",
        help="draw from the K likeliest tokens; 0 is all (default: %(default)s)",
    )
    reply.add_argument(
        "--min-p",
        type=float,
        default=default.min_p,
        metavar="P",
        help="drop tokens below P times the likeliest; 0 keeps all (default: %(default)s)",
    )
    reply.add_argument("--seed", type=int, metavar="N", help="draw the same tokens every time (default: a new seed)")

    quality = parser.add_argument_group("with --quality")
    quality.add_argument("--text", type=Path, metavar="FILE", help="text to measure on (default: the bundled ones)")
    quality.add_argument(
        "--windows", type=_positive, default=3, metavar="N", help="windows of text that are read (default: %(default)s)"
    )
    quality.add_argument(
        "--context",
        type=_positive,
        default=1024,
        metavar="N",
        help="tokens of a window, of which the second half is scored (default: %(default)s)",
    )
    quality.add_argument("--csv", type=Path, metavar="FILE", help="write the table to FILE as CSV")
    quality.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE as JSON")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
