"""Registration of data sets, one file each; importing this registers the built-in ones and reads no file."""

import os

from centernet_d2.data.datasets import synthetic  # noqa: F401  (registers itself)
from centernet_d2.data.datasets.kitti import register_published_kitti
from centernet_d2.data.datasets.landmarks import register_published_landmarks
from centernet_d2.data.datasets.voc import register_published_voc

_ROOT = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))

register_published_voc()
register_published_landmarks(_ROOT)
register_published_kitti(_ROOT)
