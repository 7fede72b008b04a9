"""What is done for a batch before its turn: targets in the loader's workers, copies to a GPU."""

import pytest
import torch

from centernet_d2.data.build import build_train_loader
from centernet_d2.data.prefetch import Prefetcher
from centernet_d2.engine import Trainer
from tests.helpers.runs import engine_cfg
from tests.helpers.tiny import tiny_model, training_input


def test_targets_of_workers_give_the_same_losses_and_gradients(tmp_path):
    cfg = engine_cfg(tmp_path, "DATALOADER.NUM_WORKERS", 1)
    model = Trainer.build_model(cfg).train()
    loader = build_train_loader(cfg)
    loader.encode_in_workers(model.encode_targets)
    batch = next(iter(loader))
    results = []
    for samples in (batch, [{k: v for k, v in x.items() if k != "targets"} for x in batch]):
        losses = model(samples)
        gradients = torch.autograd.grad(sum(losses.values()), list(model.parameters()))
        results.append((losses, gradients))
    assert ["targets" in x for x in batch] == [True, False, False, False]
    assert results[0][0] == results[1][0]
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))


def test_without_workers_targets_are_left_to_the_model(tmp_path):
    loader = build_train_loader(engine_cfg(tmp_path))
    loader.encode_in_workers(lambda _: 1 / 0)
    assert "targets" not in next(iter(loader))[0]


@pytest.mark.parametrize("sizes", [[(64, 64)], [(64, 96), (100, 32)]])
def test_targets_have_the_size_of_the_maps(sizes):
    """Images of different sizes are padded to one that the network divides by."""
    model = tiny_model()
    batch = [training_input([[8, 8, 24, 24]], [0], size) for size in sizes]
    targets, count = model.encode_targets(batch)
    features = model.extract_features(model.preprocess_image(batch))
    assert targets["heatmap"].shape[2:] == features[0].shape[2:]
    assert count == len(sizes)


def test_batches_pass_to_a_cpu_as_they_are():
    batches = [[{"image": torch.zeros(3, 4, 4)}], [{"image": torch.ones(3, 4, 4)}]]
    passed = list(Prefetcher(batches, torch.device("cpu")))
    assert all(a is b for a, b in zip(passed, batches, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_batches_are_on_a_gpu_in_time():
    batches = [[{"image": torch.full((3, 512, 512), i), "image_id": i}] for i in range(5)]
    for i, (sample,) in enumerate(Prefetcher(batches, torch.device("cuda"))):
        assert sample["image"].is_cuda and sample["image_id"] == i
        assert (sample["image"] == i).all()


def test_shared_statistics_need_gpus(tmp_path):
    with pytest.raises(ValueError, match="SYNC_BN needs GPUs"):
        Trainer(engine_cfg(tmp_path, "SOLVER.SYNC_BN", True))
