#!/usr/bin/env python
"""Train detectors on the same images, with the same backbone, input, augmentation, schedule and evaluator.

    tools/compare_detectors.py --config-file configs/Custom/small.yaml --seeds 0 1 2 --output output/comparison \\
        DATASETS.CUSTOM '[["mine_train", "voc", "bccd", "train"], ["mine_val", "voc", "bccd", "val"]]'

"ours" is the config as it is; "fcos" and "retinanet" are torchvision's, over P3 to P7 of the config's backbone, with
their own learning rate; "yolo11n" is Ultralytics' own training from random weights, where that is installed. Finished
trainings are skipped, interrupted ones resume. Prints a Markdown table, and writes it with all figures to
``results.md`` and ``results.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

# Options over the config.
DETECTORS: dict[str, list[str]] = {
    "ours": [],
    "fcos": ["MODEL.META_ARCHITECTURE", "TorchvisionFCOS", "MODEL.NECK.NAME", "", "SOLVER.BASE_LR", "0.001"],
    "retinanet": ["MODEL.META_ARCHITECTURE", "TorchvisionRetinaNet", "MODEL.NECK.NAME", "", "SOLVER.BASE_LR", "0.0005"],
}
YOLO = "yolo11n"
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="ours; it must find boxes")
    parser.add_argument("--detectors", nargs="+", choices=[*DETECTORS, YOLO], default=list(DETECTORS),
                        help=f"(default: all but {YOLO}, which needs ultralytics)")  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="a training for each (default: 0 1 2)")
    parser.add_argument("--output", type=Path, default=Path("output/comparison"), help="folder (default: %(default)s)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs over the configuration")
    return parser.parse_args()


if __name__ == "__main__":
    ARGS = parse()  # --help and option errors come before the slow imports below

import numpy as np
import torch
from benchmarks import torchvision_detectors  # noqa: F401  # registers them
from benchmarks.ultralytics_yolo import train_yolo
from detectron2.config import CfgNode

from centernet_d2.checkpoint.checkpointer import SafeCheckpointer
from centernet_d2.data.build import build_test_loader
from centernet_d2.engine.run import make_run_options, run
from centernet_d2.engine.setup import setup_cfg
from centernet_d2.engine.trainer import Trainer


def train(args: argparse.Namespace, detector: str, seed: int) -> dict[str, Any]:
    """Return the figures of one training, which ends in ``result.json`` of its folder."""
    folder = args.output / f"{detector}_seed{seed}"
    path = folder / "result.json"
    if path.exists():
        return json.loads(path.read_text())
    opts = [*args.opts, *DETECTORS.get(detector, []), "SEED", str(seed), "OUTPUT_DIR", str(folder)]
    if detector == YOLO:
        result = train_yolo(setup_cfg(args.config_file, opts), folder)
    else:
        result = train_with_trainer(args.config_file, opts, folder)
    path.write_text(json.dumps(result, indent=1))
    return result


def train_with_trainer(config_file: str, opts: list[str], folder: Path) -> dict[str, Any]:
    """Return the figures of one training by this project's trainer."""
    start = time.monotonic()
    boxes = run(make_run_options(config_file, opts, resume=True))["bbox"]
    return {
        "boxes": {name: float(value) for name, value in boxes.items()},
        "minutes": (time.monotonic() - start) / 60,
        **measure_network(setup_cfg(config_file, [*opts, "MODEL.WEIGHTS", str(folder / "model_final.pth")])),
    }


def measure_network(cfg: CfgNode) -> dict[str, float]:
    """Return millions of parameters, and milliseconds from an image to its boxes: the median of 20 test images."""
    model = Trainer.build_model(cfg).eval()
    SafeCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    times = []
    for batch in build_test_loader(cfg, cfg.DATASETS.TEST[0]):
        for sample in batch:
            start = time.perf_counter()
            with torch.no_grad():
                model([sample])
            times.append(time.perf_counter() - start)
        if len(times) > 20:
            break
    parameters = sum(x.numel() for x in model.parameters())
    return {"parameters": parameters / 1e6, "milliseconds": 1e3 * float(np.median(times[1:21]))}


def format_table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return one row for each detector: mean and standard deviation over its seeds."""
    header = ["detector", *METRICS, "millions of parameters", "ms per image", "minutes of training"]
    rows = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for detector, runs in results.items():
        cells = [format_spread([run["boxes"].get(name, float("nan")) for run in runs]) for name in METRICS]
        others = [np.median([run[name] for run in runs]) for name in ("parameters", "milliseconds", "minutes")]
        rows.append(f"| {detector} | " + " | ".join([*cells, *(f"{value:.1f}" for value in others)]) + " |")
    return "\n".join(rows)


def format_spread(values: list[float]) -> str:
    mean = f"{np.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.1f}"


def main(args: argparse.Namespace) -> None:
    results: dict[str, list[dict[str, Any]]] = {detector: [] for detector in args.detectors}
    for seed in args.seeds:
        for detector in args.detectors:
            results[detector].append(train(args, detector, seed))
            done = {name: runs for name, runs in results.items() if runs}
            (args.output / "results.json").write_text(json.dumps(done, indent=1))
            (args.output / "results.md").write_text(format_table(done) + "\n")
    print(format_table(results))


if __name__ == "__main__":
    main(ARGS)
