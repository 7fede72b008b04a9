"""Label formats, one file each: ``recognize(path)``, ``read(path)`` -> :class:`LabelSet`, ``write(labels, folder)``."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from centernet_d2.data.formats.labels import coco, cvat, dota, label_studio, labelme, via, voc, yolo
from centernet_d2.data.formats.labels.label_set import LabelSet
from centernet_d2.data.validation.issues import AnnotationError
from centernet_d2.data.validation.missing import explain_missing

#: By name, in the order in which ``auto`` asks them.
FORMATS: dict[str, ModuleType] = {one.NAME: one for one in (coco, labelme, label_studio, via, cvat, voc, dota, yolo)}

__all__ = ["FORMATS", "LabelSet", "read_labels", "recognize_format"]


def recognize_format(path: Path) -> str:
    """Return the name of the format of a file or folder.

    Raises:
        FileNotFoundError: there is none.
        AnnotationError: it is none of the formats.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} {explain_missing(path)}")
    for name, module in FORMATS.items():
        if module.recognize(path):
            return name
    raise AnnotationError(f"{path} is none of the label formats {', '.join(FORMATS)}: name the format if it is one")


def read_labels(path: Path, format_name: str = "auto") -> LabelSet:
    """Read a file or folder; raises as :func:`recognize_format` and the format's ``read``."""
    if not path.exists():
        raise FileNotFoundError(f"{path} {explain_missing(path)}")
    return FORMATS[recognize_format(path) if format_name == "auto" else format_name].read(path)
