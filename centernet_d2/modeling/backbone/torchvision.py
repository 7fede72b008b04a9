"""torchvision's classification networks as backbones, whole but for what comes after the last map."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.utils.file_io import PathHandler, PathManager
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from centernet_d2.checkpoint.download import DownloadError
from centernet_d2.checkpoint.pretrained import suggest_sources

STRIDES = (4, 8, 16, 32)
# Side of the image with which a network is requested its maps; what is pooled to a fixed size has none of theirs.
_PROBE_SIZE = 256


class _Call(NamedTuple):
    """One call of a module: (1, c, H, W) in, (1, d, H', W') out."""

    name: str
    module: nn.Module
    given: Tensor
    result: Tensor


class TorchvisionBackbone(Backbone):
    """(N, 3, H, W) becomes "stride4".."stride32": (N, c, H / R, W / R); H and W multiples of 32.

    A map is what the first block of half its size is given, and at stride 32 the output of the last block: the widening
    1x1 convolution in front of many classifiers is left out. Parameters keep torchvision's names below ``body``.

    Args:
        name: of a classification network of ``torchvision.models.list_models()``.
        norm: "" for BatchNorm as it is, "SyncBN" or "FrozenBN".
        activation: "" for the network's own, or "ReLU" in place of every ReLU6.
        freeze_at: 0, or 2 to 5: what maps of strides up to 2 ** ``freeze_at`` depend on is not trained.

    Raises:
        ValueError: there is no such network, or it does not give these maps.
    """

    def __init__(self, *, name: str, norm: str = "", activation: str = "", freeze_at: int = 0) -> None:
        super().__init__()
        if name not in torchvision.models.list_models(module=torchvision.models):
            raise ValueError(f"MODEL.TORCHVISION.NAME: {name!r} is none of torchvision's classification networks")
        model = torchvision.models.get_model(name)
        if activation not in ("", "ReLU"):
            raise ValueError(f"MODEL.TORCHVISION.ACTIVATION must be '' or 'ReLU', not {activation!r}")
        if activation:
            for path in [path for path, module in model.named_modules() if isinstance(module, nn.ReLU6)]:
                model.set_submodule(path, nn.ReLU(inplace=True))
        try:
            maps = _find_maps(copy.deepcopy(model).to("meta").eval())
        except (AssertionError, RuntimeError, ValueError) as error:
            raise ValueError(f"torchvision's {name} gives no maps (N, c, H / R, W / R) at strides {STRIDES}") from error
        self._out_feature_strides = {f"stride{stride}": stride for stride in STRIDES}
        self._out_features = list(self._out_feature_strides)
        self._out_feature_channels = {key: maps[stride][1] for key, stride in self._out_feature_strides.items()}
        nodes = {maps[stride][0]: key for key, stride in self._out_feature_strides.items()}
        self.body = create_feature_extractor(model, nodes, suppress_diff_warning=True).train()
        if norm == "SyncBN":
            self.body = nn.SyncBatchNorm.convert_sync_batchnorm(self.body)
        elif norm == "FrozenBN":
            self.body = FrozenBatchNorm2d.convert_frozen_batchnorm(self.body)
        elif norm:
            raise ValueError(f"MODEL.TORCHVISION.NORM must be '', 'SyncBN' or 'FrozenBN', not {norm!r}")
        if freeze_at:
            self._freeze(freeze_at)

    @property
    def size_divisibility(self) -> int:
        return STRIDES[-1]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.body(x)

    def _freeze(self, freeze_at: int) -> None:
        key = f"stride{2**freeze_at}"
        if key not in self._out_features:
            raise ValueError(
                f"MODEL.BACKBONE.FREEZE_AT must be 0 or 2 to 5 for torchvision's networks, not {freeze_at}"
            )
        graph = self.body.graph
        last = next(iter(reversed(graph.nodes))).args[0][key]
        for node in graph.nodes:
            if node.op == "call_module":
                module = self.body.get_submodule(node.target).requires_grad_(False)
                self.body.set_submodule(node.target, FrozenBatchNorm2d.convert_frozen_batchnorm(module))
            elif node.op == "get_attr":
                self.body.get_parameter(node.target).requires_grad_(False)
            if node is last:
                return


def _find_maps(model: nn.Module) -> dict[int, tuple[str, int]]:
    """Return, for each stride, the module whose output is the map, and its channels.

    Args:
        model: on the meta device, in evaluation mode: one pass without numbers finds them.

    Raises:
        ValueError: no module halves a map of one of the strides.
    """
    calls: list[_Call] = []

    def remember(name: str, module: nn.Module) -> None:
        def hook(module: nn.Module, given: tuple[object, ...], result: object) -> None:
            if all(isinstance(x, Tensor) and x.dim() == 4 for x in (given[0], result)):
                calls.append(_Call(name, module, given[0], result))  # type: ignore[arg-type]

        module.register_forward_hook(hook)

    for name, module in model.named_modules():
        if name:
            remember(name, module)
    model(torch.empty(1, 3, _PROBE_SIZE, _PROBE_SIZE, device="meta"))

    maps = {}
    for stride in STRIDES[:-1]:
        halving = [c for c in calls if (_get_stride(c.given), _get_stride(c.result)) == (stride, 2 * stride)]
        if not halving:
            raise ValueError(f"no module halves a map of stride {stride}")
        block = min(halving, key=_get_depth)
        maps[stride] = _find_source(block.given, calls)
    parent = block.name.rpartition(".")[0]
    maps[32] = _find_source(_find_last_map([c for c in calls if c.name.rpartition(".")[0] == parent]), calls)
    return maps


def _find_last_map(siblings: list[_Call]) -> Tensor:
    """Return the last map of stride 32, before a final 1x1 convolution that only pointwise functions follow."""
    siblings = [c for c in siblings if _get_stride(c.result) == 32]
    for call in reversed(siblings):
        convolutions = [m for m in call.module.modules() if isinstance(m, nn.Conv2d)]
        if convolutions:
            alone = len(convolutions) == 1 and convolutions[0].kernel_size == (1, 1)
            return call.given if alone else siblings[-1].result
    return siblings[-1].result


def _find_source(x: Tensor, calls: list[_Call]) -> tuple[str, int]:
    """Return the outermost module that gave ``x``, and the channels.

    Of several, the last: others may have worked in place.
    """
    return min((c for c in reversed(calls) if c.result is x), key=_get_depth).name, x.shape[1]


def _get_depth(call: _Call) -> int:
    return call.name.count(".")


def _get_stride(x: Tensor) -> float:
    return _PROBE_SIZE / x.shape[-1] if x.shape[-2] == x.shape[-1] else 0.0


class TorchvisionWeights(PathHandler):
    """MODEL.WEIGHTS "torchvision://<network>": its newest ImageNet weights; "torchvision://<network>/<name>": others.

    They are downloaded once, and read as any other file: no code of it runs.
    """

    PREFIX = "torchvision://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: object) -> str:
        url = get_weights_url(path)
        # torchvision's own cache. The name of a file ends with the start of its SHA-256, which is checked.
        file = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
        if force or not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                torch.hub.download_url_to_file(url, str(file), hash_prefix=file.stem.rpartition("-")[2])
            except OSError as error:
                raise DownloadError(f"{path}: {url}: {error}; {suggest_sources()}") from error
        return str(file)


def get_weights_url(path: str) -> str:
    """Return the URL at torchvision of the weights "torchvision://<network>[/<name>]".

    Raises:
        ValueError: torchvision has no such network or weights.
    """
    network, _, name = path.removeprefix(TorchvisionWeights.PREFIX).partition("/")
    try:
        return torchvision.models.get_model_weights(network)[name or "DEFAULT"].url
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: torchvision has no such weights") from error


PathManager.register_handler(TorchvisionWeights())


@BACKBONE_REGISTRY.register()
def build_torchvision_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TorchvisionBackbone:
    """Build MODEL.TORCHVISION with MODEL.BACKBONE.FREEZE_AT."""
    settings = cfg.MODEL.TORCHVISION
    return TorchvisionBackbone(
        name=settings.NAME,
        norm=settings.NORM,
        activation=settings.ACTIVATION,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )
