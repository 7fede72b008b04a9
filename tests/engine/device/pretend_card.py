"""A rehearsal of a GPU without one: how often does the host wait for the device?

Tensors of :class:`CardTensor` say that they are on "card:0", and are computed on the CPU. An operation on tensors of
both places raises, as CUDA does, and what would make the host wait is counted, by the line of the package that asks:

* a value, or a size that depends on values (``item``, ``nonzero``, boolean indices, ...);
* a copy to the host;
* a copy to the device that is not ``non_blocking``, also the hidden one of ``torch.tensor(..., device=...)``.

It registers a backend, so it is to be run in a process of its own: :func:`start_rehearsals`. Kernels, streams, memory
and speed are a real card's alone.
"""

from __future__ import annotations

import logging
import multiprocessing
import sys
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_any, tree_iter, tree_map, tree_map_only

#: Whether this version of PyTorch lets Python code define a device.
AVAILABLE = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")
CARD = "card"
PACKAGE = Path(__file__).parents[3] / "centernet_d2"

# The results of these depend on values, or their sizes do.
VALUES = frozenset(
    (
        *("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "bincount"),
        *("_unique2", "unique_dim", "unique_consecutive"),
    )
)
# These take indices of the host, and copy them.
INDEXING = frozenset(["index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"])
COPIES = frozenset(["_to_copy", "copy_"])


class CardTensor(Tensor):
    """A tensor on the card; its numbers are in ``host``."""

    host: Tensor
    is_cuda = True  # so that the package takes its ways for GPUs

    @staticmethod
    def __new__(cls, host: Tensor, requires_grad: bool = False) -> CardTensor:
        geometry = {"strides": host.stride(), "storage_offset": host.storage_offset(), "layout": host.layout}
        device = torch.device(CARD, 0)
        made = Tensor._make_wrapper_subclass(
            cls, host.shape, dtype=host.dtype, device=device, requires_grad=requires_grad, **geometry
        )
        made.host = host
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"CardTensor({self.host!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _active.run(func, args, kwargs or {})


class Rehearsal(TorchDispatchMode):
    """Runs the operations on the card, and counts waits: ``waits["file:line operation"]``."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self._factories = _Factories(self)

    def __enter__(self) -> Rehearsal:
        global _active
        _active = self
        self._factories.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._factories.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Return the result of an operation, on the card if it belongs there."""
        name = func.overloadpacket.__name__
        on_card = tree_any(is_on_card, (args, kwargs))
        if on_card:
            self._look(name, args, kwargs)
        result = func(*tree_map(get_host, args), **tree_map(get_host, kwargs))
        if name in COPIES:
            return self._copy(name, args, kwargs, result, on_card)
        if name.endswith("_") and isinstance(args[0], Tensor):
            return args[0]
        return tree_map_only(Tensor, CardTensor, result) if on_card or names_card(kwargs.get("device")) else result

    def _look(self, name: str, args: Any, kwargs: Any) -> None:
        """Count the waits of an operation on the card, and refuse what mixes places."""
        others = [x for x in tree_iter((args, kwargs)) if isinstance(x, Tensor) and not is_on_card(x) and x.dim()]
        indices = tree_any(lambda x: isinstance(x, Tensor), args[1]) if name in INDEXING else False
        if others and name not in COPIES and not indices:
            raise RuntimeError(f"{name} of tensors on the card and of {[tuple(x.shape) for x in others]} on the host")
        if name in VALUES or (name == "repeat_interleave" and kwargs.get("output_size") is None):
            self.count(name)
        if indices:
            if any(x is not None and x.dtype == torch.bool for x in args[1]):
                self.count(f"{name} by a mask")
            if any(isinstance(x, Tensor) and not is_on_card(x) for x in args[1]):
                self.count(f"{name} by indices on the host")

    def _copy(self, name: str, args: Any, kwargs: Any, result: Tensor, on_card: bool) -> Any:
        if name == "copy_":
            target, source = args[0], args[1]
            if is_on_card(target) != is_on_card(source):
                self._count_copy(is_on_card(target), args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
            return target
        device = kwargs.get("device")
        stays = on_card if device is None else names_card(device)
        if stays != on_card:
            self._count_copy(stays, kwargs.get("non_blocking", False))
        return CardTensor(result) if stays else result

    def _count_copy(self, to_card: bool, non_blocking: bool) -> None:
        if not to_card:
            self.count("copy to the host")
        elif not non_blocking:
            self.count("blocking copy to the card")

    def count(self, what: str) -> None:
        """Count a wait for ``what``, with the innermost line of the package."""
        frame: Any = sys._getframe()
        while frame is not None and not frame.f_code.co_filename.startswith(str(PACKAGE)):
            frame = frame.f_back
        where = f"{Path(frame.f_code.co_filename).relative_to(PACKAGE)}:{frame.f_lineno}" if frame else "elsewhere"
        self.waits[f"{where} {what}"] += 1


class _Factories(TorchFunctionMode):
    """``torch.tensor`` and its like, which dispatch does not see. They copy their numbers to the card, and wait."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        super().__init__()
        self.rehearsal = rehearsal

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and names_card(kwargs.get("device")):
            made = func(*args, **{**kwargs, "device": "cpu"})
        elif func is Tensor.new_tensor and is_on_card(args[0]):
            made = torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs})
        else:
            return func(*args, **kwargs)
        self.rehearsal.count("numbers copied to the card")
        return CardTensor(made)


# The backward pass runs in another thread, where modes are not active.
_active = Rehearsal()


def is_on_card(x: Any) -> bool:
    return isinstance(x, CardTensor)


def names_card(device: Any) -> bool:
    return device is not None and torch.device(device).type == CARD


def get_host(x: Any) -> Any:
    """Return what the CPU computes with in place of ``x``."""
    if isinstance(x, CardTensor):
        return x.host
    return torch.device("cpu") if isinstance(x, torch.device) and x.type == CARD else x


class _Backend(backend_registration._DummyBackendModule if AVAILABLE else object):  # type: ignore[misc]
    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


def register_card() -> None:
    """Make "card" a device of this process, and its training quiet."""
    backend_registration._setup_privateuseone_for_python_backend(CARD, _Backend())
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def move_to_card(model: nn.Module) -> nn.Module:
    """``model.to("card")``, in place."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(CardTensor(parameter.detach()), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = CardTensor(buffer)
    return model


def start_rehearsals() -> ProcessPoolExecutor:
    """Return a process in which the card exists."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), register_card)


def rehearse(config: str, opts: list[Any], reading_head: bool = False) -> dict[str, dict[str, int]]:
    """Train and predict one batch of ``config``; return the waits of "forward", "backward", "check" and "predict".

    "check" is of the gradients; what it copies to the host behind the next step's back counts as none.

    Args:
        reading_head: the first head reads a number of its map, as none should.
    """
    from detectron2.modeling import build_model

    from centernet_d2.data.build import build_test_loader, build_train_loader
    from centernet_d2.engine.setup import setup_cfg

    cfg = setup_cfg(config, [*opts, "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", 0, "MODEL.WEIGHTS", ""])
    torch.manual_seed(0)
    train, test = next(iter(build_train_loader(cfg))), next(iter(build_test_loader(cfg, cfg.DATASETS.TEST[0])))
    model = move_to_card(build_model(cfg))
    if reading_head:
        head = next(iter(model.task.heads.values()))
        head.register_forward_hook(lambda _, __, maps: next(tree_iter(maps)).sum().item() and None)
    waits = {}
    with Rehearsal() as rehearsal:
        total = sum(model.train()(train).values())
        waits["forward"] = dict(rehearsal.waits)
        rehearsal.waits.clear()
        total.backward()
        waits["backward"] = dict(rehearsal.waits)
        rehearsal.waits.clear()
        check_gradients(model, train)
        waits["check"] = dict(rehearsal.waits)
        rehearsal.waits.clear()
        model.eval()(test)
        waits["predict"] = dict(rehearsal.waits)
    return waits


def check_gradients(model: nn.Module, batch: list[dict[str, Any]]) -> None:
    """Look at the gradients before a step of an optimizer that leaves it out by itself."""
    from centernet_d2.engine.step import gradients

    check = gradients.GradientCheck(model, torch.optim.SGD(model.parameters(), 0.1))
    check.is_deferred = True
    with mock.patch.object(gradients, "HostCopy"):
        check.measure(0, batch)
    assert is_on_card(check.optimizer.found_inf)  # type: ignore[attr-defined]
