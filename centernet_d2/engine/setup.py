"""From a command line to a configuration."""

from __future__ import annotations

import argparse
import difflib
import logging
from collections.abc import Iterator, Sequence

from detectron2.config import CfgNode
from detectron2.engine import default_setup, defaults
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.logger import setup_logger

from centernet_d2.config import get_cfg
from centernet_d2.config.renamed import rename_pairs
from centernet_d2.config.resolution import resolve

_logger = logging.getLogger(__name__)


def setup_cfg(config_file: str = "", opts: Sequence[str] = ()) -> CfgNode:
    """Return the frozen configuration: defaults, then ``config_file``, then ``opts``.

    ``DATASETS.CUSTOM`` is registered. ``MODEL.CENTERNET.NUM_CLASSES: 0`` and ``MODEL.METADATA`` become what the
    datasets have (see ``resolve_metadata``), and the input gets their shape (see ``match_aspect``).

    Raises:
        ValueError: as :func:`merge_cfg`, or the config disagrees with the datasets.
        FileNotFoundError: there is no such config file, or the datasets' files are needed and absent.
    """
    cfg = resolve(merge_cfg(config_file, opts))
    cfg.freeze()
    return cfg


def merge_cfg(config_file: str = "", opts: Sequence[str] = ()) -> CfgNode:
    """Return the configuration as written, without values from the datasets: defaults, then ``config_file``, then
    ``opts``.

    Args:
        opts: ``KEY=value`` or ``KEY value`` pairs, such as ``["SOLVER.MAX_ITER=100", "MODEL.DEVICE", "cpu"]``.

    Raises:
        ValueError: a key does not exist (the closest are named) or lacks its value.
        FileNotFoundError: there is no such config file.
    """
    cfg = get_cfg()
    if config_file:
        cfg.merge_from_file(config_file)
    pairs = rename_pairs(_pair_options(opts))
    for key, _ in pairs:
        _check_key(cfg, key)
    cfg.merge_from_list([part for pair in pairs for part in pair])
    return cfg


def start_run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Set up logging (screen and OUTPUT_DIR/log.txt), save the config there, and seed this process."""
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="centernet_d2")
    # log.txt would show the colors of the config as escape codes.
    defaults._highlight = lambda code, _: code
    defaults.collect_env_info = _describe_environment
    default_setup(cfg, args)
    sizes = (*cfg.INPUT.SIZE_TRAIN, *cfg.INPUT.SIZE_TEST)
    _logger.info("Network input, height x width: %sx%s in training, %sx%s in evaluation", *sizes)


def _describe_environment() -> str:
    """Detectron2's report without its compiled operators, which this project does not use."""
    return "\n".join(line for line in collect_env_info().splitlines() if not line.startswith("detectron2._C"))


def _pair_options(opts: Sequence[str]) -> Iterator[tuple[str, str]]:
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
            close = ", ".join(difflib.get_close_matches(key, list(_list_keys(cfg)), n=3))
            raise ValueError(f"there is no config key {key!r}" + (f"; did you mean {close}?" if close else ""))
        node = node[part]


def _list_keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from _list_keys(value, f"{prefix}{key}.")
        else:
            yield prefix + key
