"""First images of training, best and worst images of an evaluation."""

from __future__ import annotations

from centernet_d2.report.html import format_photo
from centernet_d2.report.matching import MIN_IOU, MIN_SCORE
from centernet_d2.report.run_folder import EvaluatedDataset, RunFolder

_NOTE = (
    "Left: labels; right: detections with scores of at least "
    f"{MIN_SCORE}. Images are ordered by the mean IoU of the right detections (IoU of at least {MIN_IOU}) times F1."
)


def build_training_images(run: RunFolder) -> str:
    """Return the sheets of ``training_images.draw_first_images``."""
    return "\n".join(format_photo(path, "as the network sees them, after augmentation") for path in run.train_images)


def build_extreme_images(dataset: EvaluatedDataset) -> str:
    """Return the worst images, then the best."""
    parts = []
    for group in ("worst", "best"):
        for entry in dataset.images:
            if entry["group"] == group:
                caption = f"{group}: {entry['image']}, {entry['quality']:.3f}"
                parts.append(format_photo(dataset.folder / entry["file"], caption))
    return f'<p class="note">{_NOTE}</p>' + "\n".join(parts) if parts else ""
