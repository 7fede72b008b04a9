"""One file a quantity; importing this registers them."""

from centernet_d2.modeling.branch.base import BRANCH_REGISTRY, Branch, build_branch
from centernet_d2.modeling.branch.box3d_orientation import Box3DOrientation
from centernet_d2.modeling.branch.box3d_regression import Box3DCenterOffset, Box3DDepth, Box3DDimensions
from centernet_d2.modeling.branch.displacement import Displacement
from centernet_d2.modeling.branch.extreme_points import ExtremeHeatmap, ExtremeOffset
from centernet_d2.modeling.branch.grid_box import GridBox
from centernet_d2.modeling.branch.grid_heatmap import GridHeatmap
from centernet_d2.modeling.branch.grid_regression import GridBoxSize, GridOffset, GridRegression
from centernet_d2.modeling.branch.landmark_heatmap import LandmarkHeatmap
from centernet_d2.modeling.branch.landmark_offsets import LandmarkOffsets
from centernet_d2.modeling.branch.landmark_subcell import LandmarkGrouping, LandmarkSubcell

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
