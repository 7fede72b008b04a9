"""Registration of datasets, one file each; importing this registers the built-in ones and reads no file."""

from centernet_d2.data.datasets.crowdhuman import register_published_crowdhuman
from centernet_d2.data.datasets.keypoint_sets import register_builtin_keypoints
from centernet_d2.data.datasets.kitti import register_published_kitti
from centernet_d2.data.datasets.mot import register_published_mot
from centernet_d2.data.datasets.shwd import register_published_shwd
from centernet_d2.data.datasets.voc import register_published_voc
from centernet_d2.data.datasets.wider_face import register_published_wider_face
from centernet_d2.data.image_io import datasets_root
from centernet_d2.data.synthetic import registration  # noqa: F401  (registers the synthetic datasets)

register_published_voc()
register_builtin_keypoints(datasets_root())
register_published_kitti(datasets_root())
register_published_mot(datasets_root())
register_published_wider_face(datasets_root())
register_published_crowdhuman(datasets_root())
register_published_shwd(datasets_root())
