"""Evaluators, one for each ``evaluator_type`` of a dataset's metadata."""

from centernet_d2.evaluation.build import build_evaluator

__all__ = ["build_evaluator"]
