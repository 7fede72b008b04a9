"""The structures that travel between the parts, and the letters of every shape comment.

Letters: N images, P objects in the batch, K points of an object, C classes, H W the output grid, R the stride,
M candidates of an image.

Frames: *image* pixels (the original image), *input* pixels (what the network sees), *grid* cells (input / R).
All are continuous: cell (i, j) covers [j, j + 1) x [i, i + 1); ``centernet_d2.geometry`` converts.
"""

from centernet_d2.structures.boxes3d import Boxes3D
from centernet_d2.structures.candidates import Candidates
from centernet_d2.structures.keypoint_schema import KeypointSchema
from centernet_d2.structures.targets import Targets

__all__ = ["Boxes3D", "Candidates", "KeypointSchema", "Targets"]
