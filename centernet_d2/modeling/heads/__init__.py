"""One file a quantity; importing this registers them."""

from centernet_d2.modeling.heads.base import BRANCH_REGISTRY, Branch, build_branch
from centernet_d2.modeling.heads.box import GridBox
from centernet_d2.modeling.heads.box3d_orientation import Box3DOrientation
from centernet_d2.modeling.heads.box3d_regression import Box3DCenterOffset, Box3DDepth, Box3DDimensions
from centernet_d2.modeling.heads.box_size import GridBoxSize, GridOffset, GridRegression
from centernet_d2.modeling.heads.class_heatmap import GridHeatmap
from centernet_d2.modeling.heads.displacement import Displacement
from centernet_d2.modeling.heads.extreme_points import ExtremeHeatmap, ExtremeOffset
from centernet_d2.modeling.heads.keypoint_heatmap import LandmarkHeatmap
from centernet_d2.modeling.heads.keypoint_offset import LandmarkGrouping, LandmarkSubcell
from centernet_d2.modeling.heads.keypoint_regression import LandmarkOffsets

__all__ = [
    "BRANCH_REGISTRY",
    "Box3DCenterOffset",
    "Box3DDepth",
    "Box3DDimensions",
    "Box3DOrientation",
    "Branch",
    "Displacement",
    "ExtremeHeatmap",
    "ExtremeOffset",
    "GridBox",
    "GridBoxSize",
    "GridHeatmap",
    "GridOffset",
    "GridRegression",
    "LandmarkGrouping",
    "LandmarkHeatmap",
    "LandmarkOffsets",
    "LandmarkSubcell",
    "build_branch",
]
