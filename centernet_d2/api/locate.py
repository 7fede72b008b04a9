"""From what a user calls a model to its config and weights."""

from __future__ import annotations

from pathlib import Path

from centernet_d2 import model_zoo


def locate_model(model: str | Path | None, config: str, weights: str | None) -> tuple[str, str | None]:
    """Config file and weights of a model.

    Args:
        model: a training's folder, or a name of ``model_zoo.list_models()``; None: ``config`` says it.
        config: a file, or "".
        weights: a file, used instead of the model's.

    Returns:
        The config file, and the weights; None where the config says which (MODEL.WEIGHTS).

    Raises:
        FileNotFoundError: the folder has no config or no weights.
        KeyError: there is no such model.
        DownloadError: its weights cannot be downloaded.
    """
    if model is None:
        return config, weights
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.yaml").is_file():
            raise FileNotFoundError(f"{folder} is no folder of a training: it has no config.yaml")
        return str(folder / "config.yaml"), weights or find_weights(folder)
    if folder.suffix or len(folder.parts) > 1:
        raise FileNotFoundError(
            f"{model} is neither a folder of a training nor an ONNX file that exists; a checkpoint needs its config: "
            'config="..." and weights="..."'
        )
    entry = model_zoo.find_model(str(model))
    return model_zoo.get_config_file(entry.config), weights or str(model_zoo.fetch(entry))


def find_weights(folder: Path) -> str:
    """The best weights of a training's folder (``model_best.pth``), else the last.

    Raises:
        FileNotFoundError: there are none.
    """
    saved = sorted(folder.glob("model_[0-9]*.pth"), reverse=True)
    for path in (folder / "model_best.pth", folder / "model_final.pth", *saved):
        if path.is_file():
            return str(path)
    raise FileNotFoundError(f"{folder} has no weights (model_best.pth, model_final.pth or model_<iteration>.pth)")
