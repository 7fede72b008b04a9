"""All built-in datasets, in one table for each format.

Importing ``centernet_d2.data.datasets`` registers them; a file is read when its dataset is first used. Paths are below
``DETECTRON2_DATASETS``. ``datasets/README.md`` shows how to get the files. Detectron2 registers COCO itself.
"""

from __future__ import annotations

import functools
import os

from detectron2.data import DatasetCatalog, MetadataCatalog

from centernet_d2.data.datasets.coco import count_from_1, register_coco
from centernet_d2.data.datasets.keypoint_sets import register_keypoint_dataset
from centernet_d2.data.datasets.kitti import CLASS_NAMES as KITTI_CLASSES
from centernet_d2.data.datasets.kitti import register_kitti
from centernet_d2.data.datasets.mot import CLASS_NAMES as MOT_CLASSES
from centernet_d2.data.datasets.mot import register_video
from centernet_d2.data.datasets.shwd import register_shwd
from centernet_d2.data.datasets.voc import load_pascal_voc
from centernet_d2.data.image_io import get_datasets_root
from centernet_d2.data.schemas import POSE17, SCHEMAS
from centernet_d2.data.validation.object_boxes import SCORED_WHOLE

# name: (evaluator, classes, JSON file, image root)
COCO_FORMAT = {
    "wider_face_train": ("coco", ["face"], "wider_face/annotations/train.json", "wider_face"),
    "wider_face_val": ("wider_face", ["face"], "wider_face/annotations/val.json", "wider_face"),
    "crowdhuman_train": ("coco", ["person"], "crowdhuman/annotations/train.json", "crowdhuman"),
    "crowdhuman_val": ("coco", ["person"], "crowdhuman/annotations/val.json", "crowdhuman"),
    "crowdhuman_train_visible": ("coco", ["person"], "crowdhuman/annotations/train_visible.json", "crowdhuman"),
    "crowdhuman_val_visible": ("coco", ["person"], "crowdhuman/annotations/val_visible.json", "crowdhuman"),
    "crowdhuman_train_head": ("coco", ["head"], "crowdhuman/annotations/train_head.json", "crowdhuman"),
    "crowdhuman_val_head": ("coco", ["head"], "crowdhuman/annotations/val_head.json", "crowdhuman"),
}
# name: (keypoint schema, JSON file, image root)
KEYPOINTS = {
    "300w_train": ("face68", "300w/annotations/train.json", "300w"),
    "300w_common": ("face68", "300w/annotations/common.json", "300w"),
    "300w_challenge": ("face68", "300w/annotations/challenge.json", "300w"),
    "300w_full": ("face68", "300w/annotations/full.json", "300w"),
    "300w_test": ("face68", "300w/annotations/test.json", "300w"),
    "300vw_train": ("face68", "300vw/annotations/train.json", "300vw"),
    "300vw_test_1": ("face68", "300vw/annotations/test_1.json", "300vw"),
    "300vw_test_2": ("face68", "300vw/annotations/test_2.json", "300vw"),
    "300vw_test_3": ("face68", "300vw/annotations/test_3.json", "300vw"),
    "aflw_train": ("face19", "aflw/annotations/train.json", "aflw"),
    "aflw_full": ("face19", "aflw/annotations/full.json", "aflw"),
    "aflw_frontal": ("face19", "aflw/annotations/frontal.json", "aflw"),
    "deepfashion2_train": ("clothes294", "deepfashion2/annotations/train.json", "deepfashion2"),
    "deepfashion2_validation": ("clothes294", "deepfashion2/annotations/validation.json", "deepfashion2"),
    "coco_2017_train_extreme": ("extreme4", "coco/annotations/instances_train2017_extreme.json", "coco/train2017"),
    "coco_2017_val_extreme": ("extreme4", "coco/annotations/instances_val2017_extreme.json", "coco/val2017"),
}
# name: (JSON file, image root)
KITTI = {
    "kitti_3dop_train": ("kitti/annotations/3dop_train.json", "kitti"),
    "kitti_3dop_val": ("kitti/annotations/3dop_val.json", "kitti"),
    "kitti_subcnn_train": ("kitti/annotations/subcnn_train.json", "kitti"),
    "kitti_subcnn_val": ("kitti/annotations/subcnn_val.json", "kitti"),
}
MOT = {
    "mot17_train": ("mot17/annotations/train.json", "mot17"),
    "mot17_train_half": ("mot17/annotations/train_half.json", "mot17"),
    "mot17_val_half": ("mot17/annotations/val_half.json", "mot17"),
    "mot17_test": ("mot17/annotations/test.json", "mot17"),
}
# name: (folder, split)
SHWD = {f"shwd_{split}": ("VOC2028", split) for split in ("trainval", "train", "val", "test")}
# Registered by Detectron2, read by us.
PASCAL_VOC = [f"voc_{name}" for name in ("2007_trainval", "2007_train", "2007_val", "2007_test")]
PASCAL_VOC += [f"voc_{name}" for name in ("2012_trainval", "2012_train", "2012_val")]
POSES = [f"keypoints_coco_{name}" for name in ("2014_train", "2014_val", "2017_train", "2017_val")]


def register_all_coco_format(root: str) -> None:
    for name, (evaluator_type, classes, json_file, images) in COCO_FORMAT.items():
        metadata = {"evaluator_type": evaluator_type, "thing_classes": classes}
        register_coco(name, metadata, os.path.join(root, json_file), os.path.join(root, images))
        SCORED_WHOLE.add(name)


def register_all_keypoints(root: str) -> None:
    for name, (schema, json_file, images) in KEYPOINTS.items():
        register_keypoint_dataset(name, schema, os.path.join(root, json_file), os.path.join(root, images))
        if SCHEMAS[schema].class_names:
            ids = count_from_1(SCHEMAS[schema].class_names)
            MetadataCatalog.get(name).set(thing_dataset_id_to_contiguous_id=ids)
        else:  # COCO's classes
            coco = MetadataCatalog.get(name.removesuffix("_extreme"))
            ids = coco.thing_dataset_id_to_contiguous_id
            MetadataCatalog.get(name).set(thing_classes=coco.thing_classes, thing_dataset_id_to_contiguous_id=ids)
    for name in POSES:
        ids = count_from_1(POSE17.class_names)
        MetadataCatalog.get(name).set(keypoint_schema=POSE17.name, thing_dataset_id_to_contiguous_id=ids)


def register_all_kitti(root: str) -> None:
    for name, (json_file, images) in KITTI.items():
        register_kitti(name, os.path.join(root, json_file), os.path.join(root, images))
        MetadataCatalog.get(name).set(thing_dataset_id_to_contiguous_id=count_from_1(KITTI_CLASSES))


def register_all_mot(root: str) -> None:
    ids = count_from_1(MOT_CLASSES)
    for name, (json_file, images) in MOT.items():
        register_video(name, os.path.join(root, json_file), os.path.join(root, images))
        MetadataCatalog.get(name).set(thing_classes=list(MOT_CLASSES), thing_dataset_id_to_contiguous_id=ids)
        SCORED_WHOLE.add(name)


def register_all_shwd(root: str) -> None:
    for name, (folder, split) in SHWD.items():
        register_shwd(name, os.path.join(root, folder), split)


def register_all_pascal_voc() -> None:
    """Replace Detectron2's readers by ours, which say what is wrong with a file. Dataset dicts, class names and the
    year stay; difficult objects are trained on, as in Detectron2, and have "difficult"."""
    for name in PASCAL_VOC:
        metadata = MetadataCatalog.get(name)
        DatasetCatalog.pop(name, None)
        DatasetCatalog.register(name, functools.partial(load_pascal_voc, name, metadata.dirname, metadata.split))


_root = get_datasets_root()
register_all_coco_format(_root)
register_all_keypoints(_root)
register_all_kitti(_root)
register_all_mot(_root)
register_all_shwd(_root)
register_all_pascal_voc()
