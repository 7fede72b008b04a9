"""One file a task; importing this registers them."""

from centernet_d2.modeling.tasks.base import TASK_REGISTRY, Task, build_task
from centernet_d2.modeling.tasks.detection import DetectionTask
from centernet_d2.modeling.tasks.detection_3d import Detection3DTask
from centernet_d2.modeling.tasks.extreme_points import ExtremePointTask
from centernet_d2.modeling.tasks.keypoint_heatmap import KeypointHeatmapTask
from centernet_d2.modeling.tasks.keypoint_regression import KeypointRegressionTask

__all__ = [
    "TASK_REGISTRY",
    "Detection3DTask",
    "DetectionTask",
    "ExtremePointTask",
    "KeypointHeatmapTask",
    "KeypointRegressionTask",
    "Task",
    "build_task",
]
