"""Heads, one file per quantity. Importing this package registers them."""

from centernet_d2.modeling.heads.angle import AngleHead
from centernet_d2.modeling.heads.base import HEAD_REGISTRY, Head, build_extra_heads, build_head, get_head_name
from centernet_d2.modeling.heads.box import BoxHead
from centernet_d2.modeling.heads.box3d_orientation import Box3DOrientationHead
from centernet_d2.modeling.heads.box3d_regression import Box3DCenterOffsetHead, Box3DDepthHead, Box3DDimensionsHead
from centernet_d2.modeling.heads.box_quality import BoxQualityHead
from centernet_d2.modeling.heads.box_size import BoxSizeHead, PointOffsetHead, PointRegressionHead
from centernet_d2.modeling.heads.class_heatmap import ClassHeatmapHead
from centernet_d2.modeling.heads.displacement import DisplacementHead
from centernet_d2.modeling.heads.extreme_points import ExtremeHeatmapHead, ExtremeOffsetHead
from centernet_d2.modeling.heads.keypoint_heatmap import KeypointHeatmapHead
from centernet_d2.modeling.heads.keypoint_offset import KeypointGroupingHead, KeypointOffsetHead
from centernet_d2.modeling.heads.keypoint_regression import KeypointRegressionHead

__all__ = [
    "HEAD_REGISTRY",
    "AngleHead",
    "Box3DCenterOffsetHead",
    "Box3DDepthHead",
    "Box3DDimensionsHead",
    "Box3DOrientationHead",
    "BoxHead",
    "BoxQualityHead",
    "BoxSizeHead",
    "ClassHeatmapHead",
    "DisplacementHead",
    "ExtremeHeatmapHead",
    "ExtremeOffsetHead",
    "Head",
    "KeypointGroupingHead",
    "KeypointHeatmapHead",
    "KeypointOffsetHead",
    "KeypointRegressionHead",
    "PointOffsetHead",
    "PointRegressionHead",
    "build_extra_heads",
    "build_head",
    "get_head_name",
]
