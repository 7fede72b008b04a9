"""The parts of a report, a module each. A part is a function that returns HTML, "" where there is nothing to show."""

from collections.abc import Callable

from centernet_d2.report.figures.classes import build_class_table
from centernet_d2.report.figures.confusion import build_confusion
from centernet_d2.report.figures.curves import build_losses, build_scores_over_time
from centernet_d2.report.figures.images import build_extreme_images, build_training_images
from centernet_d2.report.figures.keypoints import build_keypoint_errors
from centernet_d2.report.figures.precision_recall import build_precision_recall
from centernet_d2.report.figures.results import build_results
from centernet_d2.report.figures.score_histogram import build_score_histogram
from centernet_d2.report.figures.summary import build_summary
from centernet_d2.report.run_folder import EvaluatedDataset, RunFolder

RUN_FIGURES: tuple[tuple[str, Callable[[RunFolder], str]], ...] = (
    ("Run", build_summary),
    ("Results", build_results),
    ("Scores during training", build_scores_over_time),
    ("Losses", build_losses),
    ("First images of training, with labels", build_training_images),
)
DATASET_FIGURES: tuple[tuple[str, Callable[[EvaluatedDataset], str]], ...] = (
    ("Classes", build_class_table),
    ("Precision and recall", build_precision_recall),
    ("Confusion matrix", build_confusion),
    ("Scores of right and wrong detections", build_score_histogram),
    ("Errors of keypoints", build_keypoint_errors),
    ("Best and worst images", build_extreme_images),
)

__all__ = ["DATASET_FIGURES", "RUN_FIGURES"]
