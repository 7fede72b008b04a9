"""Everything that is wrong with a data set, as a table and as JSON."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from detectron2.config import CfgNode

from centernet_d2.data.catalog import class_names, load_records
from centernet_d2.data.datasets.coco import read_coco
from centernet_d2.data.datasets.custom import location_of, register_custom_datasets
from centernet_d2.data.datasets.keypoint_sets import read_landmarks
from centernet_d2.data.datasets.voc import read_voc, voc_class_names
from centernet_d2.data.image_io import Record
from centernet_d2.data.schemas import SCHEMES
from centernet_d2.data.validation.checks import SharedCells, check_annotations, shared_cells
from centernet_d2.data.validation.issues import Finding


@dataclass
class Report:
    """What was found in one data set; ``shared`` has an entry for each point of the 3x3 grid in a box."""

    name: str
    num_pictures: int
    class_counts: dict[str, int]
    findings: list[Finding]
    shared: list[SharedCells]

    def table(self) -> str:
        """For people."""
        lines = [f"{self.name}: {self.num_pictures} pictures, {sum(self.class_counts.values())} objects"]
        lines += [f"  {count:8d}  {name}" for name, count in self.class_counts.items()]
        lost = "  ".join(f"{point}: {cells.lost}" for point, cells in enumerate(self.shared))
        lines.append(f"  objects that share class and cell with an earlier one, by point:  {lost}")
        lines.append(f"  {len(self.findings)} findings" + (":" if self.findings else ""))
        lines += [f"    {'' if finding.fatal else '(minor) '}{finding}" for finding in self.findings]
        return "\n".join(lines)

    def to_json(self) -> str:
        """For programs."""
        findings = [finding._asdict() for finding in self.findings]
        shared = [cells._asdict() for cells in self.shared]
        counts = {"pictures": self.num_pictures, "classes": self.class_counts, "shared_cells": shared}
        return json.dumps({"name": self.name, **counts, "findings": findings}, default=str)


@dataclass
class Grid:
    """The grid on which objects may share a cell: ``input_size`` (height, width) and ``stride`` in input pixels."""

    input_size: tuple[int, int] = (512, 512)
    stride: int = 4


def report_coco(json_file: str, image_root: str, check_images: bool = True, grid: Grid | None = None) -> Report:
    """Of a COCO-format file.

    Raises:
        FileNotFoundError, AnnotationError: no such file, or nothing that can be read as such a file.
    """
    coco = read_coco(json_file, image_root)
    return _report(json_file, coco.records, coco.class_names, coco.findings, check_images, grid)


def report_voc(root: str, split: str, check_images: bool = True, grid: Grid | None = None) -> Report:
    """Of a folder in Pascal VOC's layout.

    Raises:
        FileNotFoundError: the layout is not there.
    """
    names = voc_class_names(root)
    records, findings = read_voc(root, split, names)
    return _report(f"{root} {split}", records, names, findings, check_images, grid)


def report_landmarks(
    scheme_name: str, json_file: str, image_root: str, check_images: bool = True, grid: Grid | None = None
) -> Report:
    """Of a COCO-format file whose objects have the landmarks of ``SCHEMES[scheme_name]``; raises as ``report_coco``."""
    coco = read_landmarks(SCHEMES[scheme_name], json_file, image_root)
    return _report(json_file, coco.records, coco.class_names, coco.findings, check_images, grid)


# Those of the kinds of DATASETS.CUSTOM whose files are read here; the others show their first faults only.
_REPORTS: dict[str, Callable[[str, str, bool, Grid | None], Report]] = {
    "coco": report_coco,
    "voc": report_voc,
    **{name: functools.partial(report_landmarks, name) for name in SCHEMES},
}


def report_config(cfg: CfgNode, check_images: bool = True) -> list[Report]:
    """Of every set in ``DATASETS.TRAIN`` and ``DATASETS.TEST``, on the grid of ``INPUT.SIZE_TRAIN``."""
    register_custom_datasets(cfg)
    grid = Grid(tuple(cfg.INPUT.SIZE_TRAIN))
    reports = []
    for name in dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)):
        location = location_of(name)
        if location is None or location[0] not in _REPORTS:
            reports.append(_report(name, load_records(name), class_names(name), [], check_images, grid))
            continue
        kind, first, second = location
        reports.append(_REPORTS[kind](first, second, check_images, grid))
    return reports


def _report(
    name: str,
    records: Sequence[Record],
    names: Sequence[str],
    findings: list[Finding],
    check_images: bool,
    grid: Grid | None,
) -> Report:
    """Completes ``findings``, those of the file, by those of the records."""
    grid = grid or Grid()
    found = check_annotations(records, names, check_images)
    # Records that are malformed themselves (of sets that other code registered) cannot be counted.
    sound = [] if any(finding.fatal and finding.field != "picture" for finding in found) else records
    counts = Counter(annotation["category_id"] for record in sound for annotation in record.get("annotations", []))
    shared = [shared_cells(sound, grid.stride, grid.input_size, point) for point in range(9)]
    return Report(name, len(records), {n: counts[i] for i, n in enumerate(names)}, findings + found, shared)
