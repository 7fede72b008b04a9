"""Registration of data sets, one file each; importing this registers the built-in ones and reads no file."""

from centernet_d2.data.datasets import synthetic  # noqa: F401  (registers itself)
from centernet_d2.data.datasets.voc import register_published_voc

register_published_voc()
