"""One file a quantity; importing this registers them."""

from centernet_d2.modeling.branch.base import BRANCH_REGISTRY, Branch, build_branch
from centernet_d2.modeling.branch.grid_heatmap import GridHeatmap
from centernet_d2.modeling.branch.grid_regression import GridBoxSize, GridOffset, GridRegression

__all__ = ["BRANCH_REGISTRY", "Branch", "GridBoxSize", "GridHeatmap", "GridOffset", "GridRegression", "build_branch"]
