"""The detector against Detectron2's own predictor, in every form of input."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor
from PIL import Image

import centernet_d2
from centernet_d2.api import Detector, Result
from centernet_d2.engine import setup_cfg
from tests.helpers.exported import SMALL, export_synthetic, write_run
from tests.helpers.videos import write_video

ROOT = Path(__file__).parents[2]


def is_same(result: Result, other: Result) -> bool:
    return all(np.array_equal(getattr(result, name), getattr(other, name)) for name in ("boxes", "scores", "classes"))


def test_it_finds_what_the_default_predictor_finds(trained, photo):
    cfg = setup_cfg(str(trained / "config.yaml"), ["MODEL.WEIGHTS", str(trained / "model_final.pth")])
    image = cv2.imread(str(photo))
    expected = DefaultPredictor(cfg)(image)["instances"]
    threshold = float(expected.scores.sort(descending=True).values[5])
    detector = Detector(trained, threshold=threshold)
    result = detector(photo)
    assert len(result) == 5 and np.array_equal(result.image, image) and result.file_name == str(photo)
    torch.testing.assert_close(result.instances.pred_boxes.tensor, expected.pred_boxes.tensor[:5])
    torch.testing.assert_close(result.instances.scores, expected.scores[:5])
    assert detector.class_names == ("ellipse", "rectangle", "triangle", "cross", "star", "crescent")
    assert result.names == [detector.class_names[k] for k in expected.pred_classes[:5].tolist()]
    assert centernet_d2.Detector is Detector


def test_every_form_of_one_image(trained, photo):
    detector = Detector(trained, threshold=0)
    image = cv2.imread(str(photo))
    whole = detector(str(photo))
    assert len(whole) > 5
    assert not is_same(whole, detector(np.ascontiguousarray(image[:, :, ::-1]))), "the order of the channels matters"
    for source in (image, Image.open(photo), Path(photo)):
        assert is_same(whole, detector(source))
    results = detector([photo, image[:40], Image.open(photo)])
    assert [result.image.shape[0] for result in results] == [80, 40, 80]
    assert all(np.allclose(results[k].boxes, whole.boxes, atol=1e-3) for k in (0, 2))
    assert detector([]) == []


def test_folders_patterns_and_videos_are_read_as_they_go(trained, photo, tmp_path, capsys):
    detector = Detector(trained, threshold=0)
    for name in ("a.png", "b.png"):
        shutil.copy(photo, tmp_path / name)
    (tmp_path / "broken.png").touch()
    results = detector(tmp_path)
    assert not isinstance(results, list)
    names = [Path(result.file_name).name for result in results]
    assert names == ["a.png", "b.png"] and "broken.png" in capsys.readouterr().err
    assert [Path(result.file_name).name for result in detector(str(tmp_path / "b*.png"))] == ["b.png", "broken.png"][:1]
    video = write_video(tmp_path / "clip.avi", 5)
    assert [(one.frame, one.file_name) for one in detector(str(video))] == [(k, str(video)) for k in range(5)]
    assert sum(result.file_name == str(video) for result in detector(tmp_path)) == 5


def test_what_is_no_image(trained, tmp_path):
    detector = Detector(trained)
    for source, error in ((None, TypeError), (3.5, TypeError), (np.zeros((3, 5, 7), np.uint8), ValueError)):
        with pytest.raises(error):
            detector(source)
    with pytest.raises(FileNotFoundError, match=r"absent\.jpg"):
        detector("absent.jpg")
    with pytest.raises(FileNotFoundError, match=r"absent\.jpg"):
        detector([tmp_path / "absent.jpg"])
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.jpg"):
        detector(tmp_path / "text.jpg")


def test_eight_threads(trained, photo):
    detector = Detector(trained, threshold=0)
    images = [cv2.imread(str(photo))[: 40 + k] for k in range(8)]
    expected = [detector(image) for image in images]
    fresh = Detector(trained, threshold=0)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(fresh, images * 3))
    assert all(is_same(result, expected[k % 8]) for k, result in enumerate(results))


def test_another_process(trained, photo, tmp_path):
    detector = Detector(trained, threshold=0.01)
    detector(photo)
    (tmp_path / "detector.pkl").write_bytes(pickle.dumps(detector))
    code = (
        "import pickle, sys; detector = pickle.load(open('detector.pkl', 'rb')); "
        f"print(detector.threshold, len(detector({str(photo)!r})))"
    )
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0.01", str(len(detector(photo)))]


def test_the_best_weights_of_a_training_else_the_last(trained, photo, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(trained, folder)
    last = Detector(folder, threshold=0)(photo)
    write_run(tmp_path / "other", seed=1)
    shutil.copy(tmp_path / "other" / "model_final.pth", folder / "model_best.pth")
    best = Detector(folder, threshold=0)(photo)
    assert not is_same(last, best) and is_same(best, Detector(tmp_path / "other", threshold=0)(photo))
    named = Detector(folder, weights=folder / "model_final.pth", threshold=0)(photo)
    assert is_same(named, last)
    shutil.move(folder / "model_final.pth", folder / "model_0000009.pth")
    (folder / "model_best.pth").unlink()
    assert is_same(Detector(folder, threshold=0)(photo), last)
    (folder / "model_0000009.pth").unlink()
    with pytest.raises(FileNotFoundError, match="has no weights"):
        Detector(folder)


def test_what_is_no_model(tmp_path):
    with pytest.raises(KeyError, match="there is no model 'centerfoo'"):
        Detector("centerfoo")
    with pytest.raises(FileNotFoundError, match=r"config="):
        Detector("model_final.pth")
    with pytest.raises(FileNotFoundError, match=r"no config\.yaml"):
        Detector(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"model\.onnx"):
        Detector("model.onnx")("a.jpg")
    with pytest.raises(ValueError, match="name a model"):
        Detector()
    with pytest.raises(OSError, match=r"drive\.google\.com"):
        Detector("ctdet_coco_dla_2x")


def test_an_exported_file(trained, photo, tmp_path):
    """The same objects as with PyTorch, in NumPy."""
    pytest.importorskip("onnxruntime")
    export_synthetic(tmp_path / "model.onnx")
    ours, other = Detector(tmp_path / "model.onnx", threshold=0), Detector(trained, threshold=0)
    result, expected = ours(photo), other(photo)
    assert ours.class_names == other.class_names and len(result) == len(expected) > 5
    order, theirs = (np.lexsort([one.boxes[:, 0], one.scores.round(3)]) for one in (result, expected))
    assert np.allclose(np.sort(result.scores), np.sort(expected.scores), atol=2e-3)
    assert np.allclose(result.boxes[order[-1]], expected.boxes[theirs[-1]], atol=1.0)
    assert result.to_dict().keys() == expected.to_dict().keys()
    assert result.to_dict()["objects"][0].keys() == expected.to_dict()["objects"][0].keys()
    assert result.plot().shape == expected.plot().shape
    with pytest.raises(ValueError, match="can only predict"):
        ours.train("a.json")


def test_train_evaluate_export(tmp_path, photo, monkeypatch):
    """A few steps on a COCO-format file with classes of its own; then the detector has the new weights."""
    from tests.test_metadata import write_dataset

    pytest.importorskip("onnxscript")
    write_dataset(tmp_path / "data")
    json_file = tmp_path / "data" / "a.json"
    options = [*SMALL, "DATALOADER.NUM_WORKERS=0", "SEED=1"]
    detector = Detector(config="Synthetic/shapes_1pt.yaml", options=[*SMALL, "TEST.BEST_METRIC="], threshold=0)
    results = detector.train(
        json_file,
        json_file,
        output=tmp_path / "out",
        iterations=4,
        batch_size=2,
        options=["DATALOADER.NUM_WORKERS=0", "SEED=1"],
    )
    assert "bbox" in results and (tmp_path / "out" / "model_final.pth").is_file()
    from centernet_d2.checkpoint.reading import load_file

    assert load_file(tmp_path / "out" / "model_final.pth")["iteration"] == 3
    assert detector.class_names == ("stent", "clip", "valve") and len(detector(photo)) > 0
    scores = detector.evaluate(json_file, output=tmp_path / "scores", options=options)
    assert scores["bbox"]["AP"] == pytest.approx(results["bbox"]["AP"], nan_ok=True)
    exported = detector.export(tmp_path / "model.onnx")
    assert Detector(exported).class_names == detector.class_names
    with pytest.raises(ValueError, match=r"\.onnx or \.pt"):
        detector.export(tmp_path / "model.tflite")
