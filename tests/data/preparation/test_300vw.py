"""300VW: real frames, videos that are decoded, the official split."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from centernet_d2.data.image_io import read_image
from centernet_d2.data.preparation import face_300vw
from centernet_d2.data.preparation.command import prepare
from centernet_d2.data.preparation.face_300vw import TEST_VIDEOS, convert_300vw, read_corrupt_frames
from tests.helpers.files import face_points, images_and_points, load, pts_text, write_image


@pytest.fixture
def sample(shared_data: Path, tmp_path: Path) -> Path:
    shutil.copytree(shared_data / "300vw", tmp_path / "300vw", copy_function=shutil.copyfile)
    os.chmod(tmp_path / "300vw", 0o755)
    return tmp_path / "300vw"


def _write_video(folder: Path, brightness: list[int]) -> None:
    folder.mkdir(parents=True)
    video = cv2.VideoWriter(str(folder / "vid.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (96, 80))
    assert video.isOpened()
    for value in brightness:
        video.write(np.full((80, 96, 3), value, np.uint8))
    video.release()


def _annotate(folder: Path, numbers: list[int]) -> None:
    (folder / "annot").mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / "annot" / f"{number:06d}.pts").write_text(pts_text(face_points(number)))


def test_real_frames_against_the_sample_s_own_json(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(sample, convert_300vw) == 0
    assert "left out" not in (given := capsys.readouterr().out)
    assert "1 videos, but 50 are known" in given and "1 videos, but 31 are known" in given
    gt = images_and_points(sample / "anno_300vw.json")
    found = {}
    for split in ("train", "test_1"):
        found |= images_and_points(sample / "annotations" / f"{split}.json")
        dataset_dicts = load(sample / "annotations" / f"{split}.json", sample, "face68")
        for dataset_dict in dataset_dicts:
            assert read_image(dataset_dict).shape == (dataset_dict["height"], dataset_dict["width"], 3)
    # Both leave out the frame 731 of 401, which broken_frames.npy lists.
    assert list(found) == list(gt)
    for name, (points,) in found.items():
        np.testing.assert_allclose(points[:, :2], gt[name][0][:, :2] - 1, atol=6e-5)
    assert not (sample / "annotations/test_2.json").exists()


def test_corrupt_frames_of_the_sample(shared_data: Path) -> None:
    corrupt = read_corrupt_frames(shared_data / "300vw/broken_frames.npy")
    assert sum(map(len, corrupt.values())) > 1000
    assert corrupt["401"][:3] == [722, 723, 724]
    assert set(corrupt) < set(" ".join(TEST_VIDEOS.values()).split())


def test_corrupt_frames_run_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    path = tmp_path / "broken_frames.npy"
    np.save(path, np.array({"001": [1, 2]}, dtype=object), allow_pickle=True)
    assert read_corrupt_frames(path) == {"001": [1, 2]}
    np.save(path, np.array({"001": Evil()}, dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"broken_frames\.npy is not a dict of lists of frame numbers"):
        read_corrupt_frames(path)
    assert not (tmp_path / "evil").exists()
    np.load(path, allow_pickle=True)
    assert (tmp_path / "evil").exists(), "the test has no teeth"
    for content in (b"", b"text", pickle.dumps({"001": [1]})):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a dict"):
            read_corrupt_frames(path)


def test_split() -> None:
    videos = [video for split in TEST_VIDEOS.values() for video in split.split()]
    assert len(videos) == len(set(videos)) == 114 - 50
    assert [len(split.split()) for split in TEST_VIDEOS.values()] == [31, 19, 14]


def test_frames_are_extracted_and_not_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = tmp_path / "300VW_Dataset_2015_12_14/114"
    _write_video(video, [20 * k for k in range(1, 11)])
    _annotate(video, [1, 2, 3, 5, 8, 10, 12])
    (first,) = convert_300vw(tmp_path)
    assert [str(issue) for issue in first.issues] == [f"{video}/extraction/000012.jpg, image: the file does not exist"]
    assert sorted(path.name for path in (video / "extraction").iterdir()) == [
        f"{number:06d}.jpg" for number in (1, 2, 3, 5, 8, 10)
    ]
    for dataset_dict in load(first.json_file, tmp_path, "face68"):
        number = int(Path(dataset_dict["file_name"]).stem)
        assert abs(float(read_image(dataset_dict).mean()) - 20 * number) < 2
        points = np.reshape(dataset_dict["annotations"][0]["keypoints"], (68, 3))[:, :2]
        np.testing.assert_allclose(points, face_points(number) + 0.5, atol=1e-9)
    content = first.json_file.read_bytes()
    # Killed in the center: one file missing, one cut off under its temporary name.
    (video / "annot/000012.pts").unlink()
    (video / "extraction/000008.jpg").unlink()
    (video / "extraction/000008.extracting").write_bytes(b"")
    kept = (video / "extraction/000001.jpg").stat().st_mtime_ns
    (second,) = convert_300vw(tmp_path)
    assert (second.issues, second.json_file.read_bytes()) == ([], content)
    assert (video / "extraction/000001.jpg").stat().st_mtime_ns == kept
    # Nothing is missing: the video is not opened any more.
    monkeypatch.setattr(face_300vw.cv2, "VideoCapture", None)
    (third,) = convert_300vw(tmp_path)
    assert third.json_file.read_bytes() == content


def test_every(tmp_path: Path) -> None:
    _annotate(tmp_path / "001", list(range(3, 14)))
    for number in range(1, 20):
        write_image(tmp_path / "001/imgs" / f"{number:06d}.png")
    for every, numbers in ((1, range(3, 14)), (4, (3, 7, 11)), (100, (3,))):
        (summary,) = convert_300vw(tmp_path, every)
        assert list(images_and_points(summary.json_file)) == [f"001/imgs/{number:06d}.png" for number in numbers]


def test_corrupt_videos_and_frames_are_named_and_the_rest_is_converted(tmp_path: Path) -> None:
    for name in ("001", "002", "003"):
        _annotate(tmp_path / name, [1, 2, 3])
        for number in (1, 2, 3):
            write_image(tmp_path / name / "images" / f"{number:06d}.jpg")
    shutil.rmtree(tmp_path / "002/images")
    (tmp_path / "002/vid.avi").write_bytes(b"no video")
    (tmp_path / "003/images/000001.jpg").unlink()
    (tmp_path / "003/annot/000002.pts").write_text(pts_text(face_points(count=67)))
    (tmp_path / "003/annot/notes.pts").write_text("for nobody")
    (summary,) = convert_300vw(tmp_path)
    assert [str(issue) for issue in summary.issues] == [
        f"{tmp_path}/002/vid.avi, video: cannot be decoded",
        f"{tmp_path}/003/extraction/000001.jpg, image: the file does not exist: there is no folder "
        f"'{tmp_path}/003/extraction'",
        f"{tmp_path}/003/annot/000002.pts, n_points: is 67, not 68",
    ]
    names = [image["file_name"] for image in json.loads(summary.json_file.read_text())["images"]]
    assert names == [f"001/images/00000{k}.jpg" for k in (1, 2, 3)] + ["003/images/000003.jpg"]
