"""MOTChallenge's layout from files built here, with everything wrong in them that can be; video datasets."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from centernet_d2.config import get_cfg
from centernet_d2.data.catalog import get_class_names, load_dataset_dicts
from centernet_d2.data.datasets.builtin import register_all_mot
from centernet_d2.data.datasets.custom import register_custom_datasets
from centernet_d2.data.datasets.mot import register_video
from centernet_d2.data.image_io import get_datasets_root
from centernet_d2.data.preparation.mot import SPLITS, _select_frames, convert_mot, read_video
from centernet_d2.data.validation.issues import AnnotationError
from tests.helpers.files import run_script, write_image

INI = "[Sequence]\nname=MOT17-02-FRCNN\nimDir=img1\nframeRate=30\nseqLength={}\nimWidth=100\nimHeight=80\nimExt=.jpg\n"
PEDESTRIAN = "1,3,11,21,30,40,1,1,0.8"


def write_video(folder: Path, length: int, lines: list[str] | None) -> None:
    for frame in range(1, length + 1):
        write_image(folder / "img1" / f"{frame:06d}.jpg")
    (folder / "seqinfo.ini").write_text(INI.format(length))
    if lines is not None:
        (folder / "gt").mkdir()
        (folder / "gt/gt.txt").write_text("\n".join([*lines, ""]))


def changed(field: int, value: str) -> str:
    return ",".join([*PEDESTRIAN.split(",")[:field], value, *PEDESTRIAN.split(",")[field + 1 :]])


def content(root: Path, split: str) -> dict[str, Any]:
    return json.loads((root / "annotations" / f"{split}.json").read_text())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two videos to train on, of 6 and 5 frames, each in three copies, and one to test."""
    for detector in ("DPM", "FRCNN", "SDP"):
        write_video(
            tmp_path / f"train/MOT17-02-{detector}", 6, [f"{frame},7,{frame},1,10,20,1,1,1" for frame in range(1, 7)]
        )
        write_video(tmp_path / f"train/MOT17-04-{detector}", 5, [PEDESTRIAN, "5,3,91,61,30,40,0,7,0"])
        write_video(tmp_path / f"test/MOT17-01-{detector}", 2, None)
    return tmp_path


def test_one_copy_of_each_video_is_converted(root: Path) -> None:
    summaries = convert_mot(root)
    assert [one.json_file.stem for one in summaries] == ["train", "train_half", "val_half", "test"]
    assert [(one.images, one.objects, one.issues) for one in summaries] == [
        (11, 8, []), (7, 5, []), (4, 3, []), (2, 0, []),
    ]  # fmt: skip
    data = content(root, "train")
    assert data["categories"] == [{"id": 1, "name": "person"}]
    assert data["videos"] == [{"id": 1, "name": "MOT17-02-FRCNN"}, {"id": 2, "name": "MOT17-04-FRCNN"}]
    expected = [(1, frame) for frame in range(6)] + [(2, frame) for frame in range(5)]
    assert [(one["video_id"], one["frame"]) for one in data["images"]] == expected
    assert data["images"][6] == {
        "id": 7, "file_name": "train/MOT17-04-FRCNN/img1/000001.jpg", "height": 80, "width": 100,
        "video_id": 2, "frame": 0,
    }  # fmt: skip
    assert content(root, "test")["videos"] == [{"id": 1, "name": "MOT17-01-FRCNN"}]


def test_the_first_pixel_and_frame_are_number_one(root: Path) -> None:
    """An object at the first pixel, as wide as the image, is the whole image: 0 to 100, 0 to 80."""
    (root / "train/MOT17-04-FRCNN/gt/gt.txt").write_text("1,3,1,1,100,80,1,1,0.25\n")
    convert_mot(root)
    (entry,) = [one for one in content(root, "train")["annotations"] if one["image_id"] == 7]
    assert entry == {
        "id": 7, "image_id": 7, "category_id": 1, "bbox": [0, 0, 100, 80], "area": 8000, "iscrowd": 0, "track_id": 3,
        "visibility": 0.25,
    }  # fmt: skip


def test_halves(root: Path) -> None:
    """CenterTrack's: of 6 frames 4 and 2, of 5 frames 3 and 2; each counts its frames from 0."""
    convert_mot(root)
    halves = {split: content(root, split) for split in ("train_half", "val_half")}
    numbers = {
        split: [(one["video_id"], int(Path(one["file_name"]).stem), one["frame"]) for one in data["images"]]
        for split, data in halves.items()
    }
    assert numbers["train_half"] == [(1, 1, 0), (1, 2, 1), (1, 3, 2), (1, 4, 3), (2, 1, 0), (2, 2, 1), (2, 3, 2)]
    assert numbers["val_half"] == [(1, 5, 0), (1, 6, 1), (2, 4, 0), (2, 5, 1)]
    # The object of the first video is at x = number of the frame.
    assert [one["bbox"][0] for one in halves["val_half"]["annotations"]] == [4, 5, 90]


def test_halves_of_mot17_are_as_many_frames_as_reference() -> None:
    """Of MOT17's sequences 02, 04, 05, 09, 10, 11 and 13."""
    for split in ("train", "train_half", "val_half"):
        assert (
            sum(len(_select_frames(split, length)) for length in (600, 1050, 837, 525, 654, 900, 750))
            == SPLITS[split][1]
        )


def test_persons_that_are_not_tracked_are_regions_and_things_are_left_out(tmp_path: Path) -> None:
    lines = [f"1,{k},11,21,30,40,{int(k == 1)},{k},1" for k in range(1, 14)] + ["1,14,11,21,30,40,0,1,1"]
    write_video(tmp_path / "train/A", 1, lines)
    objects = read_video(tmp_path, "train/A", True).objects[1]
    assert {one["track_id"]: one["iscrowd"] for one in objects} == {1: 0, 2: 1, 7: 1, 8: 1, 12: 1, 13: 1, 14: 1}
    assert {one["category_id"] for one in objects} == {1}


ERRORS = {
    "short": ("1,3,11,21,30,40,1", "line: has 7 values, not 9"),
    "frame": (changed(0, "4"), "frame: is 4, not a whole number from 1 to 3"),
    "frame-part": (changed(0, "1.5"), "frame: is 1.5, not a whole number"),
    "id": (changed(1, "-1"), "id: is -1, not a whole number from 1"),
    "nan": (changed(2, "nan"), "bbox: .* has a value that is not a finite number"),
    "infinite": (changed(4, "1e999"), "bbox: .* has a value that is not a finite number"),
    "no-number": (changed(3, "top"), "bbox: .* has a value that is not a finite number"),
    "no-area": (changed(5, "0"), "bbox: .* has no area"),
    "confidence": (changed(6, "0.5"), "confidence: is 0.5, not 0 or 1"),
    "class": (changed(7, "14"), "class: is 14, not a class from 1 to 13"),
    "visibility": (changed(8, "nan"), "visibility: is nan, not a fraction from 0 to 1"),
    "twice": (changed(2, "50"), "id: is 3, as on line 1 in the same frame"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_lines_with_errors_are_left_out_and_named(tmp_path: Path, name: str) -> None:
    line, problem = ERRORS[name]
    write_video(tmp_path / "train/A", 3, [PEDESTRIAN, line, "", "2,4,11,21,30,40,1,1,1"])
    video = read_video(tmp_path, "train/A", True)
    assert {frame: len(objects) for frame, objects in video.objects.items()} == {1: 1, 2: 1}
    (issue,) = video.issues
    with pytest.raises(ValueError, match=f"^train/A/gt/gt.txt, annotation 2, {problem}"):
        raise ValueError(str(issue))
    assert all(one.issues == [issue] for one in convert_mot(tmp_path))


INIS = {
    None: "file: does not exist: the video is left out",
    "no sections": "file: cannot be read: File contains no section headers.",
    "[Sequence]\nname=A\n": "seqLength: is missing in [Sequence]",
    "[Sequence]\nseqLength=many\n": "seqLength: is 'many', not a number of frames",
    "[Sequence]\nseqLength=1000000000\n": "seqLength: is '1000000000', not a number of frames",
}


@pytest.mark.parametrize("text", INIS)
def test_videos_that_cannot_be_used_are_named_and_the_others_converted(root: Path, text: str | None) -> None:
    ini = root / "train/MOT17-02-FRCNN/seqinfo.ini"
    ini.unlink() if text is None else ini.write_text(text)
    (root / "train/MOT17-04-FRCNN/img1/000002.jpg").write_bytes(b"no image")
    (root / "train/MOT17-04-FRCNN/img1/000004.jpg").unlink()
    summary = convert_mot(root)[0]
    first, second, third = map(str, summary.issues)
    assert first == f"train/MOT17-02-FRCNN/seqinfo.ini, {INIS[text]}"
    assert second.startswith("train/MOT17-04-FRCNN/img1/000002.jpg, image: ")
    assert third.startswith("train/MOT17-04-FRCNN/img1/000004.jpg, image: ")
    data = content(root, "train")
    assert data["videos"] == [{"id": 2, "name": "MOT17-04-FRCNN"}]
    assert [(one["video_id"], one["frame"]) for one in data["images"]] == [(2, 0), (2, 2), (2, 4)]


def test_without_tracks_a_video_cannot_be_trained_on(root: Path) -> None:
    (root / "train/MOT17-02-FRCNN/gt/gt.txt").unlink()
    (issue,) = convert_mot(root)[0].issues
    assert str(issue) == "train/MOT17-02-FRCNN/gt/gt.txt, file: does not exist: the video is left out"


def test_script(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_script("prepare_mot17", str(root)) == 0
    assert "train_half.json: 7 images, 5 objects\n  warning: 7 images, but 2664 are known" in capsys.readouterr().out
    assert run_script("prepare_mot17", str(root / "test")) == 1
    assert "has no folders train/<video> or test/<video>; of the copies" in capsys.readouterr().err


def test_unpacked_beside_the_archive(root: Path) -> None:
    (root / "MOT17").mkdir()
    for name in ("train", "test"):
        (root / name).rename(root / "MOT17" / name)
    assert [one.images for one in convert_mot(root)] == [11, 7, 4, 2]
    assert content(root, "test")["images"][0]["file_name"] == "MOT17/test/MOT17-01-FRCNN/img1/000001.jpg"


def test_reference_names(root: Path, tmp_path: Path) -> None:
    (tmp_path / "mot17").symlink_to(root)
    convert_mot(root)
    names = [f"mot17_{split}" for split in SPLITS]
    known = [DatasetCatalog.pop(name) and MetadataCatalog.pop(name) for name in names if name in DatasetCatalog]
    try:
        register_all_mot(str(tmp_path))
        assert get_class_names("mot17_val_half") == ["person"]
        dataset_dicts = load_dataset_dicts("mot17_val_half")
        assert [(one["video_id"], one["frame"]) for one in dataset_dicts] == [(1, 0), (1, 1), (2, 0), (2, 1)]
        assert all(os.path.isfile(one["file_name"]) for one in dataset_dicts)
        annotations = [a for one in dataset_dicts for a in one["annotations"]]
        values = [(a["track_id"], a["iscrowd"], a["category_id"]) for a in annotations]
        assert values == [(7, 0, 0), (7, 0, 0), (3, 1, 0)]
        metadata = MetadataCatalog.get("mot17_val_half")
        assert metadata.evaluator_type == "tracking"
        assert metadata.video_names == {1: "MOT17-02-FRCNN", 2: "MOT17-04-FRCNN"}
    finally:
        for name in names:
            DatasetCatalog.pop(name)
            MetadataCatalog.pop(name)
        if known:
            register_all_mot(get_datasets_root())


def own() -> dict[str, Any]:
    """Two videos of two frames, in no order; classes with a gap in their ids."""
    size = {"height": 80, "width": 100}
    frames = [(2, 1), (1, 0), (2, 0), (1, 1)]
    images = [
        {"id": k, "file_name": f"{v}/{f}.jpg", "video_id": v, "frame": f, **size} for k, (v, f) in enumerate(frames)
    ]
    box = {"bbox": [1, 2, 30, 40], "area": 1200, "iscrowd": 0}
    annotations = [{"id": k, "image_id": k, "category_id": 5, "track_id": 2, **box} for k in range(4)]
    categories = [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}]
    videos = [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}]
    return {"images": images, "annotations": annotations, "categories": categories, "videos": videos}


def test_a_video_set_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(json.dumps(own()))
    name, cfg = f"video_{uuid.uuid4().hex}", get_cfg()
    cfg.DATASETS.CUSTOM = [[name, "video", str(tmp_path / "own.json"), str(tmp_path)]]
    register_custom_datasets(cfg)
    assert get_class_names(name) == ["cat", "dog"]
    dataset_dicts = load_dataset_dicts(name)
    assert [(one["video_id"], one["frame"]) for one in dataset_dicts] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert (
        dataset_dicts[0]["annotations"][0]["track_id"] == 2 and dataset_dicts[0]["annotations"][0]["category_id"] == 1
    )
    assert MetadataCatalog.get(name).video_names == {1: "one", 2: "two"}


OTHER_ERRORS: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "no-videos": (("videos",), None, r"own.json, videos: is not a list"),
    "video": (("videos", 0), {"id": "first", "name": "one"}, r"own.json, videos: has the entry .*'id': 'first'"),
    "video-twice": (("videos", 0, "name"), "two", r"own.json, videos: uses the id 2 or the name 'two' twice"),
    "escaping": (("videos", 0, "name"), "../one", r"own.json, videos: has the entry .*a name that can be a file's"),
    "video-id": (("images", 2, "video_id"), 9, r"2/0.jpg, video_id: is 9, but there is no such video"),
    "frame": (("images", 2, "frame"), 0.5, r"2/0.jpg, frame: is 0.5, not an integer"),
    "frame-twice": (("images", 2, "frame"), 1, r"2/0.jpg, frame: is 1, as that of another image of the video"),
    "track": (("annotations", 1, "track_id"), 0, r"1/0.jpg, annotation 1, track_id: is 0, not an integer from 1"),
    "same-image": (("annotations", 1, "image_id"), 0, r"2/1.jpg, annotation 1, track_id: is 2, as that of another"),
}


@pytest.mark.parametrize("name", OTHER_ERRORS)
def test_errors_of_video_sets_are_named(tmp_path: Path, name: str) -> None:
    path, value, problem = OTHER_ERRORS[name]
    data = entry = own()
    for key in path[:-1]:
        entry = entry[key]
    entry[path[-1]] = value
    (tmp_path / "own.json").write_text(json.dumps(data))
    unique = f"video_{uuid.uuid4().hex}"
    register_video(unique, str(tmp_path / "own.json"), str(tmp_path))
    with pytest.raises(AnnotationError, match=problem):
        load_dataset_dicts(unique)
