"""The first images that a training sees, with their labels."""

from __future__ import annotations

from itertools import chain, islice
from pathlib import Path

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data.detection_utils import convert_image_to_rgb

from centernet_d2.data.build import build_train_loader
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.report.recorder import write_jpeg
from centernet_d2.visualization.dataset import compute_input_calibration, convert_targets
from centernet_d2.visualization.draw_keypoints import make_contact_sheet
from centernet_d2.visualization.visualizer import Visualizer

FOLDER = "train_images"
_NUM_SHEETS, _PER_SHEET, _COLUMNS = 2, 16, 4
_TILE = 320


def draw_first_images(cfg: CfgNode) -> None:
    """Write sheets of the network's first inputs, augmented, with their labels, to ``OUTPUT_DIR/train_images``.

    Random states must be kept by the caller.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0
    visualizer = Visualizer.from_config(cfg)
    samples = list(islice(chain.from_iterable(build_train_loader(cfg)), _NUM_SHEETS * _PER_SHEET))
    tiles = [_resize(_draw_sample(cfg, visualizer, sample)) for sample in samples]
    for i in range(0, len(tiles), _PER_SHEET):
        part = samples[i : i + _PER_SHEET]
        captions = [Path(str(sample.get("file_name", ""))).name for sample in part]
        sheet = make_contact_sheet(tiles[i : i + _PER_SHEET], captions, _COLUMNS)
        write_jpeg(Path(cfg.OUTPUT_DIR, FOLDER, f"{i // _PER_SHEET}.jpg"), sheet, _COLUMNS * (_TILE + 4) + 4)


def _draw_sample(cfg: CfgNode, visualizer: Visualizer, sample: DatasetDict) -> np.ndarray:
    image = convert_image_to_rgb(sample["image"].permute(1, 2, 0).numpy(), cfg.INPUT.FORMAT)[:, :, ::-1]
    calibration = compute_input_calibration(cfg, sample) if "calib" in sample else None
    shown = convert_targets(cfg, sample["instances"], calibration)
    return visualizer.draw(np.ascontiguousarray(image), shown, {"calib": calibration})


def _resize(image: np.ndarray) -> np.ndarray:
    """Return the image at the width of a tile."""
    size = (_TILE, round(image.shape[0] * _TILE / image.shape[1]))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
