"""The library in a few lines: a detector by name, its results, training, evaluation and export."""

from centernet_d2.api.detector import Detector
from centernet_d2.api.result import Result

__all__ = ["Detector", "Result"]
