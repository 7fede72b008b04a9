"""Change the package in one place at a time and see whether its tests notice.

    python tools/mutate.py --sample 100 [--seed 0] [--files centernet_d2/ops/peaks.py centernet_d2/evaluation ...]

Each change swaps an operator (+ and -, * and /, < and <=, ...), the sign of an expression, a constant, a keyword
(min and max, sin and cos, x and y indices), or a condition. A change that no test notices is printed with its line.
Files are changed while a forked process imports them, never on disk.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from itertools import chain
from pathlib import Path
from types import CodeType

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 150
FOLDERS = ["ops", "modeling/heads", "modeling/lsnet", "evaluation"]
# Tests that must notice changes of a file, or of a folder's files, beside those of the file's own name in tests/.
TESTS = {
    "ops/box3d_geometry.py": ["structures/test_boxes3d.py", "modeling/tasks/test_boxes3d.py"],
    "ops/deform_conv.py": ["layers/test_deform_conv.py"],
    "ops/extreme_points.py": ["modeling/tasks/test_extreme_points.py"],
    "ops/grid_coding.py": ["modeling/heads/test_grid_points.py"],
    "ops/subpixel.py": ["ops/test_subpixel_covariance.py"],
    "modeling/heads/angle.py": ["modeling/heads/test_angle_heads.py", "modeling/tasks/test_rotated_boxes.py"],
    "modeling/heads/box3d": ["modeling/heads/test_angle_heads.py", "modeling/tasks/test_boxes3d.py"],
    "modeling/heads/displacement.py": ["modeling/heads/test_box_heads.py", "modeling/meta_arch/test_centertrack.py"],
    "modeling/heads/extreme_points.py": [
        "modeling/heads/test_keypoint_heads.py",
        "modeling/tasks/test_extreme_points.py",
    ],
    "modeling/heads/keypoint": [
        *("modeling/heads/test_keypoint_heads.py", "modeling/tasks/test_landmarks.py", "modeling/heads"),
    ],
    "modeling/heads/": [
        *(f"modeling/heads/test_{part}.py" for part in ("head_layers", "box_heads", "box_quality", "head_boundaries")),
        *("modeling/heads/test_keypoint_heads.py", "modeling/heads"),
    ],
    "modeling/lsnet/corner_head.py": [
        *(f"modeling/lsnet/test_{part}.py" for part in ("pyramid_heads", "lsnet_heads", "centernet_plus_plus")),
    ],
    "modeling/lsnet/": [
        *(f"modeling/lsnet/test_{part}.py" for part in ("pyramid_heads", "lsnet_heads", "lsnet_defects")),
        "modeling/lsnet/test_lsnet_round_trip.py",
    ],
    "evaluation/build.py": ["evaluation/keypoints/test_own.py"],
    "evaluation/average_precision.py": ["evaluation/test_voc.py", "evaluation/tracking"],
    "evaluation/common.py": ["evaluation/test_gathering.py", "evaluation/test_coco.py", "evaluation/test_truth.py"],
    "evaluation/rotated_boxes.py": ["modeling/tasks/test_rotated_boxes.py", "data/formats/test_oriented_labels.py"],
    "evaluation/keypoints/calibration.py": ["evaluation/keypoints/test_own.py"],
    "evaluation/keypoints/clothes.py": [],
    "evaluation/keypoints/own.py": ["evaluation/keypoints/test_calibration.py"],
    "evaluation/keypoints/": ["evaluation/keypoints/test_faces.py"],
    "evaluation/kitti/": ["evaluation/kitti"],
    "evaluation/tracking/": ["evaluation/tracking"],
    "evaluation/voc.py": ["evaluation/test_settled_truth.py"],
}
OPERATORS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
_PAIRS = [
    ("min", "max"),
    ("amin", "amax"),
    ("minimum", "maximum"),
    ("sin", "cos"),
    ("argmin", "argmax"),
    ("any", "all"),
]
PIECES = ("_CHUNK", "_PART", "MAX_PAIRS")
NAMES = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}


class Mutator(ast.NodeTransformer):
    """Applies the change number ``wanted``, and counts them; -1 applies none."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.count, self.line, self.what = wanted, 0, 0, ""

    def takes(self, node: ast.AST, what: str) -> bool:
        self.count += 1
        if self.count - 1 != self.wanted:
            return False
        self.line, self.what = getattr(node, "lineno", 0), what
        return True

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        new = OPERATORS.get(type(node.op))
        if new and not _joins(node) and self.takes(node, f"{type(node.op).__name__} becomes {new.__name__}"):
            node.op = new()
        return self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        for k, operator in enumerate(node.ops):
            new = OPERATORS.get(type(operator))
            if new and self.takes(node, f"{type(operator).__name__} becomes {new.__name__}"):
                node.ops[k] = new()
        return self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        new = OPERATORS[type(node.op)]
        if self.takes(node, f"{type(node.op).__name__} becomes {new.__name__}"):
            node.op = new()
        return self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if isinstance(node.op, ast.USub | ast.Not | ast.Invert) and self.takes(node, "the sign is dropped"):
            return node.operand
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool):
            if self.takes(node, f"{node.value} becomes {not node.value}"):
                return ast.copy_location(ast.Constant(not node.value), node)
        elif isinstance(node.value, int | float) and self.takes(node, f"{node.value} becomes {node.value + 1}"):
            return ast.copy_location(ast.Constant(node.value + 1), node)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if node.attr in NAMES and self.takes(node, f"{node.attr} becomes {NAMES[node.attr]}"):
            node.attr = NAMES[node.attr]
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in ("min", "max") and self.takes(node, f"{node.id} becomes {NAMES[node.id]}"):
            node.id = NAMES[node.id]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Annotations are left alone, and drawings."""
        if node.name.startswith(("plot_", "_draw", "_make_figure")):
            return node
        node.body = [self.visit(one) for one in node.body]
        node.args.defaults = [self.visit(one) for one in node.args.defaults]
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """How much is worked on at a time changes time and memory, and no result."""
        name = node.targets[0].id if isinstance(node.targets[0], ast.Name) else ""
        return node if name in PIECES else self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.value = self.visit(node.value) if node.value else None
        return node

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        """``strict`` of zip and ``frozen`` of dataclasses are assertions, ``inplace`` saves memory, ``indent`` is the
        layout of JSON."""
        return node if node.arg in ("strict", "frozen", "inplace", "indent") else self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return node


def _joins(node: ast.BinOp) -> bool:
    """Whether the operator is none of arithmetic: it joins lists or texts, or types."""
    parts = (node.left, node.right)
    texts = any(isinstance(part, ast.List | ast.Tuple | ast.JoinedStr) for part in parts)
    return texts or any(isinstance(part, ast.Constant) and isinstance(part.value, str | type(None)) for part in parts)


def count_mutations(source: str) -> int:
    mutator = Mutator(-1)
    mutator.visit(ast.parse(source))
    return mutator.count


def mutate(source: str, number: int) -> tuple[ast.Module, Mutator]:
    """Return the tree with one change, and what it was."""
    mutator = Mutator(number)
    tree = mutator.visit(ast.parse(source))
    return ast.fix_missing_locations(tree), mutator


def run_tests(path: Path, number: int, tests: list[str]) -> str:
    """Return "killed", "survived" or "timeout" of a change, tried in a process of its own."""
    child = os.fork()
    if not child:
        status = 2
        with contextlib.suppress(BaseException), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1), os.dup2(nowhere.fileno(), 2)
            status = _run_here(path, number, tests)
        os._exit(status)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


class ChangedLoader(SourceFileLoader, MetaPathFinder):
    """Imports one module with a change."""

    def __init__(self, path: Path, number: int) -> None:
        parts = path.relative_to(ROOT).with_suffix("").parts
        super().__init__(".".join(parts[:-1] if parts[-1] == "__init__" else parts), str(path))
        self.number = number

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        return spec_from_file_location(fullname, self.path, loader=self) if fullname == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        return compile(mutate(Path(self.path).read_text(), self.number)[0], self.path, "exec")


def _run_here(path: Path, number: int, tests: list[str]) -> int:
    import pytest

    sys.meta_path.insert(0, ChangedLoader(path, number))
    return int(pytest.main(["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]))


def find_tests(path: Path) -> list[str]:
    """Return the test files of a file of the package."""
    file = path.relative_to(ROOT / "centernet_d2").as_posix()
    own = Path(file).with_name(f"test_{path.name}").as_posix()
    others = next((tests for start, tests in TESTS.items() if file.startswith(start)), [])
    return [f"tests/{name}" for name in dict.fromkeys([own, *others]) if (ROOT / "tests" / name).exists()]


def list_places(files: list[str]) -> Iterator[tuple[Path, int, list[str]]]:
    """Yield file, number of the change, and tests."""
    paths = [Path(file).resolve() for file in files] or [ROOT / "centernet_d2" / folder for folder in FOLDERS]
    for path in chain.from_iterable(sorted(path.rglob("*.py")) if path.is_dir() else [path] for path in paths):
        tests = find_tests(path)
        for number in range(count_mutations(path.read_text()) if tests else 0):
            yield path, number, tests


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=0, help="how many changes, chosen at random; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    parser.add_argument("--files", nargs="*", default=[], help=f"files or folders of the package (default: {FOLDERS})")
    parser.add_argument("--min-noticed", type=float, default=0.0, help="percent; below, the exit status is 1")
    args = parser.parse_args()
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
    places = list(list_places(args.files))
    if args.sample:
        places = random.Random(args.seed).sample(places, min(args.sample, len(places)))
    for name in ("cv2", "detectron2.engine", "detectron2.modeling", "matplotlib.pyplot", "pytest", "torchvision"):
        importlib.import_module(name)  # what takes long, once
    results: dict[str, int] = {}
    for path, number, tests in places:
        result = run_tests(path, number, tests)
        results[result] = results.get(result, 0) + 1
        if result != "killed":
            _, mutator = mutate(path.read_text(), number)
            line = path.read_text().splitlines()[mutator.line - 1].strip()
            print(f"{result}: {path.relative_to(ROOT)}:{mutator.line}: {mutator.what}: {line}", flush=True)
    killed = 100 * (1 - results.get("survived", 0) / max(len(places), 1))
    print(f"{len(places)} changes: {results}; noticed: {killed:.1f} %")
    return int(killed < args.min_noticed)


if __name__ == "__main__":
    raise SystemExit(main())
