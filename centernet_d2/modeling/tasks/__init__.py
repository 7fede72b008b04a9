"""One file a task; importing this registers them."""

from centernet_d2.modeling.tasks.base import TASK_REGISTRY, Task, build_task
from centernet_d2.modeling.tasks.clothes_landmarks import ClothesLandmarkTask
from centernet_d2.modeling.tasks.detection import GridPointTask
from centernet_d2.modeling.tasks.detection_3d import Boxes3DTask
from centernet_d2.modeling.tasks.extreme_points import ExtremePointTask
from centernet_d2.modeling.tasks.keypoint_heatmap import LandmarkHeatmapTask
from centernet_d2.modeling.tasks.keypoint_regression import LandmarkRegressionTask

__all__ = [
    "TASK_REGISTRY",
    "Boxes3DTask",
    "ClothesLandmarkTask",
    "ExtremePointTask",
    "GridPointTask",
    "LandmarkHeatmapTask",
    "LandmarkRegressionTask",
    "Task",
    "build_task",
]
