"""What ``tools/benchmark.py`` times of whole networks: predicting, training, from an image to boxes, exported."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from benchmarks import baselines
from benchmarks.parts import CLASSES, GRID, POINTS, Row, sample_instances, sample_objects
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor, nn

from centernet_d2 import get_cfg
from centernet_d2.engine import Predictor
from centernet_d2.engine.acceleration import accelerate
from centernet_d2.export.onnx import export_onnx
from centernet_d2.runtime.onnx_model import OnnxPredictor

if TYPE_CHECKING:
    from benchmarks.reference import Reference

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "COCO-Detection"
IMAGE = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)


def make_config(name: str, args: argparse.Namespace) -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / f"centernet_{name}_1pt.yaml"))
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS, cfg.MODEL.CENTERNET.NUM_CLASSES = args.device, "", CLASSES
    cfg.MODEL.ALLOW_INCOMPLETE_WEIGHTS = True  # speed does not depend on them
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    return cfg


def load_reference(name: str, args: argparse.Namespace) -> Reference | None:
    return args.published if args.published and args.published.has(name) else None


def time_networks(args: argparse.Namespace) -> list[Row]:
    """As training and ``Predictor`` run it; the baseline is the reference network in float32."""
    rows: list[Row] = []
    low = "float16" if args.device == "cuda" else "bfloat16"
    for name in args.networks:
        reference = load_reference(name, args)
        theirs = reference.build_network(name, args.device).eval() if reference else None
        for label, fold, precision in [
            ("as trained, float32", False, "float32"),
            ("fused, float32", True, "float32"),
            (f"fused, {low}", True, low),
        ]:
            cfg = make_config(name, args)
            cfg.MODEL.INFERENCE.FUSE_BATCH_NORM, cfg.MODEL.INFERENCE.PRECISION = fold, precision
            model = build_model(cfg).eval()
            accelerate(model, cfg)
            for count in args.batches:
                batch = torch.randn(count, 3, 512, 512, device=args.device)

                @torch.no_grad()
                def run_ours(model: Any = model, batch: Tensor = batch) -> None:
                    model.run_network(batch)

                @torch.no_grad()
                def run_reference(theirs: nn.Module | None = theirs, batch: Tensor = batch) -> None:
                    assert theirs is not None
                    theirs(batch)

                rows.append(
                    (f"network, {name}, {count} x 512x512, {label}", run_ours, run_reference if theirs else None)
                )
    return rows


def time_training_steps(args: argparse.Namespace) -> list[Row]:
    """Forward, backward and Adam's step, eight objects each; the baseline is the reference network with its losses."""
    rows: list[Row] = []
    boxes, classes = sample_objects(8)
    image = torch.randint(0, 256, (3, 512, 512), dtype=torch.uint8)
    inputs = [{"image": image, "instances": sample_instances(8)}] * 2
    dense = baselines.make_targets(boxes, classes, POINTS[1], CLASSES, GRID)
    batch = {key: torch.from_numpy(value)[None].repeat_interleave(2, 0) for key, value in dense.items()}
    batch = {key: value.squeeze(-1) if key in ("index", "mask") else value for key, value in batch.items()}
    batch = {key: value.to(args.device) for key, value in (batch | {"input": torch.randn(2, 3, 512, 512)}).items()}

    def step(loss: Callable[[], Tensor], optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    for name in args.networks:
        cfg = make_config(name, args)
        model = build_model(cfg).train()
        optimizer = torch.optim.Adam(model.parameters(), 1e-4)

        def run_ours(model: Any = model, optimizer: Any = optimizer) -> None:
            step(lambda: sum(model(inputs).values()), optimizer)  # type: ignore[arg-type]

        run_reference, reference = None, load_reference(name, args)
        if reference:
            theirs = reference.build_network(name, args.device).train()
            other = torch.optim.Adam(theirs.parameters(), 1e-4)

            def run_reference(theirs: nn.Module = theirs, other: Any = other, reference: Reference = reference) -> None:
                step(lambda: reference.compute_losses(theirs, batch), other)

        rows.append((f"training step, {name}, 2 x 512x512", run_ours, run_reference))
    return rows


def time_predictors(args: argparse.Namespace) -> list[Row]:
    """An image in memory to its boxes."""
    rows: list[Row] = []
    for name in args.networks:
        reference = load_reference(name, args)
        cfg = make_config(name, args)
        theirs = reference.build_predictor(name, cfg) if reference else None
        plain = (lambda theirs=theirs: theirs(IMAGE)) if theirs else None
        for precision in ("float32", "float16" if args.device == "cuda" else "bfloat16"):
            cfg = make_config(name, args)
            cfg.MODEL.INFERENCE.PRECISION = precision
            predictor = Predictor(cfg)
            rows.append(
                (f"predictor, {name}, 640x480, {precision}", lambda predictor=predictor: predictor(IMAGE), plain)
            )
    return rows


def time_exports(args: argparse.Namespace) -> list[Row]:
    """ONNX Runtime, and OpenVINO where it is installed; the baseline is our own ``Predictor``, in float32."""
    rows: list[Row] = []
    for name in args.networks:
        cfg = make_config(name, args)
        path = str(Path(args.folder) / f"{name}.onnx")
        if not Path(path).is_file():
            export_onnx(cfg, build_model(cfg).eval(), path)
        eager = Predictor(cfg)
        for runtime in [x for x in ("onnxruntime", "openvino") if importlib.util.find_spec(x)]:
            exported = OnnxPredictor(path, torch.get_num_threads(), runtime)
            rows.append(
                (
                    f"{runtime}, {name}, 640x480; baseline: Predictor",
                    lambda exported=exported: exported(IMAGE),
                    lambda eager=eager: eager(IMAGE),
                )
            )
    return rows


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "network": time_networks, "step": time_training_steps, "predictor": time_predictors, "export": time_exports,
}  # fmt: skip
