"""Find objects in images, folders, glob patterns, registered datasets, videos or a camera's images.

    centernet-d2 predict --model centerface photo.jpg
    centernet-d2 predict --model output/mine my/photos clip.mp4 webcam --output output/predictions
    centernet-d2 predict --config-file FILE --weights model.pth --input photo.jpg [KEY=value ...]

Drawn images and results.json, drawn videos (<name>.mp4) and <name>.jsonl (a line for each frame) are written to the
output folder: boxes, landmarks, masks, 3D boxes with the ground seen from above, and tracks, as the model gives.
With a display, a window shows videos as well: Escape or q closes it. After Ctrl-C the files of a video are complete up
to that frame. tools/demo.py is the same command.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from centernet_d2.cli.options import add_config_file, build_parser, find_config, print_error

INTERRUPTED = 130
_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*(=.*)?", re.DOTALL)


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Returns the exit status: 1 where no image and no video could be used, 130 after Ctrl-C."""
    parser = _build_predict_parser(prog)
    args = parser.parse_intermixed_args(arguments)
    if bool(args.model) == bool(args.config_file):
        parser.error("one of --model and --config-file must be given")
    words = [*args.input, *args.inputs]
    args.inputs, args.opts = (words, []) if str(args.model).endswith(".onnx") else split_options(words)
    if not args.inputs:
        parser.error(f"no input is given, only config keys ({', '.join(args.opts)})" if words else "no input is given")
    return _predict(args)


def _build_predict_parser(prog: str | None) -> argparse.ArgumentParser:
    parser = build_parser(__doc__, prog)
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="images, videos, folders with their sub-folders, glob patterns, names of datasets; webcam, webcam:1 for a "
        "camera; and config keys to change (KEY=value)",
    )
    parser.add_argument("--model", help="a name of `centernet-d2 models`, a training's folder, or an exported .onnx")
    add_config_file(parser)
    parser.add_argument("--weights", metavar="FILE", help="checkpoint, instead of the model's")
    parser.add_argument("--input", nargs="+", default=[], help="more inputs")
    parser.add_argument("--num-images", type=int, help="at most so many images, and frames of each video")
    parser.add_argument(
        "--output", type=Path, default=Path("output/demo"), help="folder that is written to (default: %(default)s)"
    )
    parser.add_argument(
        "--confidence-threshold", type=float, default=0.3, help="minimum score of what is drawn (default: %(default)s)"
    )
    parser.add_argument(
        "--slice",
        type=int,
        metavar="PIXELS",
        help="side of tiles that large images are predicted in, for small objects",
    )
    return parser


def split_options(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Inputs, and the config keys with their values among them (``KEY=value`` or ``KEY value``).

    A file of such a name is an input.
    """
    sources, options = [], []
    rest = iter(words)
    for text in rest:
        if not _KEY.fullmatch(text) or Path(text).exists() or not ("=" in text or _is_config_key(text)):
            sources.append(text)
            continue
        options.append(text)
        if "=" not in text and (value := next(rest, None)) is not None:
            options.append(value)
    return sources, options


def _is_config_key(text: str) -> bool:
    from centernet_d2.config import get_cfg

    return text.partition(".")[0] in get_cfg()


def _predict(args: argparse.Namespace) -> int:
    from centernet_d2.api import Detector
    from centernet_d2.api.files import FileWriter
    from centernet_d2.api.sources import Sources
    from centernet_d2.video import is_video

    config = find_config(args.config_file) or None
    how = {"threshold": args.confidence_threshold, "slice": args.slice}
    try:
        detector = Detector(args.model, config=config, weights=args.weights, options=args.opts, **how)
        sources = Sources(detector.model.needs_detectron2)
        dataset_dicts = sources.find_all(args.inputs, args.output.resolve())
    except (OSError, ValueError, KeyError) as error:
        print_error(error)
        return 1
    names = [dataset_dict["file_name"] for dataset_dict in dataset_dicts]
    images = [one for one in dataset_dicts if not is_video(one["file_name"])][: args.num_images]
    videos = [name for name in names if is_video(name)]
    args.output.mkdir(parents=True, exist_ok=True)
    # Outputs must not overwrite inputs.
    paths = [Path(name).resolve() for name in names]
    taken = {path.name for path in paths if path.parent == args.output.resolve()}
    visualizer = detector.model.make_visualizer(args.confidence_threshold)
    writer, used = FileWriter(detector.find, visualizer, args.output, taken), 0
    try:
        if images:
            used += writer.draw_images(images, sources)
        if videos:
            used += writer.draw_videos(videos, args.num_images)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        print_error(error)
        return 1
    return 0 if used else 1
