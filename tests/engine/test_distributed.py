"""Two processes are one process with the whole batch; they resume, stop and evaluate together (CPU, gloo)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from torch.multiprocessing import ProcessRaisedException

from centernet_d2.data.corrupt_images import TooManyCorruptError
from centernet_d2.data.formats.text import NotTextError
from centernet_d2.data.image_io import CorruptImageError
from centernet_d2.data.validation.issues import AnnotationError
from centernet_d2.engine import NonFiniteGradientError, NonFiniteLossError, Trainer, launch
from centernet_d2.engine.errors import USER_ERRORS
from centernet_d2.evaluation.common import gather_arrays
from tests.helpers.gathered import COUNTS, assert_equal, make_predictions
from tests.helpers.runs import GRADIENT, Record, engine_cfg, run

OPTS = ("SOLVER.OPTIMIZER", "SGD", "SOLVER.MAX_ITER", 12, "DATASETS.TEST", ("engine_test_val",))

EMA = ("SOLVER.EMA.DECAY", 0.5)


def in_each_process(folder: Path) -> None:
    """All that needs several processes, in one start of them."""
    whole = run(engine_cfg(folder / "whole", *OPTS))
    run(engine_cfg(folder / "stopped", *OPTS, "SOLVER.CHECKPOINT_PERIOD", 5), stop_after=7)
    resumed = run(engine_cfg(folder / "stopped", *OPTS), resume=True)
    poisoned = run(engine_cfg(folder / "poisoned", *OPTS), poison=(2, 1, "loss_box_size", float("nan")))
    inclined = run(engine_cfg(folder / "inclined", *OPTS), poison=(2, 1, "loss_box_size", GRADIENT))
    averaged = run(engine_cfg(folder / "averaged", *OPTS, *EMA))
    with_norm = Trainer(engine_cfg(folder / "norm", *OPTS, "MODEL.BACKBONE.NAME", "DropoutBackbone"))
    statistics = dict(with_norm.model.named_buffers())["module.backbone.layers.1.running_mean"]
    statistics.fill_(comm.get_rank() + 1)
    Trainer.test(with_norm.cfg, with_norm.model)
    predictions = {
        "whole": whole,
        "resumed": resumed,
        "poisoned": poisoned,
        "inclined": inclined,
        "averaged": averaged,
        "statistics": statistics.clone(),
        "gathered": [gather_arrays(make_predictions(comm.get_rank(), x[comm.get_rank()])) for x in COUNTS],
    }
    torch.save(predictions, folder / f"{comm.get_rank()}.pt")


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("two")
    launch(in_each_process, (folder,), device="cpu", processes=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Record:
    return run(engine_cfg(tmp_path_factory.mktemp("one"), *OPTS))


def test_gradients_are_those_of_one_process(one, two):
    """The first step's, parameter by parameter: an average of per-process normalizations would be off by percents."""
    for name, expected in one.gradients[0].items():
        for rank in range(2):
            difference = (two[rank]["whole"].gradients[0][name] - expected).abs().max()
            assert difference <= 1e-6, (name, float(difference))
    assert max(float(x.abs().max()) for x in one.gradients[0].values()) > 1e-3, "there is something to compare"


def test_losses_are_those_of_one_process(one, two):
    for ours, expected in zip(two[0]["whole"].losses, one.losses, strict=True):
        assert ours == pytest.approx(expected, rel=1e-5)


def test_images_are_those_of_one_process(one, two):
    """Together, per step; so in no epoch is one repeated or left out."""
    both = zip(two[0]["whole"].image_ids, two[1]["whole"].image_ids, strict=True)
    assert [sorted(a + b) for a, b in both] == [sorted(ids) for ids in one.image_ids]


def test_weights_agree_between_the_processes(two):
    a, b = (x["whole"].weights[-1] for x in two)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_average_is_that_of_one_process(two, tmp_path):
    a, b = (x["averaged"].state["model"] for x in two)
    expected = run(engine_cfg(tmp_path, *OPTS, *EMA)).state["model"]
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert all(torch.allclose(a[name], x, atol=1e-5) for name, x in expected.items())
    assert not all(torch.allclose(a[name], x, atol=1e-4) for name, x in two[0]["averaged"].weights[-1].items())


def test_resume_is_exact(two):
    for predictions in two:
        whole, resumed = predictions["whole"], predictions["resumed"]
        assert len(resumed.image_ids) == 7 and resumed.image_ids == whole.image_ids[5:]
        assert all(torch.equal(x, whole.weights[-1][name]) for name, x in resumed.weights[-1].items())
    assert two[0]["resumed"].losses == two[0]["whole"].losses[5:]


def train_some(folder: Path, stop_after: int | None) -> None:
    """An epoch is 6 steps of 4 images, which 2 workers of each process read."""
    opts = (*OPTS, "SOLVER.CHECKPOINT_PERIOD", 4, "DATALOADER.NUM_WORKERS", 2)
    record = run(engine_cfg(folder, *opts), resume=True, stop_after=stop_after)
    torch.save(record, folder / f"record_{stop_after}_{comm.get_rank()}.pt")


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 1), (1, 2)])
def test_an_epoch_is_whole_whatever_the_number_of_processes(before, after, tmp_path, one):
    """Also where it is stopped in the middle, and goes on with another number; losses are one process's to 1e-5."""
    launch(train_some, (tmp_path, 5), device="cpu", processes=before)
    launch(train_some, (tmp_path, None), device="cpu", processes=after)
    seen: list[list[int]] = [[] for _ in range(12)]
    losses: dict[int, float] = {}
    # The fifth step was lost, and is taken again.
    for stop_after, processes, first in ((5, before, 0), (None, after, 4)):
        for rank in range(processes):
            record = torch.load(tmp_path / f"record_{stop_after}_{rank}.pt", weights_only=False)
            for step, ids in enumerate(record.image_ids[: 4 if stop_after else None], start=first):
                seen[step] += ids
            if rank == 0:
                losses |= {first + k: one["total_loss"] for k, one in enumerate(record.losses)}
    assert [sorted(ids) for ids in seen] == [sorted(ids) for ids in one.image_ids]
    for epoch in (seen[:6], seen[6:]):
        assert sorted(image for ids in epoch for image in ids) == list(range(24))
    assert [losses[k] for k in range(12)] == pytest.approx([x["total_loss"] for x in one.losses], rel=1e-5)


def test_evaluation_is_that_of_one_process(one, two):
    assert two[0]["whole"].results["bbox"] == pytest.approx(one.results["bbox"], nan_ok=True)


def test_the_main_process_gathers_what_each_has(two):
    """Whatever the number of images and objects of each."""
    assert two[1]["gathered"] == [[]] * len(COUNTS)
    for ours, counts in zip(two[0]["gathered"], COUNTS, strict=True):
        assert_equal(ours, [make_predictions(rank, counts[rank]) for rank in range(2)])


def test_all_stop_when_one_has_no_number(two):
    """Process 1 alone has a NaN; both stop before the step, and say whose images they were."""
    errors = [predictions["poisoned"].error for predictions in two]
    assert all(isinstance(error, NonFiniteLossError) for error in errors) and str(errors[0]) == str(errors[1])
    said = str(errors[0])
    assert "iteration 2: loss_box_size = nan in process 1." in said
    guilty, innocent = two[1]["poisoned"].image_ids[2], two[0]["poisoned"].image_ids[2]
    assert all(f"(id {i})" in said for i in guilty) and not any(f"(id {i})" in said for i in innocent)
    for predictions in two:
        assert len(predictions["poisoned"].weights) == 2


def test_all_stop_when_one_has_a_gradient_that_is_no_number(two):
    """Gradients are summed over the processes, so all of them have it, and all images may be the cause."""
    errors = [predictions["inclined"].error for predictions in two]
    assert all(isinstance(error, NonFiniteGradientError) for error in errors) and str(errors[0]) == str(errors[1])
    assert "iteration 2: the loss is finite, but not the gradient of head box_size" in str(errors[0])
    for predictions in two:
        record = predictions["inclined"]
        assert all(f"(id {i})" in str(errors[0]) for i in record.image_ids[2])
        assert len(record.weights) == 2
        assert all(torch.equal(record.state["model"][name], x) for name, x in record.weights[1].items())


def test_all_evaluate_with_the_statistics_that_are_saved(two):
    assert all((predictions["statistics"] == 1).all() for predictions in two)


def fail_in_one(rank: int, error: Exception) -> None:
    if comm.get_rank() == rank:
        raise error
    comm.synchronize()


@pytest.mark.parametrize(
    "error",
    [
        *(CorruptImageError("a.png", "is empty"), AnnotationError("two lines\n  of text")),
        *(NotTextError("a.txt", "is UTF-7"), TooManyCorruptError("3 of 4"), FileNotFoundError("no a.json")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_users_errors_of_one_process_are_raised_as_they_are(error):
    with pytest.raises(type(error)) as caught:
        launch(fail_in_one, (1, error), device="cpu", processes=2)
    assert type(caught.value) is type(error) and str(caught.value) == str(error)
    assert {type(error)} <= set(USER_ERRORS)


def test_other_errors_keep_their_traceback():
    with pytest.raises(ProcessRaisedException, match=r"(?s)fail_in_one.*ZeroDivisionError: seven"):
        launch(fail_in_one, (0, ZeroDivisionError("seven")), device="cpu", processes=2)


def test_what_cannot_be_started_is_said():
    with pytest.raises(ValueError, match="--dist-url"):
        launch(print, device="cpu", machines=2)
    with pytest.raises(ValueError, match=r"MODEL.DEVICE cpu"):
        launch(print, device="cuda", processes=torch.cuda.device_count() + 2)
