"""One file a task; importing this registers them."""

from centernet_d2.modeling.task.base import TASK_REGISTRY, Task, build_task
from centernet_d2.modeling.task.boxes3d import Boxes3DTask
from centernet_d2.modeling.task.clothes_landmarks import ClothesLandmarkTask
from centernet_d2.modeling.task.extreme_points import ExtremePointTask
from centernet_d2.modeling.task.grid_points import GridPointTask
from centernet_d2.modeling.task.landmark_heatmap import LandmarkHeatmapTask
from centernet_d2.modeling.task.landmark_regression import LandmarkRegressionTask

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
