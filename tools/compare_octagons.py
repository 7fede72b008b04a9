#!/usr/bin/env python
"""Compare the masks of a contour model (LSNetContourTask) with octagons of extreme points, class by class.

    tools/compare_octagons.py --config-file output/contours/config.yaml [KEY VALUE ...]

Octagons are made of the contours' own extreme points, with the same boxes and scores, and of the annotations' ("true
octagons": what a perfect model of extreme points would reach). Prints a Markdown table of mask AP. Weights are those of
MODEL.WEIGHTS, or model_final.pth in OUTPUT_DIR.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="of a training's folder, or of configs/")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs over the configuration")
    return parser.parse_args()


if __name__ == "__main__":
    parse()  # --help and option errors come before the slow imports below


import torch
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import Tensor

from centernet_d2.checkpoint.checkpointer import SafeCheckpointer
from centernet_d2.data.build import build_test_loader
from centernet_d2.data.schemas.extreme4 import find_extreme_points
from centernet_d2.engine.setup import setup_cfg
from centernet_d2.engine.trainer import Trainer
from centernet_d2.evaluation import build_evaluator
from centernet_d2.ops.extreme_points import compute_extreme_boxes, make_octagon_masks

KINDS = ("contours", "octagons of the contours", "true octagons")


def draw_octagons(instances: Instances, outlines: list[Tensor]) -> Instances:
    """Return ``instances`` with octagons of ``outlines`` ((V, 2) each) as masks."""
    points = [torch.from_numpy(find_extreme_points([outline.double().numpy()])).float() for outline in outlines]
    extreme_points = torch.stack(points) if points else torch.zeros(0, 4, 2)
    result = Instances(instances.image_size, **instances.get_fields())
    result.pred_boxes = Boxes(compute_extreme_boxes(extreme_points))
    result.pred_masks = make_octagon_masks(extreme_points, result.pred_boxes.tensor)
    return detector_postprocess(result, *instances.image_size)


def annotate(record: dict[str, Any]) -> tuple[Instances, list[Tensor]]:
    """Return the annotations of a dataset dict as sure predictions, and the outlines of their largest parts."""
    result = Instances((record["height"], record["width"]))
    parts = [
        [torch.tensor(part).view(-1, 2) for part in annotation["segmentation"]] for annotation in record["annotations"]
    ]
    result.scores = torch.ones(len(parts))
    result.pred_classes = torch.tensor([x["category_id"] for x in record["annotations"]], dtype=torch.int64)
    return result, [max(own, key=lambda part: float((part.amax(0) - part.amin(0)).prod())) for own in parts]


@torch.no_grad()
def compare(cfg: Any, model: Any) -> dict[str, dict[str, float]]:
    """Return the mask AP of each of ``KINDS``, "AP" of all classes and "AP-<class>"."""
    name = cfg.DATASETS.TEST[0]
    records = {record["image_id"]: record for record in DatasetCatalog.get(name)}
    evaluators: list[DatasetEvaluator] = []
    for number in range(len(KINDS)):
        own = cfg.clone()
        own.defrost()
        own.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR) / f"octagons_{number}")
        evaluators.append(build_evaluator(own, name))
        evaluators[-1].reset()
    for batch in build_test_loader(cfg, name):
        for sample, output in zip(batch, model(batch), strict=True):
            found = output["instances"].to("cpu")
            annotated, outlines = annotate(records[sample["image_id"]])
            octagons = draw_octagons(found, list(found.pred_contour[..., :2]))
            for evaluator, one in zip(evaluators, (found, octagons, draw_octagons(annotated, outlines)), strict=True):
                evaluator.process([sample], [{"instances": one}])
    results = {kind: one.evaluate()["segm"] for kind, one in zip(KINDS, evaluators, strict=True)}
    return {kind: {k: v for k, v in own.items() if k == "AP" or k.startswith("AP-")} for kind, own in results.items()}


def format_table(results: dict[str, dict[str, float]]) -> str:
    """Return the Markdown table of :func:`compare`'s results."""
    columns = list(next(iter(results.values())))
    lines = [
        "| mask AP of | " + " | ".join(x.removeprefix("AP-") for x in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    lines += [f"| {kind} | " + " | ".join(f"{own[x]:.1f}" for x in columns) + " |" for kind, own in results.items()]
    return "\n".join(lines)


def main() -> None:
    args = parse()
    cfg = setup_cfg(args.config_file, args.opts)
    model = Trainer.build_model(cfg)
    weights = cfg.MODEL.WEIGHTS or str(Path(cfg.OUTPUT_DIR) / "model_final.pth")
    SafeCheckpointer(model).load(weights)
    print(format_table(compare(cfg, model.eval())))


if __name__ == "__main__":
    main()
