"""Detectron2's checkpointer with safe reading, atomic writing, clear errors, and a fallback for damaged files."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from detectron2.utils import comm

from centernet_d2.checkpoint import pretrained as _addresses  # noqa: F401  "pypi://" and "timm://"
from centernet_d2.checkpoint.naming import (
    count_fitting,
    describe_differences,
    describe_loaded,
    describe_mismatches,
    extract_weights,
    match_names,
    recognize_network,
)
from centernet_d2.checkpoint.reading import load_file
from centernet_d2.checkpoint.reference_names import UNKNOWN
from centernet_d2.checkpoint.writing import read_pointer, remove_leftovers, save_checkpoint, save_pointer
from centernet_d2.structures.model_metadata import CHECKPOINT_KEY, ModelMetadata, describe_classes

_logger = logging.getLogger(__name__)
_ASK = "MODEL.ALLOW_INCOMPLETE_WEIGHTS True predicts with random parameters all the same"


class SafeCheckpointer(DetectionCheckpointer):
    """Loads this project's, Detectron2's, torchvision's and CenterNet's reference files; saves atomically.

    Attributes:
        resumed_from: the file that the last :meth:`resume_or_load` went on from, None if it did not.
        incompatible: the last load's ``missing_keys``, ``unexpected_keys`` and ``incorrect_shapes``.
    """

    resumed_from: str | None = None
    incompatible: Any = None

    def save(self, name: str, *, tag: bool = True, **extra: Any) -> None:
        """Write ``<save_dir>/<name>.pth``, and with ``tag`` make it the one to resume from.

        Raises:
            FloatingPointError: a weight is not finite; nothing is written.
            OSError: it could not be written; the old file is unchanged.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        weights = self.model.state_dict()
        corrupt = [key for key, x in weights.items() if x.is_floating_point() and not torch.isfinite(x).all()]
        if corrupt:
            raise FloatingPointError(f"{corrupt[0]} (and {len(corrupt) - 1} more) is not finite: no checkpoint written")
        data = {"model": weights, **{key: obj.state_dict() for key, obj in self.checkpointables.items()}, **extra}
        if isinstance(getattr(self.model, "metadata", None), ModelMetadata):
            data[CHECKPOINT_KEY] = self.model.metadata.to_dict()
        remove_leftovers(self.save_dir)
        path = Path(self.save_dir) / f"{name}.pth"
        _logger.info("Saving checkpoint to %s", path)
        save_checkpoint(data, path)
        if tag:
            save_pointer(self.save_dir, path.name)

    def prune(self, keep: int) -> None:
        """Delete all ``model_<iteration>.pth`` but the ``keep`` newest and the one to resume from."""
        if not self.save_dir or not self.save_to_disk:
            return
        periodic = [path for path in self._list_newest_first() if re.fullmatch(r"model_\d+\.pth", path.name)]
        for path in periodic[keep:]:
            if path.name != read_pointer(self.save_dir):
                path.unlink()

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load weights, and those of the ``checkpointables`` (None: all) that the file has; returns the rest of it.

        A model in evaluation mode must be filled completely, unless it was built with
        ``MODEL.ALLOW_INCOMPLETE_WEIGHTS``.

        Raises:
            FileNotFoundError, UnsafeCheckpointError, CorruptCheckpointError: see ``load_file``.
            ValueError: the file belongs to another model, or weights for prediction are incomplete.
        """
        plain: Any = getattr(self.model, "module", self.model)
        complete = not plain.training and not getattr(plain, "allow_incomplete_weights", True)
        if not path:
            if complete:
                raise ValueError(f"no weights to predict with: set MODEL.WEIGHTS to a trained checkpoint. {_ASK}")
            _logger.info("No weights to load: the model starts from its random initialisation")
            return {}
        address = urlparse(path)._replace(query="").geturl()
        data = load_file(self.path_manager.get_local_path(address))
        return self._apply(path, data, checkpointables, complete)

    def has_checkpoint(self) -> bool:
        """Return True if this process sees a checkpoint to resume from."""
        return (Path(self.save_dir) / "last_checkpoint").exists() or bool(self._list_newest_first())

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Load the newest readable checkpoint of ``save_dir`` if ``resume`` and there is one, else load ``path``.

        A damaged checkpoint is skipped with a warning. All processes load the choice of the first process.

        Raises:
            ValueError: there are checkpoints but none can be read, or what they hold is another model's.
        """
        self.resumed_from = None
        if not resume or not comm.all_gather(self.has_checkpoint())[0]:
            return self.load(path, checkpointables=[])
        reasons = []
        for name in comm.all_gather(self._resume_order())[0]:
            file = os.path.join(self.save_dir, name)
            data, reason = self._try(file)
            if reason is None:
                self.resumed_from = file
                return self._apply(file, data, None, complete=True)
            reasons.append(reason)
            _logger.warning("Can't resume from %s, trying the checkpoint before it", reason)
        raise ValueError(
            f"nothing in {self.save_dir} can be resumed from ({'; '.join(reasons) or 'it holds no checkpoint'}). "
            "Leave --resume out to start anew."
        )

    def require_complete(self, path: str) -> None:
        """Raise if the last load, of ``path``, filled the model only partly, or with numbers that are none.

        Raises:
            ValueError: names what is missing, or not finite.
        """
        if self.incompatible is None:
            raise ValueError("no weights were loaded: set MODEL.WEIGHTS, or use --resume where there is a checkpoint")
        problems = describe_mismatches(self.model, self.incompatible.incorrect_shapes)
        problems += [f"{name} is missing" for name in self.incompatible.missing_keys]
        if problems:
            shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
            raise ValueError(f"{path} does not hold all of this model ({shown}): {self._guess_cause()} {_ASK}")
        corrupt = [name for name, value in self.model.state_dict().items() if not value.isfinite().all()]
        if corrupt:
            problem = f"{len(corrupt)} of its tensors have NaN or infinite values (such as {corrupt[0]})"
            raise ValueError(f"{path} cannot predict: {problem}: its training went wrong; take an earlier checkpoint")

    def _guess_cause(self) -> str:
        shapes, missing = self.incompatible.incorrect_shapes, self.incompatible.missing_keys
        if shapes:
            return "is MODEL.CENTERNET.NUM_CLASSES, or another key of the config, not that of its training?"
        if not any(name.startswith("backbone.") for name in missing):
            return "it holds a backbone, such as one trained on ImageNet, but no trained heads: train the model first."
        return "does the config belong to it?"

    def _try(self, file: str) -> tuple[dict[str, Any], str | None]:
        """Return the file's data, or the reason why a process cannot read it."""
        try:
            data, reason = load_file(file), None
        except (OSError, ValueError) as error:
            data, reason = {}, str(error)
        return data, next((x for x in comm.all_gather(reason) if x is not None), None)

    def _resume_order(self) -> list[str]:
        names = [path.name for path in self._list_newest_first()]
        try:
            pointer = read_pointer(self.save_dir)
        except ValueError as error:
            _logger.warning("%s; taking the newest checkpoint instead", error)
            return names
        if pointer is None:
            _logger.warning("%s has no last_checkpoint; taking the newest checkpoint instead", self.save_dir)
            return names
        return [pointer, *[name for name in names if name != pointer]]

    def _list_newest_first(self) -> list[Path]:
        files = [p for p in Path(self.save_dir).glob("model_*.pth") if re.fullmatch(r"model_(\d+|final)\.pth", p.name)]
        return sorted(files, key=lambda p: (p.stat().st_mtime_ns, p.name), reverse=True)

    def _apply(
        self, path: str, data: dict[str, Any], checkpointables: list[str] | None, complete: bool = False
    ) -> dict[str, Any]:
        _logger.info("Loading %s", path)
        ours = self.model.state_dict()
        weights = extract_weights(data, path)
        if path.endswith(".pkl") and "__author__" not in data and not recognize_network(weights):
            # A Caffe2 model; Detectron2 knows their names.
            weights = align_and_update_state_dicts(ours, weights, c2_conversion=True)
        match = match_names(weights, ours)
        fitting = count_fitting(match.weights, ours)
        if 2 * fitting < min(len(match.weights), len(ours)) or not fitting:
            raise ValueError(
                f"{path} ({recognize_network(weights) or 'of no known network'}) is not a checkpoint of this model or "
                f"its backbone: of its {len(weights)} tensors (such as {next(iter(weights))}) {fitting} fit the "
                f"model's {len(ours)} (such as {next(iter(ours))})"
            )
        if match.network:
            _logger.info("%s holds the weights of %s", path, match.network)
        for line in match.describe_left_out():
            _logger.log(logging.WARNING if UNKNOWN in line else logging.INFO, "%s", line)
        _logger.info("%s", describe_loaded(path, match.weights, ours))
        incompatible = self._load_model({"model": match.weights})
        # Files need not have a normalization's counter; PyTorch's own may lack it, but not Detectron2's frozen ones.
        missing = [name for name in incompatible.missing_keys if not name.endswith(".num_batches_tracked")]
        self.incompatible = incompatible._replace(missing_keys=missing)
        self._log_incompatible_keys(self.incompatible)
        if complete:
            self.require_complete(path)
        self._take_metadata(path, data)
        for key in self.checkpointables if checkpointables is None else checkpointables:
            if key in data:
                self.checkpointables[key].load_state_dict(data.pop(key))
        return {key: value for key, value in data.items() if key != "model"}

    def _take_metadata(self, path: str, data: dict[str, Any]) -> None:
        """Take the class names of the weights, too, if they fill the whole model."""
        saved, ours = ModelMetadata.from_dict(data.get(CHECKPOINT_KEY)), getattr(self.model, "metadata", None)
        problems = self.incompatible.incorrect_shapes or self.incompatible.missing_keys
        if not isinstance(ours, ModelMetadata) or saved is None or problems:
            return
        if saved.class_names and ours.class_names and saved.class_names != ours.class_names:
            _logger.warning(
                "%s, but %s",
                describe_classes(f"checkpoint {path}", saved.class_names),
                describe_classes("the config or its dataset", ours.class_names),
            )
        self.model.metadata = saved

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        for sentence in describe_differences(self.model, incompatible):
            _logger.warning("%s", sentence)
