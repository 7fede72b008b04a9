"""Models do not refer to themselves, so that they go when their last user does."""

from __future__ import annotations

import gc
import weakref

import pytest
from detectron2.modeling import build_model

from centernet_d2 import get_cfg
from centernet_d2.engine.acceleration import accelerate


@pytest.mark.parametrize("accelerated", [False, True])
def test_a_model_is_freed_without_the_garbage_collector(accelerated):
    cfg = get_cfg()
    cfg.merge_from_file("configs/Synthetic/shapes_1pt.yaml")
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg).eval()
    if accelerated:
        accelerate(model, cfg)
    gc.collect()
    gc.disable()
    try:
        reference = weakref.ref(model)
        del model
        assert reference() is None
    finally:
        gc.enable()
