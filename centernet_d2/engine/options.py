"""The options of the training command. This file imports nothing slow, so that --help is quick."""

from __future__ import annotations

import argparse


def argument_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with Detectron2's options for training and evaluation."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="", metavar="FILE", help="a file of configs/, or your own")
    parser.add_argument(
        "--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS (with --resume: the last checkpoint)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR, if any")
    parser.add_argument("--num-gpus", type=int, default=1, help="per machine; with MODEL.DEVICE cpu: processes")
    parser.add_argument("--num-machines", type=int, default=1, help="that train together (default: 1)")
    parser.add_argument("--machine-rank", type=int, default=0, help="of this machine, 0 .. num-machines - 1")
    parser.add_argument("--dist-url", default="auto", help="tcp://<address of machine 0>:<port>, with several machines")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY=value", help="config keys to change")
    return parser
