"""Converters of published datasets to COCO files, one file each."""
