"""The program: `python -m app`, or the `nibble` command. Its first lines choose which process this is.

Without arguments it is the window. `--engine` makes it the engine's process; `--prompt` and `--self-test` work without
a screen. Each choice imports only what it needs: no Qt in the engine, no MLX in the window.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Sequence
from pathlib import Path

from app import __version__
from app.chat.options import GROUP_SIZES, Sampling


def main(argv: Sequence[str] | None = None) -> int:
    """Run the process that the arguments ask for; return its exit code."""
    multiprocessing.freeze_support()  # in the frozen app, multiprocessing's own children start here too
    parser = command_line()
    arguments = parser.parse_args(argv)
    if arguments.engine:
        from app.engine.process import serve

        return serve(arguments.engine)
    if arguments.self_test:
        from app import self_test

        return self_test.main()
    if arguments.prompt is not None or arguments.prompt_file is not None:
        from app import headless

        return headless.main(arguments)
    given = sorted(name for name, value in vars(arguments).items() if value != parser.get_default(name))
    if given:
        parser.error(f"--{given[0].replace('_', '-')} needs --prompt or --prompt-file")
    from app.main import main as window

    return window(sys.argv)


def command_line() -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(
        prog="nibble",
        description="Chat with a local language model whose KV cache is held in int4; by default in a window.",
        epilog="Exit codes: 0 done, 1 it cannot be done (the message says why), 2 a wrong option or a defect of ours, "
        "130 stopped with Ctrl-C.",
    )
    parser.add_argument("--version", action="version", version=f"Nibble {__version__}")
    process = parser.add_mutually_exclusive_group()
    process.add_argument("--prompt", metavar="TEXT", help="answer TEXT on the terminal and print the figures")
    process.add_argument(
        "--prompt-file", metavar="FILE", help="the same with the text of FILE, or of standard input where FILE is -"
    )
    process.add_argument("--self-test", action="store_true", help="run the whole chain once and say what is broken")
    process.add_argument("--engine", choices=("child", "fake"), help=argparse.SUPPRESS)

    reply = parser.add_argument_group("with --prompt or --prompt-file")
    reply.add_argument(
        "--cache",
        choices=("int4", "fp16", "compare"),
        default="int4",
        help="hold the KV cache in int4 or fp16, or answer with both and compare (default: %(default)s)",
    )
    reply.add_argument("--model", type=Path, metavar="PATH", help="mlx-lm model folder (default: the embedded starter)")
    reply.add_argument("--export", type=Path, metavar="FILE", help="write the figures to FILE, .csv or .json")
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
    return parser


if __name__ == "__main__":
    sys.exit(main())
