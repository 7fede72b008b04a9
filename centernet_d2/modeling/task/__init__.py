"""One file a task; importing this registers them."""

from centernet_d2.modeling.task.base import TASK_REGISTRY, Task, build_task
from centernet_d2.modeling.task.grid_points import GridPointTask

__all__ = ["TASK_REGISTRY", "GridPointTask", "Task", "build_task"]
