"""Options that several commands share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from centernet_d2 import model_zoo


def build_parser(description: str | None, prog: str | None) -> argparse.ArgumentParser:
    """A parser that prints ``description`` as it is; an example belongs into it."""
    return argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_config(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """``--config-file``, and config keys after all other options."""
    add_config_file(parser, required)
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY=value", help="config keys to change")


def add_config_file(parser: argparse.ArgumentParser | argparse._MutuallyExclusiveGroup, required: bool = False) -> None:
    """``--config-file``: a file, or a name of the package's configurations."""
    parser.add_argument(
        "--config-file",
        default="",
        required=required,
        metavar="FILE",
        help="a file, or one of the package's such as COCO-Detection/centernet_R_18_DCN_1pt.yaml",
    )


def find_config(text: str) -> str:
    """``model_zoo.find_config``, or the end of the program with its message."""
    try:
        return model_zoo.find_config(text)
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def build_training_parser(description: str | None, prog: str | None = None) -> argparse.ArgumentParser:
    """Detectron2's options for training and evaluation."""
    parser = build_parser(description, prog)
    add_config_file(parser)
    parser.add_argument(
        "--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS (with --resume: the last checkpoint)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR, if any")
    add_processes(parser)
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY=value", help="config keys to change")
    return parser


def add_processes(parser: argparse.ArgumentParser) -> None:
    """GPUs and machines."""
    parser.add_argument("--num-gpus", type=int, default=1, help="per machine; with MODEL.DEVICE cpu: processes")
    parser.add_argument("--num-machines", type=int, default=1, help="that train together (default: 1)")
    parser.add_argument("--machine-rank", type=int, default=0, help="of this machine, 0 .. num-machines - 1")
    parser.add_argument("--dist-url", default="auto", help="tcp://<address of machine 0>:<port>, with several machines")


def print_errors(main: Callable[[], int], errors: tuple[type[Exception], ...]) -> int:
    """``main()``; one of ``errors`` becomes a line on stderr and status 1."""
    try:
        return main()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "detectron2" or ImportError not in errors:
            raise
        print(error, file=sys.stderr)
    except errors as error:
        print_error(error)
    return 1


def print_error(error: Exception) -> None:
    """Write the message of an error to stderr."""
    print(error.args[0] if isinstance(error, KeyError) else error, file=sys.stderr)
