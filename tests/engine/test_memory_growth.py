"""Memory and open files stay as they are, however long a training, a video or a service runs."""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from centernet_d2.api.files import FileWriter
from centernet_d2.engine import Trainer
from centernet_d2.engine.predictor import Predictor
from centernet_d2.video import Frame, run_pipeline
from tests.helpers.runs import engine_cfg
from tests.helpers.tiny import tiny_cfg
from tests.modeling.meta_arch.test_centertrack import tracking_cfg

pytestmark = pytest.mark.slow
TIMES, WARM_UP = 2000, 200
MOST_GROWTH = 20 * 2**20


def measure() -> tuple[int, int]:
    """Return the memory of this process in bytes, and the number of its open files."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))


def check_flat(step: Callable[[], object], times: int = TIMES) -> None:
    """Check that ``times`` steps need no more after the first ones."""
    for _ in range(WARM_UP):
        step()
    memory, files = measure()
    for _ in range(times):
        step()
    after, open_files = measure()
    print(f"growth: {(after - memory) / 2**20:.1f} MB, {open_files - files} files")
    assert after - memory < MOST_GROWTH and open_files <= files


def test_training(tmp_path):
    """With evaluations, checkpoints and all writers."""
    opts = ("SOLVER.MAX_ITER", WARM_UP + TIMES, "SOLVER.CHECKPOINT_PERIOD", 200, "SOLVER.STEPS", ())
    cfg = engine_cfg(tmp_path, *opts, "DATASETS.TEST", ("engine_test_val",), "TEST.EVAL_PERIOD", 200)
    measured: list[tuple[int, int]] = []

    class Measuring(Trainer):
        def after_step(self) -> None:
            super().after_step()
            if (self.iter + 1) % WARM_UP == 0:
                measured.append(measure())

    trainer = Measuring(cfg)
    trainer.train()
    (memory, files), (after, open_files) = measured[0], measured[-1]
    print(f"growth: {(after - memory) / 2**20:.1f} MB, {open_files - files} files")
    assert after - memory < MOST_GROWTH and open_files <= files


def test_predictions_of_images_of_all_sizes():
    predictor, rng = Predictor(tiny_cfg("INPUT.RESIZE_TEST", "keep")), np.random.default_rng(0)
    sizes = itertools.cycle([(64, 64), (33, 100), (120, 80), (50, 51)])
    check_flat(lambda: predictor(rng.integers(0, 256, (*next(sizes), 3), dtype=np.uint8)))


def test_a_tracker_of_objects_that_come_and_go():
    """Untrained, it follows whatever it finds in noise."""
    torch.manual_seed(0)
    predictor = Predictor(tracking_cfg("MODEL.TRACKING.SCORE_THRESH", 0.05, "MODEL.TRACKING.NEW_THRESH", 0.05))
    rng, seen = np.random.default_rng(0), set()

    def follow() -> None:
        found = predictor(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8))["instances"]
        seen.update(found.pred_track_ids.tolist()[:1])

    check_flat(follow, 1000)
    assert len(seen) > 10


def test_a_video():
    frames = (np.zeros((480, 640, 3), np.uint8) for _ in itertools.count())
    results = run_pipeline(frames, lambda x: x.copy(), lambda x: x[::2].copy(), capacity=3)
    check_flat(lambda: next(results))
    results.close()


def test_predictions_of_10000_images_as_json(tmp_path):
    """170 MB of objects, 200 in each image."""

    class Describing:
        def draw(self, *_):
            return np.zeros((2, 2, 3), np.uint8)

        def describe(self, _):
            return [{"box": [float(k), 0.5, 1.5, 2.5], "score": k / 200} for k in range(200)]

    class Counted:
        """Measures after some images and after all."""

        measured: list[tuple[int, int]] = []

        def read_all(self, dataset_dicts):
            for index, dataset_dict in enumerate(dataset_dicts):
                if index in (WARM_UP, len(dataset_dicts) - 1):
                    self.measured.append(measure())
                yield Frame(index, 0.0, np.zeros((2, 2, 3), np.uint8), True, dataset_dict)

    sources = Counted()
    writer = FileWriter(lambda frame: None, Describing(), tmp_path)
    assert writer.draw_images([{"file_name": f"{k}.png"} for k in range(10_000)], sources) == 10_000
    (memory, files), (after, open_files) = sources.measured
    print(f"growth: {(after - memory) / 2**20:.1f} MB of {(tmp_path / 'results.json').stat().st_size / 2**20:.0f}")
    # The pipeline may be writing an image while its reader counts.
    assert after - memory < MOST_GROWTH and open_files <= files + 1
