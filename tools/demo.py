#!/usr/bin/env python
"""Detect objects in images, folders, glob patterns or registered data sets; write pictures and ``results.json``."""

from __future__ import annotations

import argparse
import glob
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import DefaultPredictor
from detectron2.structures import Instances

from centernet_d2.data.landmarks import LandmarkScheme
from centernet_d2.data.reading import BrokenImageError, read_image
from centernet_d2.engine.setup import setup_cfg
from centernet_d2.landmark_pictures import known_scheme
from centernet_d2.visualization import draw_predictions

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def find_records(source: str) -> list[dict[str, Any]]:
    """Records (``file_name`` at least) of a file, the pictures of a folder, a glob pattern or a registered data set.

    Raises:
        FileNotFoundError: it is none of these, or holds no picture.
    """
    path = Path(source)
    if path.is_dir():
        names = sorted(str(p) for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
    elif path.is_file():
        names = [source]
    elif source in DatasetCatalog:
        return DatasetCatalog.get(source)
    else:
        names = sorted(name for name in glob.glob(source, recursive=True) if Path(name).is_file())
    if not names:
        raise FileNotFoundError(f"{source}: no picture there (a file, a folder, a quoted glob pattern or a data set)")
    return [{"file_name": name} for name in names]


def to_json(
    instances: Instances, names: list[str] | None, threshold: float, scheme: LandmarkScheme | None = None
) -> list[dict[str, Any]]:
    """Objects above ``threshold``, best first; boxes x1, y1, x2, y2 in pixels of the picture.

    "keypoints" are, with a ``scheme``, those of the object's class alone; "first_keypoint" is the first one's number.
    """
    kept = instances[instances.scores > threshold].to("cpu")
    objects = []
    for i in range(len(kept)):
        category = int(kept.pred_classes[i])
        entry = {
            "category_id": category,
            "category": names[category] if names else str(category),
            "score": round(float(kept.scores[i]), 4),
            "box": [round(x, 2) for x in kept.pred_boxes.tensor[i].tolist()],
        }
        if kept.has("pred_keypoints"):
            first, end = scheme.ranges[category] if scheme else (0, None)
            entry["first_keypoint"] = first
            entry["keypoints"] = kept.pred_keypoints[i, first:end].tolist()
        objects.append(entry)
    return objects


def read_all(records: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Any]]:
    """Records with their pictures; one that cannot be read costs a line on stderr."""
    for record in records:
        try:
            yield record, read_image(record)
        except BrokenImageError as error:
            print(f"left out: {error}", file=sys.stderr)


def output_name(file_name: str, taken: set[str]) -> str:
    """A name of its own for the drawn picture."""
    stem = Path(file_name).stem
    name, number = f"{stem}.jpg", 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}.jpg"
    taken.add(name)
    return name


def run(args: argparse.Namespace) -> int:
    """Returns the exit status: 1 where no picture could be used."""
    cfg = setup_cfg(args.config_file, [*(["MODEL.WEIGHTS", args.weights] if args.weights else []), *args.opts])
    try:
        records = [record for source in args.input for record in find_records(source)][: args.num_images]
    except FileNotFoundError as error:
        sys.exit(str(error))
    predictor = DefaultPredictor(cfg)
    data_set = (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)[:1]
    scheme, threshold = known_scheme(cfg), args.confidence_threshold
    names = MetadataCatalog.get(data_set[0]).get("thing_classes") if data_set else None
    if names is None and scheme:
        names = list(scheme.class_names)
    args.output.mkdir(parents=True, exist_ok=True)
    results, taken, start = [], set(), time.perf_counter()
    for record, image in read_all(records):
        instances = predictor(image)["instances"]
        picture = output_name(record["file_name"], taken)
        cv2.imwrite(str(args.output / picture), draw_predictions(image, instances, names, threshold, scheme))
        results.append(
            {
                "file_name": record["file_name"],
                "height": image.shape[0],
                "width": image.shape[1],
                "picture": picture,
                "objects": to_json(instances, names, threshold, scheme),
            }
        )
    (args.output / "results.json").write_text(json.dumps(results, indent=1))
    found, seconds = sum(len(r["objects"]) for r in results), time.perf_counter() - start
    print(f"{found} objects in {len(results)} of {len(records)} pictures, {seconds:.1f} s: {args.output}")
    return 0 if results else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--weights", help="checkpoint, in place of the config's MODEL.WEIGHTS")
    parser.add_argument(
        "--input", nargs="+", required=True, help="images, folders, glob patterns or names of data sets"
    )
    parser.add_argument("--num-images", type=int, help="at most so many")
    parser.add_argument("--output", type=Path, default=Path("output/demo"))
    parser.add_argument("--confidence-threshold", type=float, default=0.3)
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY=value", help="config keys to change")
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
