"""How often the host waits for a GPU, rehearsed on a card that is not there."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.engine.device import pretend_card
from tests.helpers.marking import mark_slow

pytestmark = pytest.mark.skipif(not pretend_card.AVAILABLE, reason="this PyTorch has no backends in Python")
CONFIGS = Path(__file__).parents[3] / "configs"
# The drawing of their images takes long.
SLOW = ("pose_videos", "persons", "lsnet_pose")
SYNTHETIC = mark_slow(
    sorted(CONFIGS.glob("Synthetic*/[a-z]*.yaml")), lambda x: x.stem in SLOW, lambda x: f"{x.parent.name}/{x.stem}"
)
LIGHT = sorted(CONFIGS.glob("COCO-Detection-Light/[a-z]*.yaml"))
ON_SYNTHETIC = (
    *("DATASETS.TRAIN", "('synthetic_shapes_train',)", "DATASETS.TEST", "('synthetic_shapes_val',)"),
    *("INPUT.SIZE_TRAIN", "(128, 128)", "INPUT.SIZE_TEST", "(128, 128)"),
)


@pytest.fixture(scope="module")
def process():
    with pretend_card.start_rehearsals() as started:
        yield started


def rehearse(process: ProcessPoolExecutor, config: Path, *opts, reading_head: bool = False):
    opts = ["SOLVER.IMS_PER_BATCH", 2, "TEST.IMS_PER_BATCH", 2, *opts]
    return process.submit(pretend_card.rehearse, str(config), opts, reading_head).result()


@pytest.mark.parametrize("config", SYNTHETIC)
def test_training_never_waits_and_prediction_once(process, config):
    check(rehearse(process, config), 2 if config.stem in ("tracks", "pose_videos") else 1)


@pytest.mark.parametrize("config", LIGHT, ids=lambda x: x.stem)
def test_light_networks_do_not_wait_either(process, config):
    check(rehearse(process, config, *ON_SYNTHETIC), 1)


@pytest.mark.parametrize("kernel", ["torchvision", "gather"])
def test_deformable_convolutions_do_not_wait(process, kernel):
    config = CONFIGS / "COCO-Detection/centernet_R_18_DCN_1pt.yaml"
    check(rehearse(process, config, *ON_SYNTHETIC, "MODEL.DEFORM_CONV", kernel), 1)


@pytest.mark.parametrize(
    "opts",
    [
        ("TEST.AUG.ENABLED", True, "TEST.AUG.FLIP", True, "TEST.AUG.SCALES", [1.0, 1.5]),
        ("TEST.NMS", 0.5, "MODEL.CENTERNET.SCORE_THRESH_TEST", 0.1),
        ("MODEL.CENTERNET.GRID_POINTS", [4], "MODEL.CENTERNET.BOX_HEAD", "BoxHead", "MODEL.CENTERNET.BOX_LOSS", "ciou"),
        (
            *("MODEL.CENTERNET.BOX_HEAD", "BoxQualityHead", "MODEL.CENTERNET.BOX_ENCODING", "ltrb"),
            *("MODEL.CENTERNET.BOX_SAMPLING", "gaussian", "MODEL.CENTERNET.BOX_VOTING", True),
        ),
    ],
)
def test_settings_add_no_wait(process, opts):
    check(rehearse(process, CONFIGS / "Synthetic/shapes_9pt.yaml", *opts), 1)


def test_a_head_that_reads_a_number_is_found(process):
    waits = rehearse(process, CONFIGS / "Synthetic/shapes_1pt.yaml", reading_head=True)
    assert list(waits["forward"].values()) == [1]
    assert sum(waits["predict"].values()) == 2


def check(waits, predicted: int):
    """``predicted`` copies of results to the host are all; a tracker's frames follow one another."""
    assert waits["forward"] == waits["backward"] == waits["check"] == {}
    assert sum(waits["predict"].values()) == predicted
    assert all("structures/transfer.py" in where and "copy to the host" in where for where in waits["predict"])
