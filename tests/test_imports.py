"""Imports flow one way through the package, and importing it stays cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import centernet_d2

PACKAGE = Path(centernet_d2.__file__).parent
#: Each part imports only from groups that stand before its own, and from its own group. See CONTRIBUTING.md.
GROUPS = (
    ("runtime", "geometry", "stop_signals", "ops", "progress"),
    ("layers", "structures", "config", "checkpoint", "model_zoo", "registry", "tracking"),
    ("data",),
    ("modeling",),
    ("visualization", "evaluation"),
    ("report",),
    ("engine", "video"),
    ("export", "analysis"),
    ("api",),
    ("cli", "__main__"),
)
RANK = {part: rank for rank, group in enumerate(GROUPS) for part in group}
#: Pairs that the order would allow, but that must not know each other.
FORBIDDEN = {("modeling", "data")}


def imported_parts(path: Path) -> set[str]:
    """Top-level parts of the package that the file imports, at any depth of its code."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            parts = node.module.split(".")
            modules = [parts] if len(parts) > 1 else [[parts[0], alias.name] for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name.split(".") for alias in node.names]
        else:
            continue
        found = {module[1] for module in modules if module[0] == "centernet_d2" and len(module) > 1}
        names |= found - {"__version__"}
    return names


def test_imports_flow_one_way():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        for other in imported_parts(path) - {part}:
            if RANK[other] > RANK[part] or (part, other) in FORBIDDEN:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {other}")
    assert wrong == []


def test_every_part_has_its_place():
    parts = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert parts - {"__init__", "__pycache__", "typed"} - set(RANK) - {"py.typed"} == set()


def test_runtime_needs_numpy_alone():
    allowed = {"numpy", "onnxruntime", "openvino", *sys.stdlib_module_names}
    for path in (PACKAGE / "runtime").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            assert {name.partition(".")[0] for name in names} <= allowed, path.name


def test_folders_stay_small():
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    counts = {folder.name: len(list(folder.glob("*.py"))) for folder in folders}
    assert {name: count for name, count in counts.items() if count > 16} == {}


def test_importing_loads_no_plotting_and_no_generator():
    code = "import sys, centernet_d2; centernet_d2.get_cfg; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "centernet_d2.data" in loaded
    unwanted = ("matplotlib", "onnx", "centernet_d2.data.synthetic.generation", "centernet_d2.engine")
    assert [name for name in loaded if name.startswith(unwanted)] == []


def test_importing_needs_neither_torch_nor_detectron2():
    code = "import sys, centernet_d2; from centernet_d2 import model_zoo; model_zoo.list_models(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "detectron2", "numpy", "cv2"} & set(loaded) == set()
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        centernet_d2.absent  # noqa: B018


def test_a_config_is_enough_to_build_what_it_names():
    """Whichever module it came from."""
    code = (
        "from centernet_d2.config import get_cfg; from centernet_d2.registry import get_required_fields\n"
        "from detectron2.data import DatasetCatalog; from detectron2.modeling import META_ARCH_REGISTRY\n"
        "assert get_required_fields(get_cfg()) == (); assert 'CenterNet' in META_ARCH_REGISTRY\n"
        "assert 'synthetic_shapes_train' in DatasetCatalog"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_detectron2_keeps_its_defaults_and_classes():
    """``add_centernet_config`` changes no key of Detectron2's, and models of others get Detectron2's checkpointer."""
    code = (
        "from detectron2.config import get_cfg; from detectron2.checkpoint import DetectionCheckpointer; import torch\n"
        "import centernet_d2; before, after = get_cfg(), get_cfg(); centernet_d2.add_centernet_config(after)\n"
        "def same(a, b): return all(same(v, b[k]) if hasattr(v, 'items') else v == b[k] for k, v in a.items())\n"
        "assert same(before, after); assert type(DetectionCheckpointer(torch.nn.Linear(1, 1))) is DetectionCheckpointer"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
