"""Training, evaluation and their set-up, for tools and scripts alike."""

from centernet_d2.engine.launch import launch
from centernet_d2.engine.predictor import Predictor
from centernet_d2.engine.setup import setup_cfg, start_run
from centernet_d2.engine.step.anomaly import NonFiniteGradientError, NonFiniteLossError
from centernet_d2.engine.trainer import Trainer

__all__ = ["NonFiniteGradientError", "NonFiniteLossError", "Predictor", "Trainer", "launch", "setup_cfg", "start_run"]
