#!/usr/bin/env python
"""Train the same network with different numbers of grid points and seeds, and compare the ways to merge their votes.

    tools/compare_points.py --config-file configs/Synthetic/occluded_1pt.yaml --seeds 1 2 3 --jobs 3 \
        --output output/occluded [KEY VALUE ...]

Every run is ``tools/train_net.py`` with GRID_POINTS and SEED set, in a folder of its own; finished ones are
skipped, interrupted ones resume. Then every checkpoint is evaluated with every merge. Prints a Markdown table and
writes ``results.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

POINTS = {1: [4], 3: [0, 4, 8], 5: [1, 3, 4, 5, 7], 9: list(range(9))}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="a file of configs/, or your own")
    parser.add_argument(
        "--points", type=int, nargs="+", default=[1, 3, 9], choices=POINTS, help="of the grid (default: 1 3 9)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="a training for each (default: 1 2 3)")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=Path("output/compare_points"), help="folder (default: %(default)s)"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs over the configuration")
    return parser.parse_args()


if __name__ == "__main__":
    parse()  # --help and option errors come before the slow imports below


from centernet_d2.checkpoint.checkpointer import SafeCheckpointer
from centernet_d2.engine.setup import setup_cfg
from centernet_d2.engine.trainer import Trainer
from centernet_d2.modeling.tasks.detection import MERGES


def list_options(args: argparse.Namespace, points: int, seed: int) -> list[str]:
    folder = args.output / f"{points}pt_seed{seed}"
    own = ["MODEL.CENTERNET.GRID_POINTS", str(POINTS[points]), "SEED", str(seed), "OUTPUT_DIR", str(folder)]
    return [*args.opts, *own]


def train(args: argparse.Namespace, points: int, seed: int) -> Path:
    """Run one training, its output in ``log.txt`` of its folder; returns the final checkpoint."""
    folder = args.output / f"{points}pt_seed{seed}"
    final = folder / "model_final.pth"
    if not final.exists():
        folder.mkdir(parents=True, exist_ok=True)
        tool = Path(__file__).with_name("train_net.py")
        command = [
            sys.executable,
            str(tool),
            "--resume",
            "--config-file",
            args.config_file,
            *list_options(args, points, seed),
        ]
        with open(folder / "console.txt", "w") as console:
            subprocess.run(command, stdout=console, stderr=subprocess.STDOUT, check=True)
    print(f"trained: {final}", flush=True)
    return final


def evaluate(args: argparse.Namespace, points: int, seed: int, weights: Path) -> dict[str, dict[str, float]]:
    """Box metrics (COCO, per cent) by merge; one point has nothing to merge."""
    cfg = setup_cfg(args.config_file, [*list_options(args, points, seed), "MODEL.WEIGHTS", str(weights)])
    model = Trainer.build_model(cfg).eval()
    SafeCheckpointer(model).load(str(weights))
    predictions = {}
    for merge in MERGES if points > 1 else ("vote",):
        model.task.merge_method = merge
        predictions[merge if points > 1 else "none"] = {
            k: float(v) for k, v in Trainer.test(cfg, model)["bbox"].items()
        }
    return predictions


def format_table(results: dict[str, dict[str, dict[str, float]]], points: list[int]) -> str:
    rows = ["| points | merge | AP | AP50 | AP75 |", "|---|---|---|---|---|"]
    for count in points:
        runs = [run for name, run in results.items() if name.startswith(f"{count}pt_")]
        for merge in runs[0]:
            cells = [_format_spread([run[merge][metric] for run in runs]) for metric in ("AP", "AP50", "AP75")]
            rows.append(f"| {count} | {merge} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _format_spread(values: list[float]) -> str:
    center = f"{statistics.mean(values):.1f}"
    return center if len(values) == 1 else f"{center} ± {statistics.stdev(values):.1f}"


def main() -> None:
    args = parse()
    runs = [(points, seed) for seed in args.seeds for points in args.points]
    with ThreadPoolExecutor(args.jobs) as pool:
        weights = list(pool.map(lambda run: train(args, *run), runs))
    results = {}
    for (points, seed), path in zip(runs, weights, strict=True):
        results[f"{points}pt_seed{seed}"] = evaluate(args, points, seed, path)
        (args.output / "results.json").write_text(json.dumps(results, indent=1))
    print(format_table(results, args.points))


if __name__ == "__main__":
    main()
