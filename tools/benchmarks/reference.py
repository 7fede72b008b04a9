"""The reference implementation of CenterNet as the baseline of ``tools/benchmark.py``: a checkout of it is needed.

Its modules are imported with the stand-ins of ``tools/reference`` for what needs a compiler; the deformable convolution
is torchvision's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "reference"))

from compare_networks import StandInDCN, centernet_networks
from compare_targets_decode import load
from published_detectors import Model, import_detectors, reference_detector

ARCHITECTURES = {"DLA_34": "dla_34", "R_18_DCN": "resdcn_18", "HG_104": "hourglass"}


class Reference:
    """What is timed of the reference code, one point and COCO's 80 classes.

    Args:
        root: of the checkout.
    """

    def __init__(self, root: str) -> None:
        self._networks = centernet_networks(Path(root))
        import_detectors(Path(root))
        self._decode = load(Path(root), "models/decode").ctdet_decode
        self._losses, self._sigmoid = load(Path(root), "models/losses"), load(Path(root), "models/utils")._sigmoid
        image = load(Path(root), "utils/image")
        self.draw_gaussian = lambda heatmap, x, y, r: image.draw_umich_gaussian(heatmap, (x, y), r)
        self.radius = lambda height, width, overlap=0.7: image.gaussian_radius((height, width), overlap)

    def has(self, name: str) -> bool:
        """Whether there is such a network."""
        return name in ARCHITECTURES

    def build_network(self, name: str, device: str) -> nn.Module:
        """With the published initial weights: offsets of deformable convolutions are 0, as ours at first."""
        network = self._networks[f"ctdet_{name}"].build()
        for module in network.modules():
            if isinstance(module, StandInDCN):
                nn.init.kaiming_uniform_(module.weight, a=5**0.5)
                for p in (module.bias, *module.conv_offset_mask.parameters()):
                    nn.init.zeros_(p)
        return network.to(device)

    def decode(self, logits: Tensor, size: Tensor, offset: Tensor) -> Tensor:
        return self._decode(logits.sigmoid(), size, reg=offset, K=100)

    def compute_losses(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Of the training step, over all stacks."""
        outputs = network(batch["input"])
        focal, l1 = self._losses.FocalLoss(), self._losses.RegL1Loss()
        total = batch["input"].new_zeros(())
        for output in outputs:
            total = total + focal(self._sigmoid(output["hm"]), batch["heatmap"])
            for name, key, weight in (("wh", "size", 0.1), ("reg", "offset", 1.0)):
                total = total + weight * l1(output[name], batch["mask"], batch["index"], batch[key])
        return total / len(outputs)

    def build_predictor(self, name: str, cfg: CfgNode) -> Any:
        """A function of an image (h, w, 3) uint8, which does all that the published detector does but draw.

        Args:
            cfg: ours, of the same network.
        """
        model = Model("ctdet", ARCHITECTURES[name], f"COCO-Detection/centernet_{name}_1pt")
        detector = reference_detector(model, cfg, False, [1.0])
        detector.opt.device = torch.device(cfg.MODEL.DEVICE)
        detector.model = self.build_network(name, cfg.MODEL.DEVICE).eval()

        @torch.no_grad()
        def run(image: np.ndarray) -> Any:
            images, meta = detector.pre_process(image, 1.0, None)
            predictions = detector.process(images.to(detector.opt.device))[1]
            return detector.merge_outputs([detector.post_process(predictions, meta, 1.0)])

        return run
