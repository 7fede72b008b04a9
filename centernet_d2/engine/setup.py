"""From a command line to a configuration."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterator, Sequence

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from centernet_d2.config import get_cfg
from centernet_d2.config.resolution import resolve


def setup_cfg(config_file: str = "", opts: Sequence[str] = ()) -> CfgNode:
    """The frozen configuration: defaults, then ``config_file``, then ``opts``.

    ``DATASETS.CUSTOM`` is registered, and ``MODEL.CENTERNET.NUM_CLASSES: 0`` becomes what the datasets have.

    Args:
        opts: ``KEY=value`` or ``KEY value`` pairs, such as ``["SOLVER.MAX_ITER=100", "MODEL.DEVICE", "cpu"]``.

    Raises:
        ValueError: a key does not exist (the closest are named), lacks its value, or disagrees with the datasets.
        FileNotFoundError: there is no such config file, or the datasets' files are needed and absent.
    """
    cfg = get_cfg()
    if config_file:
        cfg.merge_from_file(config_file)
    pairs = list(_pairs(opts))
    for key, _ in pairs:
        _check_key(cfg, key)
    cfg.merge_from_list([part for pair in pairs for part in pair])
    cfg = resolve(cfg)
    cfg.freeze()
    return cfg


def start_run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Logging to the screen and OUTPUT_DIR/log.txt, a copy of the config there, and the seed of this process."""
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="centernet_d2")
    default_setup(cfg, args)


def argument_parser(description: str) -> argparse.ArgumentParser:
    """Detectron2's options for training and evaluation."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="", metavar="FILE", help="a file of configs/, or your own")
    parser.add_argument(
        "--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS (with --resume: the last checkpoint)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR, if any")
    parser.add_argument("--num-gpus", type=int, default=1, help="per machine; with MODEL.DEVICE cpu: processes")
    parser.add_argument("--num-machines", type=int, default=1)
    parser.add_argument("--machine-rank", type=int, default=0, help="of this machine, 0 .. num-machines - 1")
    parser.add_argument("--dist-url", default="auto", help="tcp://<address of machine 0>:<port>, with several machines")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY=value", help="config keys to change")
    return parser


def _pairs(opts: Sequence[str]) -> Iterator[tuple[str, str]]:
    rest = iter(opts)
    for option in rest:
        key, equals, value = option.partition("=")
        if not equals:
            try:
                value = next(rest)
            except StopIteration:
                raise ValueError(f"{key} has no value: write {key}=value or {key} value") from None
        yield key, value


def _check_key(cfg: CfgNode, key: str) -> None:
    node = cfg
    for part in key.split("."):
        if not isinstance(node, CfgNode) or part not in node:
            close = ", ".join(difflib.get_close_matches(key, list(_all_keys(cfg)), n=3))
            raise ValueError(f"there is no config key {key!r}" + (f"; did you mean {close}?" if close else ""))
        node = node[part]


def _all_keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from _all_keys(value, f"{prefix}{key}.")
        else:
            yield prefix + key
