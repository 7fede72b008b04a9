"""The command ``centernet-d2``, also ``python -m centernet_d2``. The scripts in ``tools/`` and ``datasets/`` call it.

Each command is a module with ``main(arguments, prog)``. Nothing slow is imported before the options are read.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

from centernet_d2 import __version__

#: Command -> what it does. Its module has the same name, with "_" for "-".
COMMANDS = {
    "train": "train a model",
    "evaluate": "score a model on a dataset",
    "predict": "find objects in images, folders, videos, or a camera's images",
    "export": "write a model as ONNX or TorchScript",
    "check-data": "list everything wrong with a dataset",
    "show-data": "draw a dataset, the network's inputs and targets",
    "prepare-data": "convert the download of a known dataset to COCO's format",
    "convert-labels": "convert labels from one format to another, edit classes, make splits",
    "convert": "rename the weights of a CenterNet checkpoint, or show what is in one",
    "analyze": "parameters, operations, size and time of networks",
    "report": "write the HTML report of a training or an evaluation again",
    "models": "list trained models, or download one",
    "install-detectron2": "install Detectron2, which is not on the Python package index",
}
NO_DETECTRON2 = (
    "Detectron2 is not installed (predicting with an exported ONNX file works without it): "
    "run `centernet-d2 install-detectron2`"
)


def format_usage() -> str:
    """What ``centernet-d2 --help`` prints."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())
    return (
        f"usage: centernet-d2 COMMAND [options]\n\n{commands}\n\n"
        "centernet-d2 COMMAND --help explains the options, with an example.\n"
        "    centernet-d2 predict --model centerface photo.jpg"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(format_usage(), file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] == "--version":
        print(f"centernet_d2 {__version__}")
        return 0
    name = words[0]
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else "centernet-d2 --help lists the commands"
        print(f"centernet-d2: there is no command {name!r}; {hint}", file=sys.stderr)
        return 2
    return run(name, words[1:], f"centernet-d2 {name}")


def run(name: str, arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run one command; returns the exit status.

    Args:
        arguments: None: those of the process.
        prog: name of the program in messages; None: that of the script.
    """
    command = importlib.import_module(f"centernet_d2.cli.{name.replace('-', '_')}")
    try:
        return command.main(arguments, prog) or 0
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "detectron2":
            raise
        print(f"error: {NO_DETECTRON2}", file=sys.stderr)
        return 1
