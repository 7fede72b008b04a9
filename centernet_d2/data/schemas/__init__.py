"""Landmark schemas, one file each."""

from centernet_d2.data.schemas.clothes294 import CLOTHES294
from centernet_d2.data.schemas.extreme4 import EXTREME4
from centernet_d2.data.schemas.face5 import FACE5
from centernet_d2.data.schemas.face19 import FACE19
from centernet_d2.data.schemas.face68 import FACE68
from centernet_d2.data.schemas.pose17 import POSE17
from centernet_d2.structures.keypoint_schema import SCHEMAS, KeypointSchema

__all__ = ["CLOTHES294", "EXTREME4", "FACE5", "FACE19", "FACE68", "POSE17", "SCHEMAS", "KeypointSchema"]
