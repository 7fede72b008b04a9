#!/usr/bin/env python
"""Write a model as ONNX or TorchScript, with decoding inside.

    tools/export_model.py --config-file configs/... --output model.onnx [--dynamic] [--check] MODEL.WEIGHTS=...
    tools/export_model.py --config-file configs/... --output model.pt [--batch-size 4] INPUT.SIZE_TEST=[384,384]

The suffix decides. centernet_d2/runtime, a folder that needs only NumPy and ONNX Runtime, predicts with an ONNX file.
--check compares the file's outputs with the model's on synthetic images; the exit status is 1 if they differ by more
than 1e-4.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="", metavar="FILE", help="a file of configs/, or your own")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="model.onnx or model.pt (TorchScript)"
    )
    parser.add_argument("--batch-size", type=int, default=1, help="images in a batch (default: %(default)s)")
    parser.add_argument("--dynamic", action="store_true", help="ONNX: batches and images of any size")
    parser.add_argument("--check", action="store_true", help="compare with the model, on drawn images")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY=value", help="config keys to change")
    args = parser.parse_args(arguments)
    if args.output.suffix not in (".onnx", ".pt"):
        parser.error(f"--output must end in .onnx or .pt, not {args.output.name!r}")
    if args.dynamic and args.output.suffix == ".pt":
        parser.error("--dynamic is for ONNX: TorchScript is traced at one size")
    return args


if __name__ == "__main__":
    parse()  # --help and option errors come before the slow imports below

from detectron2.modeling import build_model

from centernet_d2.checkpoint.checkpointer import SafeCheckpointer
from centernet_d2.engine import setup_cfg
from centernet_d2.export import check_file, export_onnx, export_torchscript

_TOLERANCE = 1e-4


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    try:
        cfg = setup_cfg(args.config_file, args.opts)
        model = build_model(cfg).eval()
        SafeCheckpointer(model).load(cfg.MODEL.WEIGHTS)
        if args.output.suffix == ".onnx":
            graph = export_onnx(cfg, model, args.output, args.batch_size, args.dynamic)
        else:
            graph = export_torchscript(cfg, model, args.output, args.batch_size)
        predictions = check_file(graph, args.output, args.batch_size, args.dynamic) if args.check else {}
    except (OSError, ValueError, ImportError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{args.output}: {args.output.stat().st_size / 2**20:.1f} MiB")
    for name, difference in predictions.items():
        print(f"{name}: differs by {difference:.1e} of its largest value")
    return int(any(difference > _TOLERANCE for difference in predictions.values()))


if __name__ == "__main__":
    sys.exit(main())
