"""What every converter does: go through the items, name what is wrong, go on after a kill, write one COCO file."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from centernet_d2.checkpoint.writing import write_atomically
from centernet_d2.data.image_io import read_image_size
from centernet_d2.data.validation.issues import AnnotationIssue
from centernet_d2.progress import track

Item = TypeVar("Item")
Fields = dict[str, Any]
_LISTED = 10


@dataclass(frozen=True)
class Converted:
    """What became of one item.

    Attributes:
        image: an entry of "images" without its id; None where it must be left out, its objects with it.
        objects: entries of "annotations" without ``id`` and ``image_id``.
        issues: what was left out, and why.
    """

    image: Fields | None = None
    objects: Sequence[Fields] = ()
    issues: Sequence[AnnotationIssue] = ()


@dataclass
class Summary:
    """Of one JSON file.

    Attributes:
        known: the reference numbers of "images" and "objects", where there are any.
        notes: more warnings.
    """

    json_file: Path
    images: int = 0
    objects: int = 0
    issues: list[AnnotationIssue] = field(default_factory=list)
    known: Mapping[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def list_warnings(self) -> list[str]:
        """Return the counts that differ from the known ones, and the notes."""
        found = {"images": self.images, "objects": self.objects}
        known = self.known.items()
        differing = [f"{found[what]} {what}, but {n} are known" for what, n in known if found[what] != n]
        return differing + self.notes

    def __str__(self) -> str:
        lines = [f"{self.json_file}: {self.images} images, {self.objects} objects"]
        if not self.images:
            lines = [f"{self.json_file}: not written, there is nothing to convert"]
        lines += [f"  warning: {warning}" for warning in self.list_warnings()]
        return "\n".join([*lines, *describe_issues(self.issues)])


def describe_issues(issues: Sequence[AnnotationIssue]) -> list[str]:
    """Return lines: how many of each field were left out, and the first ten in full."""
    if not issues:
        return []
    counts = Counter(issue.field for issue in issues)
    counted = ", ".join(f"{number} for {name}" for name, number in counts.most_common(_LISTED))
    more = [f"    ... and {len(issues) - _LISTED} more"] if len(issues) > _LISTED else []
    return [f"  left out: {counted}", *(f"    {issue}" for issue in issues[:_LISTED]), *more]


def make_image_entry(root: Path, file_name: str, **fields: Any) -> Fields:
    """Return an entry of "images" for ``root / file_name``: its name, height and width in pixels, upright, and
    ``fields``.

    Raises:
        CorruptImageError: absent, or not an image.
    """
    height, width = read_image_size(str(root / file_name))
    return {"file_name": file_name, "height": height, "width": width, **fields}


def convert(
    items: Sequence[Item],
    read_item: Callable[[Item], Converted],
    json_file: Path,
    categories: Sequence[Fields],
    options: str = "",
    known: Mapping[str, int] | None = None,
    videos: Sequence[Fields] = (),
) -> Summary:
    """Convert all items, in their order, to one COCO file; ids count images and objects from 1.

    Each result is kept in ``<json_file>.partial`` until the end: a run that was killed goes on from there, if items and
    options are the same, and gives the same file. Items with issues are read again, as they may have been mended.

    Args:
        items: anything whose ``repr`` tells it from others.
        options: whatever else ``read_item`` depends on.
        known: reference numbers of "images" and "objects", to be warned about.
        videos: entries of "videos", of which images have a "video_id"; none for images of their own.

    Raises:
        OSError: the file cannot be written.
    """
    summary = Summary(json_file, known=known or {})
    json_file.parent.mkdir(parents=True, exist_ok=True)
    partial = json_file.with_name(json_file.name + ".partial")
    described = json.dumps([options, list(categories), [repr(item) for item in items]])
    with partial.open("a+b") as journal:
        positions = _resume(journal, f"{hashlib.sha256(described.encode()).hexdigest()}\n".encode())
        for index, item in enumerate(track(items, json_file.name, "items")):
            if index not in positions:
                result = read_item(item)
                positions[index] = journal.seek(0, io.SEEK_END)
                line = json.dumps([index, result.image, [*result.objects], [*result.issues]])
                journal.write(line.encode() + b"\n")
                journal.flush()
        results = _iterate_results(journal, positions, summary)
        first = next(results, None)
        if first is not None:
            everything = itertools.chain([first], results)
            heads = {"categories": [*categories], **({"videos": [*videos]} if videos else {})}
            write_atomically(json_file, lambda file: _write(file, everything, heads), lambda _: None)
    partial.unlink()
    return summary


def _resume(journal: IO[bytes], header: bytes) -> dict[int, int]:
    """Return where in the journal the items without issues are that an earlier run of the same kind left.

    A half-written end is removed.
    """
    journal.seek(0)
    if journal.readline() != header:
        journal.truncate(0)
        journal.write(header)
        return {}
    positions: dict[int, int] = {}
    start = end = len(header)
    for line in journal:
        try:
            index, _, _, issues = json.loads(line)
        except ValueError:
            break
        if line.endswith(b"\n") and not issues:
            positions[index], end = start, start + len(line)
        start += len(line)
    journal.truncate(end)
    return positions


def _iterate_results(journal: IO[bytes], positions: dict[int, int], summary: Summary) -> Iterator[tuple[Fields, list]]:
    """Yield image and objects of the items in their order, with ids; count them in ``summary``."""
    for index in sorted(positions):
        journal.seek(positions[index])
        _, image, objects, issues = json.loads(journal.readline())
        summary.issues += [AnnotationIssue(*issue) for issue in issues]
        if image is None:
            continue
        summary.images += 1
        numbered = []
        for fields in objects:
            summary.objects += 1
            numbered.append({"id": summary.objects, "image_id": summary.images, **fields})
        yield {"id": summary.images, **image}, numbered


def _write(file: IO[bytes], results: Iterator[tuple[Fields, list]], heads: Mapping[str, list[Fields]]) -> None:
    """Write one object a line; only the images' entries are held in memory."""
    images, separator = [], b""
    file.write(json.dumps(heads)[:-1].encode() + b',\n"annotations": [')
    for image, objects in results:
        images.append(image)
        for entry in objects:
            file.write(separator + b"\n" + json.dumps(entry).encode())
            separator = b","
    file.write(b'],\n"images": [\n' + ",\n".join(map(json.dumps, images)).encode() + b"]}\n")
