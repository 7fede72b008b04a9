"""Faster inference: precision, fusion, compilation, CUDA graphs."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from detectron2.config import CfgNode
from torch import Tensor

from centernet_d2.engine.fusion import fuse_batch_norm
from centernet_d2.modeling.meta_arch import CenterNet

_PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def accelerate(model: CenterNet, cfg: CfgNode) -> None:
    """Change ``model`` (in evaluation mode, with its weights) in place as MODEL.INFERENCE says, for prediction only.

    Raises:
        ValueError: there is no such precision, no GPU for CUDA graphs, or no compiler for COMPILE.
    """
    settings = cfg.MODEL.INFERENCE
    if settings.PRECISION not in _PRECISIONS:
        raise ValueError(f"MODEL.INFERENCE.PRECISION must be one of {list(_PRECISIONS)}, not {settings.PRECISION!r}")
    if settings.CUDA_GRAPHS and model.device.type != "cuda":
        raise ValueError(f"MODEL.INFERENCE.CUDA_GRAPHS needs a GPU, but MODEL.DEVICE is {cfg.MODEL.DEVICE!r}")
    if settings.FUSE_BATCH_NORM:
        side = model.divisibility
        blank = torch.zeros(1, model.input_channels, side, side, device=model.device)
        fuse_batch_norm(model, lambda: model.predict_maps(blank))
    if settings.COMPILE:
        check_compiler("MODEL.INFERENCE.COMPILE", model.device)
        model.compile()
    precision = _PRECISIONS[settings.PRECISION]
    if precision is not None:
        model.run_network = _InPrecision(model, precision)
    if settings.CUDA_GRAPHS:
        model.run_network = CudaGraphs(model.run_network)


def check_compiler(key: str, device: torch.device | str) -> None:
    """Raise ``ValueError``, which names the config ``key``, if ``torch.compile`` cannot build code for ``device``.

    A kernel of one line is built, which takes seconds the first time; else the network would fail in its first step.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=device))
    except RuntimeError as error:
        cause = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{key} is True, but torch.compile cannot build code here: {cause}. Install what it misses (on a CPU a C++ "
            f"compiler, such as g++), or set {key} to False"
        ) from error


class _InPrecision:
    """``CenterNet.predict_maps`` with backbone and neck under autocast. The heads are not: rounded to bfloat16,
    peaks would tie with their neighbors, and sides of large boxes be wrong by a quarter of a cell."""

    def __init__(self, model: CenterNet, precision: torch.dtype) -> None:
        self._model, self._precision = model, precision

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        with torch.autocast(images.device.type, dtype=self._precision):
            features = self._model.extract_features(images)
        return self._model.task.predict_maps([feature.float() for feature in features])


class CudaGraphs:
    """A network on a GPU whose kernels are recorded once for each shape of its input, then started all at once.

    Each shape keeps the memory of all its maps, and its first call takes as long as several.

    Args:
        network: images (N, c, H, W) to maps by name, without looking at any value on the CPU.
    """

    def __init__(self, network: Callable[[Tensor], dict[str, Tensor]]) -> None:
        self._network = network
        self._lock = threading.Lock()
        self._recorded: dict[torch.Size, tuple[torch.cuda.CUDAGraph, Tensor, dict[str, Tensor]]] = {}

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        # Threads share the graphs' memory.
        with self._lock:
            if images.shape not in self._recorded:
                self._recorded[images.shape] = self._record_graph(images.clone())
            graph, given, outputs = self._recorded[images.shape]
            given.copy_(images)
            graph.replay()
            # The next replay writes over them.
            return {name: maps.clone() for name, maps in outputs.items()}

    def _record_graph(self, given: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, dict[str, Tensor]]:
        # On a stream of its own, as recording is: what libraries set up and try out at first must not be recorded.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._network(given)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = self._network(given)
        return graph, given, outputs
