"""Every converter: ids, resuming after a kill, counts, messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from centernet_d2.data.preparation.conversion import Converted, Summary, convert
from centernet_d2.data.validation.issues import AnnotationIssue

CATEGORIES = [{"id": 1, "name": "thing"}]


def _item(number: int) -> Converted:
    """Number n has n mod 3 objects; 4 is an error, 5 has one beside a good object."""
    error = AnnotationIssue(f"{number}.txt", None, "field", "is wrong")
    if number == 4:
        return Converted(issues=[error])
    image = {"file_name": f"{number}.jpg", "height": 8, "width": 9}
    objects = [{"category_id": 1, "bbox": [number, k, 1, 1]} for k in range(number % 3)]
    return Converted(image, objects, [error] if number == 5 else [])


def _run(json_file: Path, read: Callable[[int], Converted] = _item, options: str = "") -> Summary:
    return convert(range(8), read, json_file, CATEGORIES, options, {"images": 7, "objects": 9})


def test_file(tmp_path: Path) -> None:
    summary = _run(tmp_path / "annotations/a.json")
    content = json.loads((tmp_path / "annotations/a.json").read_text())
    numbers = [0, 1, 2, 3, 5, 6, 7]
    assert content["categories"] == CATEGORIES
    assert content["images"] == [
        {"id": k, "file_name": f"{n}.jpg", "height": 8, "width": 9} for k, n in enumerate(numbers, start=1)
    ]
    expected = [(k, [n, m, 1, 1]) for k, n in enumerate(numbers, start=1) for m in range(n % 3)]
    assert [(entry["image_id"], entry["bbox"]) for entry in content["annotations"]] == expected
    assert [entry["id"] for entry in content["annotations"]] == list(range(1, len(expected) + 1))
    assert (summary.images, summary.objects) == (7, len(expected))
    assert str(summary).split("\n") == [
        f"{tmp_path}/annotations/a.json: 7 images, {len(expected)} objects",
        f"  warning: {len(expected)} objects, but 9 are known",
        "  left out: 2 for field",
        "    4.txt, field: is wrong",
        "    5.txt, field: is wrong",
    ]


@pytest.mark.parametrize("killed_at", range(8))
@pytest.mark.parametrize("damage", [b"", b'[6, {"file_name": "6.j', b"\x00\xff\n", b"[6, null, [], []]"])
def test_killed_and_run_again(tmp_path: Path, killed_at: int, damage: bytes) -> None:
    first = _run(tmp_path / "whole.json")
    read: list[int] = []

    def stopping(number: int) -> Converted:
        if number == killed_at:
            raise KeyboardInterrupt
        return _item(number)

    def counting(number: int) -> Converted:
        read.append(number)
        return _item(number)

    json_file = tmp_path / "a.json"
    with pytest.raises(KeyboardInterrupt):
        _run(json_file, stopping)
    assert not json_file.exists()
    with (tmp_path / "a.json.partial").open("ab") as file:
        file.write(damage)
    summary = _run(json_file, counting)
    assert read == [n for n in range(8) if n >= killed_at or n in (4, 5)]
    assert json_file.read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert summary.issues == first.issues
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "whole.json"]


def test_a_run_of_another_kind_does_not_go_on(tmp_path: Path) -> None:
    def stopping(number: int) -> Converted:
        if number == 7:
            raise KeyboardInterrupt
        return _item(number)

    read: list[int] = []

    def counting(number: int) -> Converted:
        read.append(number)
        return _item(number)

    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path / "a.json", stopping, "one")
    _run(tmp_path / "a.json", counting, "other")
    assert read == list(range(8))


def test_nothing_to_convert_leaves_the_last_good_file(tmp_path: Path) -> None:
    _run(tmp_path / "a.json")
    before = (tmp_path / "a.json").read_bytes()
    summary = _run(
        tmp_path / "a.json", lambda number: Converted(issues=[AnnotationIssue("a", None, "image", "is gone")])
    )
    assert (tmp_path / "a.json").read_bytes() == before
    assert str(summary).startswith(f"{tmp_path}/a.json: not written, there is nothing to convert\n  warning: 0 images")
    assert "left out: 8 for image" in str(summary)
