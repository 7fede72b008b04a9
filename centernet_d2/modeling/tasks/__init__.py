"""One file a task; importing this registers them."""

from centernet_d2.modeling.tasks.base import TASK_REGISTRY, Task, build_task
from centernet_d2.modeling.tasks.centernet_plus_plus import CenterNetPlusPlusTask
from centernet_d2.modeling.tasks.detection import DetectionTask
from centernet_d2.modeling.tasks.detection_3d import Detection3DTask
from centernet_d2.modeling.tasks.extreme_points import ExtremePointTask
from centernet_d2.modeling.tasks.keypoint_heatmap import KeypointHeatmapTask
from centernet_d2.modeling.tasks.keypoint_regression import KeypointRegressionTask
from centernet_d2.modeling.tasks.lsnet_box import LSNetBoxTask
from centernet_d2.modeling.tasks.lsnet_contour import LSNetContourTask
from centernet_d2.modeling.tasks.lsnet_pose import LSNetPoseTask
from centernet_d2.modeling.tasks.rotated_box import RotatedBoxTask

__all__ = [
    "TASK_REGISTRY",
    "CenterNetPlusPlusTask",
    "Detection3DTask",
    "DetectionTask",
    "ExtremePointTask",
    "KeypointHeatmapTask",
    "KeypointRegressionTask",
    "LSNetBoxTask",
    "LSNetContourTask",
    "LSNetPoseTask",
    "RotatedBoxTask",
    "Task",
    "build_task",
]
