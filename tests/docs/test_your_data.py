"""The commands of docs/your_data.md run as they stand, trained for two steps with a tiny network."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import cv2
import pytest

from centernet_d2.cli import main
from centernet_d2.data.formats.labels import FORMATS, read_labels
from centernet_d2.data.formats.labels.editing import split_images
from centernet_d2.data.validation.issues import AnnotationError
from centernet_d2.data.validation.usable import TASKS, check_pairing
from tests.helpers.labels import HEIGHT, WIDTH, draw, make_set, put

PAGE = (Path(__file__).resolve().parents[2] / "docs/your_data.md").read_text()
COMMANDS = [
    shlex.split(command)
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)
    for command in block.replace("\\\n", " ").splitlines()
]
TINY = (
    *("MODEL.DEVICE=cpu", "SOLVER.MAX_ITER=2", "SOLVER.STEPS=()", "SOLVER.IMS_PER_BATCH=2", "DATALOADER.NUM_WORKERS=0"),
    *("INPUT.SIZE_TRAIN=[64,64]", "INPUT.SIZE_TEST=[64,64]", "SOLVER.REFERENCE_WORLD_SIZE=0", "TEST.IMS_PER_BATCH=2"),
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the page calls my_labels, my_yolo, my_coco, my_masks, my_oriented and my_video, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    for name, kind, keypoints, outlines in (
        ("my_labels", "labelme", True, False),
        ("my_yolo", "yolo", False, False),
        ("my_masks", "coco_folder", False, True),
        ("my_oriented", "dota", False, True),
    ):
        FORMATS[kind].write(make_set(tmp_path / f"{name}_source", keypoints, outlines), tmp_path / name)
    box = '<box frame="{}" outside="0" xtl="20" ytl="10" xbr="100" ybr="60"/>'
    for frame in range(3):
        draw(tmp_path / f"my_video/images/frame_{frame:06d}.png")
    track = f'<track id="0" label="cat">{"".join(box.format(k) for k in range(3))}</track>'
    size = f"<meta><original_size><width>{WIDTH}</width><height>{HEIGHT}</height></original_size></meta>"
    put(tmp_path / "my_video/annotations.xml", f"<annotations>{size}{track}</annotations>")
    return tmp_path


def test_labels_are_checked_drawn_converted_and_split(folder, capsys):
    quick = [command[1:] for command in COMMANDS if command[1] in ("check-data", "convert-labels")]
    assert len(quick) == 3
    for command in quick:
        assert main(command) == 0
    shown = capsys.readouterr().out
    assert "3 keypoints train KeypointRegressionTask or KeypointHeatmapTask" in shown
    assert "1 images have no objects: they train as background" in shown
    assert cv2.imread(str(folder / "labels.jpg")).shape[0] > 300
    assert (folder / "my_coco/train.json").is_file() and (folder / "my_tracks/labels.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("number", range(5))
def test_models_are_trained(folder, number):
    ours = read_labels(folder / "my_labels")
    split_images(ours, 0.5)
    ours.data["images"][-1]["split"], ours.data["images"][0]["split"] = "val", "train"
    FORMATS["coco_folder"].write(ours, folder / "my_coco")
    assert main(COMMANDS[-2][1:]) == 0  # my_tracks
    trainings = [command[1:] for command in COMMANDS if command[1] == "train"]
    assert len(trainings) == 5
    assert main([*trainings[number], *TINY]) == 0
    assert next((folder / "output").iterdir()).joinpath("model_final.pth").is_file()


def test_the_page_names_every_format_and_task():
    for name in FORMATS:
        assert f"`{name}`" in PAGE
    for tasks in TASKS.values():
        assert all(f"`{task}`" in PAGE for task in tasks)


def test_a_task_without_its_labels_stops_with_a_sentence():
    dicts = [{"annotations": [{"bbox": [0, 0, 1, 1], "segmentation": [[0, 0, 1, 0, 1, 1]]}]}]
    check_pairing("mine", dicts, "LSNetContourTask", ("crowd", "contour"))
    check_pairing("mine", [{"annotations": []}], "KeypointHeatmapTask", ("keypoints",))
    message = "KeypointHeatmapTask learns from keypoints, and none of the 1 objects has any. These labels train"
    with pytest.raises(AnnotationError, match=message + " DetectionTask or LSNetContourTask"):
        check_pairing("mine", dicts, "KeypointHeatmapTask", ("keypoints",))
