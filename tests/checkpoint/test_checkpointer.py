"""What is loaded from whose file, and what is said about what does not fit."""

from __future__ import annotations

import copy
import logging

import numpy as np
import pytest
import torch
import torchvision
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import DefaultPredictor
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone.resnet import build_resnet_backbone
from torch import nn

from centernet_d2.checkpoint.checkpointer import SafeCheckpointer
from centernet_d2.checkpoint.reference_names import to_reference
from centernet_d2.engine.predictor import Predictor
from centernet_d2.modeling.backbone.dla import DLA
from tests.helpers.tiny import tiny_cfg, tiny_model


class Detector(nn.Module):
    """A network with its backbone where ours have it."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Conv2d(3, 1, 1)


def resnet18() -> nn.Module:
    cfg = tiny_cfg(
        "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.NORM", "BN", "MODEL.RESNETS.RES2_OUT_CHANNELS", 64,
        "MODEL.RESNETS.OUT_FEATURES", ["res5"],
    )  # fmt: skip
    return Detector(build_resnet_backbone(cfg, ShapeSpec(channels=3)))


def test_torchvision_resnets_by_value(tmp_path):
    source = torchvision.models.resnet18(weights=None)
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    model = resnet18()
    checkpointer = SafeCheckpointer(model)
    checkpointer.load(str(tmp_path / "resnet18.pth"))
    assert sorted(checkpointer.incompatible.missing_keys) == ["head.bias", "head.weight"]
    x = torch.randn(1, 3, 64, 64)
    source.eval(), model.eval()
    y = source.maxpool(source.relu(source.bn1(source.conv1(x))))
    y = source.layer4(source.layer3(source.layer2(source.layer1(y))))
    assert torch.allclose(model.backbone(x)["res5"], y, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_unknown_tensors_do_not_spoil_a_checkpoint(prefix, tmp_path, caplog):
    """Of a profiler, a counter and what is no tensor: a ResNet-18 with them loads what it loads without them."""
    source = torchvision.models.resnet18(weights=None)
    weights = {prefix + name: x for name, x in source.state_dict().items()}
    extra = {f"{prefix}{name}.total_ops".lstrip("."): torch.zeros(1) for name, _ in source.named_modules()}
    extra |= {"n_averaged": torch.tensor(3), "epoch": 7, "optimizer": {"state": {}}, "ema.decay": torch.zeros(1)}
    torch.save({**extra, **weights}, tmp_path / "resnet18.pth")
    model = resnet18()
    checkpointer = SafeCheckpointer(model)
    with caplog.at_level(logging.WARNING):
        checkpointer.load(str(tmp_path / "resnet18.pth"))
    assert sorted(checkpointer.incompatible.missing_keys) == ["head.bias", "head.weight"]
    assert torch.equal(model.backbone.state_dict()["res5.1.conv2.weight"], source.layer4[1].conv2.weight)
    said = [r.getMessage() for r in caplog.records if r.name.startswith("centernet_d2.checkpoint")]
    assert [x for x in said if "left out" in x] == [
        "left out, no tensor but a dict: optimizer",
        "left out, no tensor but a int: epoch",
        f"left out, unknown to this model: total_ops ({len([*source.modules()])}), n_averaged (1), decay (1)",
    ]


def test_unknown_tensors_beside_our_own_names(tmp_path):
    source = tiny_model()
    extra = {f"{name}.total_ops".lstrip("."): torch.zeros(1) for name, _ in source.named_modules()}
    torch.save({"model": {**extra, **source.state_dict()}}, tmp_path / "x.pth")
    checkpointer = SafeCheckpointer(tiny_model())
    checkpointer.load(str(tmp_path / "x.pth"))
    checkpointer.require_complete("x.pth")
    assert not checkpointer.incompatible.unexpected_keys


def test_a_bare_backbone(tmp_path):
    """Its names lack the place in the model; DataParallel's prefix and a wrapping dictionary are no matter."""
    source = DLA()
    weights = {f"module.{name}": x for name, x in source.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": weights}, tmp_path / "dla.pth")
    model = Detector(DLA())
    SafeCheckpointer(model).load(str(tmp_path / "dla.pth"))
    assert all(torch.equal(model.backbone.state_dict()[name], x) for name, x in source.state_dict().items())


def test_reference_centernet(tmp_path):
    """A file as its authors published it: their names, DataParallel's prefix, the epoch beside the weights."""
    opts = (
        "MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.NORM", "BN",
        "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"],
        "MODEL.NECK.NAME", "DeconvNeck",
    )  # fmt: skip
    source, model = tiny_model(*opts).state_dict(), tiny_model(*opts)
    theirs = {f"module.{name}": x for name, x in to_reference(source).items()}
    assert "module.hm.0.weight" in theirs and "module.layer1.0.conv1.weight" in theirs
    torch.save({"epoch": 140, "state_dict": theirs}, tmp_path / "ctdet_resdcn18.pth")
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    checkpointer = SafeCheckpointer(model)
    checkpointer.load(str(tmp_path / "ctdet_resdcn18.pth"))
    checkpointer.require_complete("ctdet_resdcn18.pth")
    assert all(torch.equal(x, source[name]) for name, x in model.state_dict().items())


HOURGLASS = (
    "MODEL.BACKBONE.NAME", "build_hourglass_backbone", "MODEL.HOURGLASS.CHANNELS", [8, 8],
    "MODEL.HOURGLASS.BLOCKS", [1, 1], "DATASETS.TEST", (),
)  # fmt: skip


def reference_file(path, *opts) -> nn.Module:
    """A small hourglass with weights of its own, and ``path`` as CenterNet's code would have saved it."""
    model = tiny_model(*HOURGLASS, *opts)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        model.task.heads["box_size"].layers[-1][2].bias.fill_(6)
    weights = {f"module.{name}": x for name, x in to_reference(model.state_dict()).items()}
    torch.save({"epoch": 140, "state_dict": weights, "optimizer": {"state": {}, "param_groups": []}}, path)
    return model.eval()


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_the_predictor_takes_reference_files(suffix, tmp_path, caplog):
    path = tmp_path / f"ctdet{suffix}"
    source = reference_file(path)
    weights = torch.load(path)
    weights["state_dict"] |= {"module.velocity.0.0.conv.bias": torch.ones(3), "module.velocity.0.1.bias": torch.ones(2)}
    torch.save(weights, path)
    with caplog.at_level(logging.INFO):
        predictor = DefaultPredictor(tiny_cfg(*HOURGLASS, "MODEL.WEIGHTS", str(path)))
    said = [record.getMessage() for record in caplog.records if record.name.startswith("centernet_d2.checkpoint")]
    assert said == [
        f"Loading {path}",
        f"{path} holds the weights of CenterNet's Hourglass-104",
        "left out, head of another task: velocity (2)",
        f"{path}: loaded backbone 140 of 140, heatmap head 8 of 8, box_size head 8 of 8, offset head 8 of 8; "
        "new nothing; not used 0 of the file",
    ]
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    found = predictor(image)["instances"]
    expected = source([{"image": torch.from_numpy(image.transpose(2, 0, 1))}])[0]["instances"]
    assert len(found) > 0
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(found.scores, expected.scores) and torch.equal(found.pred_classes, expected.pred_classes)


def test_the_predictor_says_which_head_is_new(tmp_path, caplog):
    reference_file(tmp_path / "coco.pth", "MODEL.CENTERNET.NUM_CLASSES", 80)
    cfg = tiny_cfg(*HOURGLASS, "MODEL.WEIGHTS", str(tmp_path / "coco.pth"))
    with caplog.at_level(logging.WARNING):
        DefaultPredictor(cfg)
    assert [r.getMessage() for r in caplog.records if r.name.startswith("centernet_d2.checkpoint")] == [
        "checkpoint has 80 classes, the model 3: heatmap head is new"
    ]


COMPLETE = ("MODEL.ALLOW_INCOMPLETE_WEIGHTS", False, "DATASETS.TEST", ())


@pytest.mark.parametrize("predictor", [DefaultPredictor, Predictor])
def test_prediction_needs_complete_weights(predictor, tmp_path):
    whole, path = tiny_model(), str(tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"no weights to predict with: set MODEL\.WEIGHTS"):
        predictor(tiny_cfg(*COMPLETE))
    parts = {
        r"x\.pth does not hold all .*task\.heads\.heatmap.* is missing.*holds a backbone": {
            name: x for name, x in whole.state_dict().items() if name.startswith("backbone.")
        },
        r"checkpoint has 80 classes, the model 3.*NUM_CLASSES": tiny_model(
            "MODEL.CENTERNET.NUM_CLASSES", 80
        ).state_dict(),
        r"backbone\.layers\.0\.bias is missing.*does the config": {
            name: x for name, x in whole.state_dict().items() if name != "backbone.layers.0.bias"
        },
    }
    for words, weights in parts.items():
        torch.save({"model": weights}, path)
        with pytest.raises(ValueError, match=words):
            predictor(tiny_cfg(*COMPLETE, "MODEL.WEIGHTS", path))
        predictor(tiny_cfg("MODEL.WEIGHTS", path, "DATASETS.TEST", ()))  # on demand
        SafeCheckpointer(tiny_model(*COMPLETE)).load(path)  # training starts from it
    torch.save({"model": whole.state_dict()}, path)
    predictor(tiny_cfg(*COMPLETE, "MODEL.WEIGHTS", path))


def test_the_predictor_refuses_other_networks(tmp_path):
    reference_file(tmp_path / "hourglass.pth")
    with pytest.raises(ValueError, match=r"hourglass\.pth \(CenterNet's Hourglass-104\) is not a checkpoint of this"):
        DefaultPredictor(tiny_cfg("MODEL.WEIGHTS", str(tmp_path / "hourglass.pth"), "DATASETS.TEST", ()))


def test_only_our_models_get_our_checkpointer(tmp_path):
    """In DataParallel too; Detectron2's other models, subclasses and copies are as they were."""
    ours = DetectionCheckpointer(nn.DataParallel(tiny_model()), str(tmp_path), iteration=nn.Linear(1, 1))
    assert type(ours) is SafeCheckpointer and [*ours.checkpointables] == ["iteration"]
    assert type(copy.copy(DetectionCheckpointer(nn.Linear(1, 1)))) is DetectionCheckpointer

    class Own(DetectionCheckpointer):
        pass

    assert type(Own(tiny_model())) is Own


def test_other_classes_are_said_plainly(tmp_path, caplog):
    torch.save({"model": tiny_model("MODEL.CENTERNET.NUM_CLASSES", 80).state_dict()}, tmp_path / "coco.pth")
    model = tiny_model()
    before = model.state_dict()["task.heads.heatmap.layers.0.2.weight"].clone()
    checkpointer = SafeCheckpointer(model)
    with caplog.at_level(logging.WARNING):
        checkpointer.load(str(tmp_path / "coco.pth"))
    assert [r.getMessage() for r in caplog.records if r.name.startswith("centernet_d2.checkpoint")] == [
        "checkpoint has 80 classes, the model 3: heatmap head is new"
    ]
    assert torch.equal(model.state_dict()["task.heads.heatmap.layers.0.2.weight"], before)
    with pytest.raises(ValueError, match="80 classes"):
        checkpointer.require_complete("coco.pth")


def test_other_points_are_said_plainly(tmp_path, caplog):
    torch.save({"model": tiny_model().state_dict()}, tmp_path / "one.pth")
    with caplog.at_level(logging.WARNING):
        SafeCheckpointer(tiny_model("MODEL.CENTERNET.GRID_POINTS", [0, 4, 8])).load(str(tmp_path / "one.pth"))
    said = [r.getMessage() for r in caplog.records if r.name.startswith("centernet_d2.checkpoint")]
    assert "checkpoint has 3 channels, the model 9: heatmap head is new" in said
    assert "checkpoint has 2 channels, the model 6: box_size head is new" in said


@pytest.mark.parametrize(
    "weights",
    [torchvision.models.squeezenet1_1(weights=None).state_dict(), {"a.weight": torch.zeros(3)}, {"epoch": 3}, {}],
)
def test_the_wrong_checkpoint_is_an_error(weights, tmp_path):
    torch.save(weights, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth"):
        SafeCheckpointer(tiny_model()).load(str(tmp_path / "x.pth"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_prediction_needs_finite_weights(value, tmp_path):
    """A network of NaN finds nothing, without a word."""
    model = tiny_model()
    weights = {name: x.clone() for name, x in model.state_dict().items()}
    weights["backbone.layers.0.weight"][0, 0, 0, 0] = value
    torch.save({"model": weights}, tmp_path / "x.pth")
    words = (
        r"x\.pth cannot predict: 1 of its tensors have NaN or infinite values \(such as backbone\.layers\.0\.weight\)"
    )
    with pytest.raises(ValueError, match=words):
        Predictor(tiny_cfg("MODEL.WEIGHTS", str(tmp_path / "x.pth"), "MODEL.ALLOW_INCOMPLETE_WEIGHTS", False))
