"""Write a model as ONNX or TorchScript, with decoding inside.

    centernet-d2 export --model output/mine --output model.onnx [--dynamic] [--check]
    centernet-d2 export --config-file FILE --output model.pt [--batch-size 4] MODEL.WEIGHTS=model.pth [KEY=value ...]

The suffix decides. `centernet-d2 predict --model model.onnx` predicts with an ONNX file; so does centernet_d2/runtime,
a folder that needs only NumPy and ONNX Runtime. --check compares the file's outputs with the model's on synthetic
images; the exit status is 1 if they differ by more than 1e-4. tools/export_model.py is the same command.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from centernet_d2.cli.options import add_config, build_parser, find_config, print_errors

_TOLERANCE = 1e-4


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(__doc__, prog)
    parser.add_argument("--model", help="a training's folder, or a name of `centernet-d2 models`")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="model.onnx or model.pt (TorchScript)"
    )
    parser.add_argument("--batch-size", type=int, default=1, help="images in a batch (default: %(default)s)")
    parser.add_argument("--dynamic", action="store_true", help="ONNX: batches and images of any size")
    parser.add_argument("--check", action="store_true", help="compare with the model, on drawn images")
    add_config(parser)
    args = parser.parse_args(arguments)
    if args.output.suffix not in (".onnx", ".pt"):
        parser.error(f"--output must end in .onnx or .pt, not {args.output.name!r}")
    if args.dynamic and args.output.suffix == ".pt":
        parser.error("--dynamic is for ONNX: TorchScript is traced at one size")
    if bool(args.model) == bool(args.config_file):
        parser.error("one of --model and --config-file must be given")
    return print_errors(lambda: _export(args), (OSError, ValueError, KeyError, ImportError))


def _export(args: argparse.Namespace) -> int:
    from centernet_d2.api.locate import locate_model

    config, weights = locate_model(args.model, find_config(args.config_file), None)

    from centernet_d2.engine import setup_cfg
    from centernet_d2.export import export_file

    cfg = setup_cfg(config, [*([f"MODEL.WEIGHTS={weights}"] if weights else []), *args.opts])
    differences = export_file(cfg, args.output, args.batch_size, args.dynamic, args.check)
    print(f"{args.output}: {args.output.stat().st_size / 2**20:.1f} MiB")
    for name, difference in differences.items():
        print(f"{name}: differs by {difference:.1e} of its largest value")
    return int(any(difference > _TOLERANCE for difference in differences.values()))
