#!/usr/bin/env python
"""Compare runs on a face dataset: a table, and their cumulative error curves in one figure.

Takes the landmark_errors.json that each evaluation leaves in OUTPUT_DIR/inference/<dataset>, with a name of its own:
tools/landmark_report.py "DLA-34=output/dla/inference/300w_full/landmark_errors.json" "ours=..."
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def parse_named_file(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE")
    return name, Path(path)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "runs", nargs="+", type=parse_named_file, metavar="NAME=FILE", help="a name, and a landmark_errors.json"
    )
    parser.add_argument(
        "--normalizer",
        choices=("inter_ocular", "inter_pupil", "box_diagonal", "box_size"),
        default="inter_ocular",
        help="what errors are divided by (default: %(default)s)",
    )
    parser.add_argument("--subset", help="of those that the dataset names, such as challenge; default: all of them")
    parser.add_argument("--output", type=Path, default=Path("cumulative_error.png"), help="the figure")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    parse()  # --help and option errors come before the slow imports below

from centernet_d2.evaluation.keypoints.errors import (
    FaceError,
    compute_percentages,
    format_tables,
    group_by_subset,
    read_errors,
    summarize,
)
from centernet_d2.evaluation.keypoints.plots import plot_cumulative_errors


def read_runs(files: list[tuple[str, Path]], subset: str | None) -> dict[str, list[FaceError]]:
    """Faces by name of the run and subset; of one subset only, where requested.

    Raises:
        FileNotFoundError, ValueError: a file is not there, is none of ours, or has no such subset; or two names agree.
    """
    runs: dict[str, list[FaceError]] = {}
    for name, path in files:
        subsets = group_by_subset(read_errors(path))
        if subset is not None and subset not in subsets:
            raise ValueError(f"{path} has no subset {subset!r} ({', '.join(filter(None, subsets)) or 'none at all'})")
        for key, faces in subsets.items():
            label = f"{name}, {key}" if key else name
            if label in runs:
                raise ValueError(f"two runs are called {label}")
            if subset in (None, key):
                runs[label] = faces
    return runs


def main() -> None:
    args = parse()
    try:
        runs = read_runs(args.runs, args.subset)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
    print(format_tables({name: summarize(faces) for name, faces in runs.items()}, [args.normalizer]))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    errors = {name: compute_percentages(faces, args.normalizer) for name, faces in runs.items()}
    plot_cumulative_errors(args.output, errors, args.normalizer)
    print(f"\ncurves: {args.output}")


if __name__ == "__main__":
    main()
