"""Evaluation of KITTI 3D boxes."""
