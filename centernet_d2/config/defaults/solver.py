"""Defaults of training and evaluation."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_training(cfg: CfgNode) -> None:
    # "Adam", "AdamW" or "SGD".
    cfg.SOLVER.OPTIMIZER = "Adam"
    # CLIP_GRADIENTS.CLIP_TYPE "full_model" clips the norm of all gradients together, beside Detectron2's types.
    # Schedules (LR_SCHEDULER_NAME) are Detectron2's, and "OneCycleLR", which climbs for WARMUP_ITERS.
    # Above 0: length of the schedule in epochs instead of MAX_ITER; then STEPS are fractions of it, such as
    # (0.65, 0.9), WARMUP_EPOCHS stands for WARMUP_ITERS and TEST.EVAL_EPOCHS, if above 0, for TEST.EVAL_PERIOD.
    cfg.SOLVER.EPOCHS = 0.0
    cfg.SOLVER.WARMUP_EPOCHS = 0.0
    cfg.TEST.EVAL_EPOCHS = 0.0
    # With EPOCHS: iterations at least; all keys in epochs are then scaled alike.
    cfg.SOLVER.MIN_ITER = 0
    # Stop after so many evaluations in a row without a better TEST.BEST_METRIC; 0: never.
    cfg.SOLVER.PATIENCE = 0
    # Factor of the learning rate of the backbone.
    cfg.SOLVER.BACKBONE_LR_FACTOR = 1.0
    # Evaluated and saved are moving averages of the weights, which forget at this rate, such as 0.999; 0: the weights.
    cfg.SOLVER.EMA = CfgNode()
    cfg.SOLVER.EMA.DECAY = 0.0
    # Of autocast where SOLVER.AMP.ENABLED: "float16" (the loss is scaled) or "bfloat16".
    cfg.SOLVER.AMP.PRECISION = "float16"
    # Train with backbone, neck and heads compiled (torch.compile); the first steps take minutes.
    cfg.SOLVER.COMPILE = False
    # torch.compile's. "reduce-overhead" records CUDA graphs, also of the losses: targets are padded to a few sizes.
    cfg.SOLVER.COMPILE_MODE = "default"
    # Batch normalizations use the statistics of all processes' images (GPUs only).
    cfg.SOLVER.SYNC_BN = False
    # Checkpoints kept besides the best and the final one.
    cfg.SOLVER.KEEP_CHECKPOINTS = 2

    # Project on Weights & Biases that the curves go to, if any (the package wandb is needed).
    cfg.WANDB = CfgNode()
    cfg.WANDB.PROJECT = ""

    # IoU above which the lower of two detections is removed, whatever their classes and MERGE; 0: none is.
    cfg.TEST.NMS = 0.0
    # Metric whose best checkpoint is kept as model_best.pth, such as "bbox/AP"; "" keeps none.
    cfg.TEST.BEST_METRIC = "bbox/AP"
    # Used where TEST.AUG.ENABLED: scales of the network input, and flipped images (TEST.AUG.FLIP).
    cfg.TEST.AUG.SCALES = [1.0]
    # Images in one forward pass when evaluating.
    cfg.TEST.IMS_PER_BATCH = 1
