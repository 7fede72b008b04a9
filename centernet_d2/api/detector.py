"""A detector in one object: prediction, training, evaluation, export."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from centernet_d2.api.data import Data, build_schedule_options, build_training_options, describe_data
from centernet_d2.api.locate import locate_model
from centernet_d2.api.models import Model, OnnxModel, TorchModel
from centernet_d2.api.result import Result, to_numpy
from centernet_d2.api.slicing import predict_sliced
from centernet_d2.api.sources import Sources
from centernet_d2.model_zoo import find_config
from centernet_d2.video import Frame, Video, is_video

# Images of a list or a folder that go through the network together.
_BATCH = 8


class Detector:
    """Finds objects in images.

        detector = Detector("centerface")                    # of the model zoo; downloaded once
        detector = Detector("output/mine")                   # a training's folder: its best weights, else the last
        detector = Detector(config="COCO-Detection/centernet_R_18_DCN_1pt.yaml", weights="model.pth")
        detector = Detector("model.onnx")                    # of `centernet-d2 export`; needs no PyTorch
        result = detector("photo.jpg")
        result.save("predictions.jpg")

    Arrays are BGR, as OpenCV reads them; PIL images are RGB. Boxes are x1, y1, x2, y2 in pixels of the image.
    Several threads may predict with one detector (they take turns). A detector can be pickled: the other process reads
    the same files.

    Args:
        model: see above; None with ``config``.
        config: a file, or a name of ``model_zoo.get_config_file``.
        weights: a file that MODEL.WEIGHTS takes, instead of the model's; reference files, too.
        threshold: minimum score of the predictions.
        device: "cpu", "cuda", "cuda:1"; None: the config's, or the CPU where there is no GPU.
        options: config keys, ``["TEST.AUG.ENABLED=True"]``.
        slice: for small objects in large images: side of tiles, in pixels, that are predicted one by one beside the
            whole image.
        overlap: of neighboring tiles, as a fraction of their side; objects of that size are whole in one of them.

    Raises:
        ModuleNotFoundError: it is no ONNX file, and Detectron2 is not installed.
        FileNotFoundError, KeyError, DownloadError: see ``api.locate.locate_model``.
        ValueError: the config or the weights cannot be used.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        config: str | None = None,
        weights: str | Path | None = None,
        threshold: float = 0.3,
        device: str | None = None,
        options: Sequence[str] = (),
        slice: int | None = None,
        overlap: float = 0.25,
    ) -> None:
        if (model is None) == (config is None):
            raise ValueError('name a model, Detector("centerface"), or a config, Detector(config=..., weights=...)')
        self._arguments: dict[str, Any] = {"model": model, "config": config, "weights": weights and str(weights)}
        self._arguments |= {"device": device, "options": list(options)}
        self.threshold, self.slice, self.overlap = threshold, slice, overlap
        self._lock = threading.RLock()
        self._loaded: Model | None = None
        self._is_onnx = Path(model or "").suffix == ".onnx"
        if not self._is_onnx:
            file = find_config(config) if config else ""
            self._config_file, self._weights = locate_model(model, file, self._arguments["weights"])
        elif options or weights or device:
            raise ValueError(
                "an exported file has its weights and settings in it, and runs on the CPU: leave out others"
            )

    @property
    def model(self) -> Model:
        """Loaded when it is first needed; training starts without."""
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    @property
    def class_names(self) -> tuple[str, ...]:
        """``class_names[k]`` names class k; empty where unknown."""
        return tuple(self.model.class_names)

    def __call__(self, source: Any) -> Any:
        """Find objects.

        Args:
            source: a file name, an array (H, W, 3) uint8 in BGR order, or a PIL image; a list of these; a folder, a
                glob pattern, a video file, ``"webcam"``, or the number of a camera.

        Returns:
            A :class:`Result`; a list of them for a list; for folders, patterns, videos and cameras an iterator, which
            reads as it goes. Files of a folder that cannot be read print a line on stderr.

        Raises:
            TypeError, ValueError: it is no image; VideoError, of a video.
            FileNotFoundError: there is no such file.
        """
        if isinstance(source, list | tuple):
            return list(self._predict_all(map(self._to_frame, range(len(source)), source)))
        if isinstance(source, int) and not isinstance(source, bool):
            source = f"webcam:{source}"
        if isinstance(source, str | Path):
            if is_video(str(source)):
                return self._predict_all(Video(str(source)).iterate_frames(), 1, str(source))
            if not Path(source).is_file():
                return self._predict_files(str(source))
        return next(self._predict_all([self._to_frame(0, source)]))

    def find(self, frame: Frame) -> Any:
        """The ``Instances`` (or ``Objects``) above the threshold in one frame, see :class:`Result`."""
        (instances,) = self._predict([frame])
        return instances[to_numpy(instances.scores) > self.threshold]

    def train(
        self,
        data: Data,
        val: Data | None = None,
        *,
        images: str | Path | None = None,
        val_images: str | Path | None = None,
        output: str | Path = "output/train",
        iterations: int | None = None,
        batch_size: int | None = None,
        resume: bool = False,
        options: Sequence[str] = (),
    ) -> Any:
        """Train on ``data`` from the weights of this detector; afterwards it has the new ones.

        A head for other classes starts anew. For several GPUs there is ``centernet-d2 train``.

        Args:
            data, val: see ``api.data.describe_data``; ``val`` is evaluated at the end and every TEST.EVAL_PERIOD.
            images, val_images: folders of the images of COCO-format files (default: those of the files).
            output: folder, ``Detector(output)`` loads it.
            iterations, batch_size: instead of the config's schedule.
            resume: go on from the last checkpoint in ``output``.
            options: config keys, which come last.

        Returns:
            The results of the last evaluation; None without ``val``.
        """
        self._refuse_onnx()
        keys = [*build_training_options(data, val, images, val_images), *build_schedule_options(iterations, batch_size)]
        results = self._run([*keys, f"OUTPUT_DIR={output}", *options], resume=resume)
        self.__setstate__({"model": output, "device": self._arguments["device"], **self._settings()})
        return results

    def evaluate(
        self,
        data: Data | None = None,
        *,
        images: str | Path | None = None,
        output: str | Path = "output/evaluate",
        options: Sequence[str] = (),
    ) -> Any:
        """Scores by task and metric, ``results["bbox"]["AP"]`` in percent, on ``data`` or the config's DATASETS.TEST.

        Args:
            data, images: see :meth:`train`.
            output: folder of the results.
        """
        self._refuse_onnx()
        keys = []
        if data is not None:
            name, custom = describe_data(data, "val", images)
            keys = [f"DATASETS.CUSTOM={custom!r}", "DATASETS.TRAIN=()", f"DATASETS.TEST={(name,)!r}"]
        return self._run([*keys, f"OUTPUT_DIR={output}", *options], eval_only=True)

    def export(
        self, path: str | Path, *, batch_size: int = 1, dynamic: bool = False, options: Sequence[str] = ()
    ) -> Path:
        """Write ONNX (``Detector(path)`` loads it), or TorchScript where ``path`` ends in ".pt".

        Args:
            dynamic: ONNX that takes batches and images of any size.

        Raises:
            ValueError: one graph cannot do what the config says, such as TEST.AUG; or of another suffix.
        """
        if Path(path).suffix not in (".onnx", ".pt"):
            raise ValueError(f"the name must end in .onnx or .pt, not {Path(path).name!r}")
        cfg = self._config(options)

        from centernet_d2.export import export_file

        export_file(cfg, Path(path), batch_size, dynamic)
        return Path(path)

    def __getstate__(self) -> dict[str, Any]:
        return {**self._arguments, **self._settings()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _settings(self) -> dict[str, Any]:
        return {"threshold": self.threshold, "slice": self.slice, "overlap": self.overlap}

    def _predict(self, frames: Sequence[Frame]) -> list[Any]:
        with self._lock:
            if not self.slice:
                return self.model.predict(frames)
            overlap = round(self.slice * self.overlap)
            return [predict_sliced(self.model, frame, self.slice, overlap) for frame in frames]

    def _load(self) -> Model:
        if self._is_onnx:
            return OnnxModel(Path(str(self._arguments["model"])))
        return TorchModel(self._config())

    def _options(self) -> list[str]:
        import torch

        weights, device = self._weights, self._arguments["device"]
        keys = [f"MODEL.WEIGHTS={weights}"] if weights else []
        if device or not torch.cuda.is_available():
            keys.append(f"MODEL.DEVICE={device or 'cpu'}")
        return [*keys, *self._arguments["options"]]

    def _config(self, options: Sequence[str] = ()) -> Any:
        """The config as Detectron2 has it."""
        self._refuse_onnx()
        try:
            from centernet_d2.engine.setup import setup_cfg
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("detectron2", "torch"):
                raise
            raise ModuleNotFoundError(
                "Detectron2 is not installed: run `centernet-d2 install-detectron2`. Exported ONNX files work without "
                "it, Detector('model.onnx')",
                name=error.name,
            ) from None
        return setup_cfg(self._config_file, [*self._options(), *options])

    def _run(self, options: Sequence[str], **how: bool) -> Any:
        self._config(options)  # errors come before anything is written

        from centernet_d2.engine.run import make_run_options, run

        return run(make_run_options(self._config_file, [*self._options(), *options], **how))

    def _refuse_onnx(self) -> None:
        if self._is_onnx:
            raise ValueError(
                "an exported file can only predict; train, evaluate and export need its config and weights"
            )

    def _to_frame(self, number: int, source: Any) -> Frame:
        """An image, its file read where ``source`` is a name."""
        named = isinstance(source, str | Path)
        if named and not Path(source).is_file():
            raise FileNotFoundError(f"there is no image {source}")
        if named:
            image = Sources(self.model.needs_detectron2).read({"file_name": str(source)})
        elif type(source).__module__.startswith("PIL."):
            image = np.ascontiguousarray(np.asarray(source.convert("RGB"))[:, :, ::-1])
        else:
            from centernet_d2.runtime.images import check_image

            image = check_image(source)
        return Frame(number, 0.0, image, number == 0, {"file_name": str(source)} if named else {})

    def _predict_files(self, source: str) -> Iterator[Result]:
        sources = Sources(self.model.needs_detectron2)
        files = sources.find(source)
        videos = [one["file_name"] for one in files if is_video(one["file_name"])]
        images = [one for one in files if not is_video(one["file_name"])]

        def results() -> Iterator[Result]:
            yield from self._predict_all(sources.read_all(images))
            for video in videos:
                yield from self._predict_all(Video(video).iterate_frames(), 1, video)

        return results()

    def _predict_all(self, frames: Iterable[Frame], batch: int = _BATCH, video: str = "") -> Iterator[Result]:
        """A result for each frame, ``batch`` of them at a time."""
        remaining, visualizer = iter(frames), self.model.make_visualizer(-1.0)
        names, ids = self.class_names, tuple(self.model.category_ids)
        while some := list(islice(remaining, batch)):
            for frame, predictions in zip(some, self._predict(some), strict=True):
                yield Result(
                    image=frame.image,
                    instances=predictions[to_numpy(predictions.scores) > self.threshold],
                    class_names=names,
                    category_ids=ids,
                    file_name=video or str(frame.dataset_dict.get("file_name", "")),
                    frame=frame.index,
                    seconds=frame.seconds,
                    _visualizer=visualizer if video else self.model.make_visualizer(-1.0),
                    _starts=frame.starts or not video,
                )
