"""Gathers predictions from all processes and drops non-finite ones."""

from __future__ import annotations

import io
import logging
import pickle
from typing import Any, TypeVar

import numpy as np
import torch
from detectron2.structures import Instances
from detectron2.utils import comm
from torch import Tensor

T = TypeVar("T")
_logger = logging.getLogger(__name__)
# Bytes that every array's place is a multiple of, so that it can be read where it lies.
_ALIGNMENT = 16


def gather_predictions(predictions: dict[Any, T], dataset_name: str, num_images: int) -> dict[Any, T] | None:
    """Return the predictions of all processes by image in the main process, None in the others.

    An image that two processes evaluated (padding of the sampler) counts once. A warning says how many of the
    ``num_images`` are missing.
    """
    gathered = gather_arrays(predictions)
    if not comm.is_main_process():
        return None
    together = {key: one for part in gathered for key, one in part.items()}
    if len(together) < num_images:
        _logger.warning("Only %d of the %d images of %s were evaluated", len(together), num_images, dataset_name)
    return together


def gather_arrays(value: T) -> list[T]:
    """Return the values of all processes, by rank, in the main process, [] in the others.

    Unlike Detectron2's ``comm.gather``, arrays (NumPy's, and tensors on the CPU) are not pickled: their bytes are sent
    as they are, in one tensor for each process. What is around them (dicts, names, shapes) is pickled as before.
    """
    if comm.get_world_size() == 1:
        return [value]
    own = _pack(value)
    group = comm._get_global_gloo_group()
    sizes = [torch.zeros(2, dtype=torch.int64) for _ in range(comm.get_world_size())]
    torch.distributed.all_gather(sizes, torch.tensor([len(x) for x in own]), group=group)
    # All processes must send equally many bytes.
    length = max(int(x.sum()) for x in sizes)
    padded = torch.zeros(length, dtype=torch.uint8)
    torch.cat(own, out=padded[: sum(map(len, own))])
    blocks = [torch.empty_like(padded) for _ in sizes] if comm.is_main_process() else None
    torch.distributed.gather(padded, blocks, dst=0, group=group)
    return [_unpack(*x[: n.sum()].split(n.tolist())) for x, n in zip(blocks or (), sizes, strict=False)]


class _Pickler(pickle.Pickler):
    """Also takes a tensor's bytes out, which Python does by itself with NumPy's arrays only."""

    def reducer_override(self, x: Any) -> Any:
        return (torch.from_numpy, (x.numpy(),)) if isinstance(x, Tensor) else NotImplemented


def _pack(value: Any) -> list[Tensor]:
    """Return the bytes of all arrays of a nested value, each at a multiple of ``_ALIGNMENT``, and those of all else."""
    arrays: list[pickle.PickleBuffer] = []
    rest = io.BytesIO()
    _Pickler(rest, protocol=5, buffer_callback=arrays.append).dump(value)
    parts = [np.frombuffer(x.raw(), np.uint8) for x in arrays]
    gap = np.zeros(_ALIGNMENT, np.uint8)
    block = np.concatenate([gap[:0], *(x for part in parts for x in (part, gap[: -len(part) % _ALIGNMENT]))])
    pickled = pickle.dumps(([len(x) for x in parts], rest.getvalue()))
    return [torch.from_numpy(block), torch.frombuffer(bytearray(pickled), dtype=torch.uint8)]


def _unpack(block: Tensor, pickled: Tensor) -> Any:
    """Return the value of :func:`_pack`; its arrays share the memory of ``block``."""
    lengths, rest = pickle.loads(pickled.numpy().data)
    memory, arrays, start = block.numpy().data, [], 0
    for length in lengths:
        arrays.append(memory[start : start + length])
        start += length + -length % _ALIGNMENT
    return pickle.loads(rest, buffers=arrays)


def convert_to_columns(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return entries of equal keys, as COCO's results, as an array for each key whose values are numbers or lists of
    equally many, and a list for each other. :func:`convert_to_entries` is the inverse, exactly."""
    columns = {key: [one[key] for one in entries] for key in (entries or [{}])[0]}
    return {key: x if isinstance(x[0], (str, dict)) else np.array(x) for key, x in columns.items()}


def convert_to_entries(columns: dict[str, Any]) -> list[dict[str, Any]]:
    lists = [x.tolist() if isinstance(x, np.ndarray) else x for x in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]


def select_finite_detections(instances: Instances) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes (P, 4) and scores (P,), float64, and classes (P,) int64; non-finite detections are dropped."""
    instances = instances.to("cpu")
    boxes, scores = instances.pred_boxes.tensor.double().numpy(), instances.scores.double().numpy()
    usable = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    return boxes[usable], scores[usable], instances.pred_classes.numpy()[usable]
