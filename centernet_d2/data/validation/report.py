"""Reports of a dataset's issues and object counts, as a table and as JSON."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from detectron2.config import CfgNode

from centernet_d2.data.catalog import get_class_names, load_dataset_dicts
from centernet_d2.data.datasets.custom import get_location, register_custom_datasets
from centernet_d2.data.datasets.keypoint_sets import read_keypoint_dataset
from centernet_d2.data.datasets.label_folders import read_split
from centernet_d2.data.datasets.own_keypoints import KeypointSettings, describe_own_keypoints, read_own_coco
from centernet_d2.data.datasets.voc import read_voc, read_voc_class_names
from centernet_d2.data.formats.labels import FORMATS
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.schemas import SCHEMAS
from centernet_d2.data.validation.checks import SharedCells, check_annotations, count_shared_cells
from centernet_d2.data.validation.issues import AnnotationIssue
from centernet_d2.data.validation.usable import describe_use
from centernet_d2.structures.keypoint_schema import KeypointSchema


@dataclass
class Report:
    """Issues and counts of one dataset; ``shared`` has an entry for each point of the 3x3 grid in a box.

    ``notes`` are lines about what its labels can train; ``dataset_dicts`` and ``schema`` are there to draw it.
    """

    name: str
    num_images: int
    class_counts: dict[str, int]
    issues: list[AnnotationIssue]
    shared: list[SharedCells]
    notes: list[str] = field(default_factory=list)
    dataset_dicts: Sequence[DatasetDict] = ()
    schema: KeypointSchema | None = None

    def format_table(self) -> str:
        """Format the report as text."""
        lines = [f"{self.name}: {self.num_images} images, {sum(self.class_counts.values())} objects"]
        lines += [f"  {count:8d}  {name}" for name, count in self.class_counts.items()]
        lines += [f"  {note}" for note in self.notes]
        lost = "  ".join(f"{point}: {cells.lost}" for point, cells in enumerate(self.shared))
        lines.append(f"  objects that share class and cell with an earlier one, by point:  {lost}")
        lines.append(f"  {len(self.issues)} issues" + (":" if self.issues else ""))
        lines += [f"    {'' if issue.fatal else '(minor) '}{issue}" for issue in self.issues]
        return "\n".join(lines)

    def to_json(self) -> str:
        """Format the report as JSON."""
        issues = [issue._asdict() for issue in self.issues]
        shared = [cells._asdict() for cells in self.shared]
        counts = {"images": self.num_images, "classes": self.class_counts, "shared_cells": shared, "notes": self.notes}
        return json.dumps({"name": self.name, **counts, "issues": issues}, default=str)


@dataclass
class Grid:
    """The grid on which objects may share a cell: ``input_size`` (height, width) and ``stride`` in input pixels."""

    input_size: tuple[int, int] = (512, 512)
    stride: int = 4


def report_coco(json_file: str, image_root: str, check_images: bool = True, grid: Grid | None = None) -> Report:
    """Report on a COCO-format file.

    Raises:
        FileNotFoundError, AnnotationError: no such file, or it is not a COCO file.
    """
    return _report_own(KeypointSettings(), json_file, image_root, check_images, grid)


def _report_own(
    settings: KeypointSettings, json_file: str, image_root: str, check_images: bool, grid: Grid | None
) -> Report:
    coco, schema = read_own_coco(json_file, image_root, settings)
    report = _report(json_file, coco.dataset_dicts, coco.class_names, coco.issues, check_images, grid)
    report.schema = schema
    report.notes = [*describe_use(coco.dataset_dicts, schema), *(describe_own_keypoints(schema) if schema else [])]
    return report


def report_labels(
    path: str,
    split: str,
    check_images: bool = True,
    grid: Grid | None = None,
    settings: KeypointSettings | None = None,
    format_name: str = "auto",
) -> Report:
    """Report on a split of a folder or file in a label format; raises as ``read_split``."""
    coco, schema = read_split(path, split, settings or KeypointSettings(), format_name)
    report = _report(f"{path} {split}", coco.dataset_dicts, coco.class_names, coco.issues, check_images, grid)
    report.schema = schema
    report.notes = [*describe_use(coco.dataset_dicts, schema), *(describe_own_keypoints(schema) if schema else [])]
    return report


def report_voc(root: str, split: str, check_images: bool = True, grid: Grid | None = None) -> Report:
    """Report on a folder in Pascal VOC's layout.

    Raises:
        FileNotFoundError: a folder or list of the layout is absent.
    """
    names = read_voc_class_names(root)
    dataset_dicts, issues = read_voc(root, split, names)
    return _report(f"{root} {split}", dataset_dicts, names, issues, check_images, grid)


def report_keypoints(
    schema_name: str, json_file: str, image_root: str, check_images: bool = True, grid: Grid | None = None
) -> Report:
    """Report on a COCO-format file with the keypoints of ``SCHEMAS[schema_name]``; raises as ``report_coco``."""
    coco = read_keypoint_dataset(SCHEMAS[schema_name], json_file, image_root)
    return _report(json_file, coco.dataset_dicts, coco.class_names, coco.issues, check_images, grid)


# Types of DATASETS.CUSTOM with a full report; other datasets raise their first errors on loading.
_REPORTS: dict[str, Callable[[str, str, bool, Grid | None], Report]] = {
    "coco": report_coco,
    "voc": report_voc,
    **{name: functools.partial(report_keypoints, name) for name in SCHEMAS},
}


def report_config(cfg: CfgNode, check_images: bool = True) -> list[Report]:
    """Report on every dataset in ``DATASETS.TRAIN`` and ``DATASETS.TEST``, on the grid of ``INPUT.SIZE_TRAIN``."""
    register_custom_datasets(cfg)
    grid, settings = Grid(tuple(cfg.INPUT.SIZE_TRAIN)), KeypointSettings.from_config(cfg)
    reports = []
    for name in dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)):
        location = get_location(name)
        if location is None or location[0] not in (*_REPORTS, "auto", *FORMATS):
            reports.append(_report(name, load_dataset_dicts(name), get_class_names(name), [], check_images, grid))
            continue
        kind, first, second, *_ = location
        if kind in ("auto", *FORMATS):
            reports.append(report_labels(first, second, check_images, grid, settings, kind))
            continue
        report = functools.partial(_report_own, settings) if kind == "coco" else _REPORTS[kind]
        reports.append(report(first, second, check_images, grid))
    return reports


def _report(
    name: str,
    dataset_dicts: Sequence[DatasetDict],
    names: Sequence[str],
    issues: list[AnnotationIssue],
    check_images: bool,
    grid: Grid | None,
) -> Report:
    """Build the report: ``issues`` of the file, and those of the dataset dicts."""
    grid = grid or Grid()
    more_issues = check_annotations(dataset_dicts, names, check_images)
    # Malformed dataset dicts (from datasets that other code registered) cannot be counted.
    countable = [] if any(issue.fatal and issue.field != "image" for issue in more_issues) else dataset_dicts
    counts = Counter(
        annotation["category_id"] for dataset_dict in countable for annotation in dataset_dict.get("annotations", [])
    )
    shared = [count_shared_cells(countable, grid.stride, grid.input_size, point) for point in range(9)]
    report = Report(name, len(dataset_dicts), {n: counts[i] for i, n in enumerate(names)}, issues + more_issues, shared)
    report.dataset_dicts = countable
    return report
