"""Conv-BN fusion: batch normalizations move into the convolutions before them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from centernet_d2.layers.deform_conv import ModulatedDeformConv2d

#: Normalizations that can be fused; timm's, which are frozen or not, are subclasses.
BATCH_NORMS = (_BatchNorm, FrozenBatchNorm2d)


@torch.no_grad()
def fuse_batch_norm(network: nn.Module, run: Callable[[], Any]) -> None:
    """Fuse batch normalizations of ``network`` in place. Outputs stay the same except for rounding.

    A normalization is fused if it is the only reader of a convolution's output (plain, transposed or deformable).
    Others stay: in front of convolutions, behind additions, activations and concatenations (as in DenseNet), and
    behind transposed convolutions of several groups. Modules keep their positions, so that hooks stay as well, but
    there
    are no weights of normalizations any more: load a checkpoint before.

    Args:
        network: in evaluation mode.
        run: calls ``network`` on any input as in prediction and returns the outputs. It is called once to record the
            order of operations, which modules do not tell.

    Raises:
        ValueError: the network is in training mode, where normalizations depend on the batch.
    """
    if network.training:
        raise ValueError("only a network in evaluation mode can be fused: call eval() first")
    watch = _Watch(network)
    with watch:
        for result in _list_tensors(run()):
            result.clone()  # counts as another reader
    pairs = watch.list_pairs()
    # These use their weights in more than one operation.
    deformable = [m for m in network.modules() if isinstance(m, ModulatedDeformConv2d)]
    pairs += [(m, m.norm) for m in deformable if isinstance(m.norm, BATCH_NORMS)]
    for convolution, norm in pairs:
        statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        transposed = isinstance(convolution, nn.ConvTranspose2d)
        weights = fuse_conv_bn_weights(convolution.weight, convolution.bias, *statistics, transposed)
        convolution.weight, convolution.bias = weights
    rests = {norm: _get_rest(norm) for _, norm in pairs}
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if module in rests:
            network.set_submodule(name, rests[module])


def _get_rest(norm: nn.Module) -> nn.Module:
    """Return the dropout and activation inside timm's normalizations."""
    return nn.Sequential(*[getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)])


class _Watch(TorchFunctionMode):
    """Records which modules read the outputs of convolutions while it is active."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # Keys are tensor ids: operations get the tensors themselves.
        self._convolutions: dict[int, nn.Module] = {}
        self._norms: dict[int, nn.Module] = {}
        for module in network.modules():
            # Of several transposed groups, channels lie in another order; a weight that is computed is new each time.
            plain = isinstance(module, nn.Conv2d) or (isinstance(module, nn.ConvTranspose2d) and module.groups == 1)
            if plain and isinstance(module.weight, nn.Parameter):
                self._convolutions[id(module.weight)] = module
            elif isinstance(module, BATCH_NORMS) and module.running_mean is not None:
                self._norms[id(module.running_mean)] = module
        self._made_by = WeakTensorKeyDictionary()
        self._readers: dict[nn.Module, set[nn.Module | None]] = defaultdict(set)
        self._sources: dict[nn.Module, set[nn.Module | None]] = defaultdict(set)

    def list_pairs(self) -> list[tuple[Any, Any]]:
        """Return pairs of a convolution and the normalization that is its only reader."""
        predictions = []
        for norm, sources in self._sources.items():
            convolution = next(iter(sources))
            if convolution is not None and len(sources) == 1 and self._readers[convolution] == {norm}:
                predictions.append((convolution, norm))
        return predictions

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if not _list_tensors(result):  # sizes and types are requested
            return result
        given = _list_tensors((args, kwargs))
        norm = next((self._norms[id(x)] for x in given if id(x) in self._norms), None)
        for x in given:
            if x in self._made_by:
                self._readers[self._made_by[x]].add(norm)
        if norm is not None:
            self._sources[norm].add(self._made_by.get(given[0]))
        for convolution in (self._convolutions[id(x)] for x in given if id(x) in self._convolutions):
            self._made_by.update(dict.fromkeys(_list_tensors(result), convolution))
        return result


def _list_tensors(tree: Any) -> list[Tensor]:
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]
