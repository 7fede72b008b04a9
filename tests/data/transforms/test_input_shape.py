"""The input's shape taken from the training images, against a search by a loop."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from centernet_d2.data.transforms.input_shape import choose_input_size
from centernet_d2.engine.setup import setup_cfg

SMALL = str(Path(__file__).parents[3] / "configs/Custom/small.yaml")


def cover(size, aspects):
    """Mean number of input pixels that letterboxed images of one pixel high fill."""
    height, width = size
    scales = [min(height, width / aspect) for aspect in aspects]
    return sum(scale * scale * aspect for scale, aspect in zip(scales, aspects, strict=True)) / len(aspects)


@pytest.mark.parametrize(
    ("size", "aspect", "expected"),
    [
        ((320, 416), 4 / 3, (320, 416)),
        ((320, 416), 3 / 4, (416, 320)),
        ((320, 416), 1, (352, 352)),
        ((448, 576), 4 / 3, (448, 576)),
        ((448, 576), 9 / 16, (704, 384)),
        ((320, 320), 1, (320, 320)),
        ((32, 64), 1, (32, 64)),
    ],
)
def test_images_of_one_shape(size, aspect, expected):
    assert choose_input_size(size, [aspect] * 3) == expected


@pytest.mark.parametrize("seed", range(20))
def test_no_other_size_covers_more(seed):
    """A size that is kept is worse than the best by at most a twentieth, and odd sizes are kept or replaced."""
    rng = random.Random(seed)
    size = rng.randrange(64, 500), rng.randrange(64, 500)
    aspects = [2 ** rng.uniform(-1.5, 1.5) for _ in range(rng.randrange(1, 30))]
    chosen = choose_input_size(size, aspects)
    sides = range(32, 2000, 32)
    allowed = [(h, w) for h in sides for w in sides if h * w <= 1.05 * size[0] * size[1]]
    best = max(cover(candidate, aspects) for candidate in allowed)
    if chosen == size:
        assert best <= 1.05 * cover(size, aspects) * (1 + 1e-9)
    else:
        assert chosen in allowed and cover(chosen, aspects) == pytest.approx(best)


@pytest.fixture
def portraits(tmp_path):
    """A dataset without its photo: sizes are those of the labels."""
    labels = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 480, "height": 640}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 100, "bbox": [1, 1, 10, 10]},
        ],
        "categories": [{"id": 1, "name": "tree"}],
    }
    (tmp_path / "train.json").write_text(json.dumps(labels))
    return f'DATASETS.CUSTOM=[["mine_{tmp_path.name}", "coco", "{tmp_path}/train.json", "{tmp_path}"]]'


def test_a_recipe_takes_the_shape_of_the_training_images(portraits, tmp_path):
    name = f"mine_{tmp_path.name}"
    opts = [portraits, f"DATASETS.TRAIN=('{name}',)", "DATASETS.TEST=()"]
    cfg = setup_cfg(SMALL, opts)
    assert list(cfg.INPUT.SIZE_TRAIN) == list(cfg.INPUT.SIZE_TEST) == [416, 320] and not cfg.INPUT.MATCH_ASPECT
    (tmp_path / "saved.yaml").write_text(cfg.dump())
    assert list(setup_cfg(str(tmp_path / "saved.yaml"), ["INPUT.SIZE_TEST=[320, 416]"]).INPUT.SIZE_TEST) == [320, 416]
    kept = setup_cfg(SMALL, [*opts, "INPUT.MATCH_ASPECT=False"])
    assert list(kept.INPUT.SIZE_TRAIN) == [320, 416]


def test_without_the_files_the_sizes_stay():
    opts = ['DATASETS.CUSTOM=[["mine_train", "coco", "absent.json", "absent"]]', "MODEL.CENTERNET.NUM_CLASSES=2"]
    cfg = setup_cfg(SMALL, [*opts, "DATASETS.TEST=()"])
    assert list(cfg.INPUT.SIZE_TRAIN) == [320, 416] and cfg.INPUT.MATCH_ASPECT
