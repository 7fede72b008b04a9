"""Every configuration key of this project, with its meaning and unit."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg


class Config(CfgNode):
    """Detectron2's config, except that reading a YAML file never runs code from it (upstream's default allows that)."""

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = False) -> None:
        super().merge_from_file(cfg_filename, allow_unsafe=allow_unsafe)


def get_cfg() -> CfgNode:
    """Detectron2's defaults with this project's keys added."""
    cfg = get_detectron2_cfg()
    add_centernet_config(cfg)
    return Config(cfg)  # converts every node, so that merging finds equal types


def add_centernet_config(cfg: CfgNode) -> None:
    """Add this project's keys, with their defaults, to a Detectron2 config."""
    _add_networks(cfg)
    _add_inference(cfg)
    _add_grid_points(cfg)
    _add_landmarks(cfg)
    _add_tasks(cfg)
    _add_tracking(cfg)
    _add_input(cfg)
    _add_augmentation(cfg)
    _add_data(cfg)
    _add_training(cfg)


def _add_networks(cfg: CfgNode) -> None:
    cfg.MODEL.META_ARCHITECTURE = "CenterNet"
    # A GPU where there is one (Detectron2 insists on one).
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    # Order of weights and maps in memory: channels innermost, quicker on CPUs, and what GPUs' tensor cores take.
    # Same results.
    cfg.MODEL.CHANNELS_LAST = True

    # What turns the backbone's maps into the stride-4 map: a name of NECK_REGISTRY, or "" where the backbone gives it.
    cfg.MODEL.NECK = CfgNode()
    cfg.MODEL.NECK.NAME = "DeconvNeck"
    # Widths from coarse to fine: of each stage of DeconvNeck, at each map but the coarsest in FPNNeck, IDANeck and
    # SEBNeck; of each layer of BiFPNNeck. DLAUpNeck has those of the backbone's maps.
    cfg.MODEL.NECK.CHANNELS = [256, 128, 64]
    # Kind of 3x3 convolution: "plain", "separable" (depthwise, then 1x1), "deformable" (modulated). DeconvNeck has one
    # in front of each transposed convolution, or none: "".
    cfg.MODEL.NECK.CONV = "deformable"
    # How FPNNeck, IDANeck and BiFPNNeck bring maps together: "sum", "weighted" (learnt), "concat".
    cfg.MODEL.NECK.FUSION = "sum"
    cfg.MODEL.NECK.NORM = "BN"

    # Any of torchvision's classification networks (build_torchvision_backbone).
    cfg.MODEL.TORCHVISION = CfgNode()
    cfg.MODEL.TORCHVISION.NAME = "shufflenet_v2_x1_0"
    # "": BatchNorm as it is; "SyncBN", "FrozenBN".
    cfg.MODEL.TORCHVISION.NORM = ""
    # Networks of timm, where it is installed (build_timm_backbone); PRETRAINED: with the weights that timm publishes.
    cfg.MODEL.TIMM = CfgNode()
    cfg.MODEL.TIMM.NAME = "mobilenetv3_large_100"
    cfg.MODEL.TIMM.PRETRAINED = False

    cfg.MODEL.DARKNET = CfgNode()
    cfg.MODEL.DARKNET.NORM = "BN"

    cfg.MODEL.DLA = CfgNode()
    cfg.MODEL.DLA.NORM = "BN"

    cfg.MODEL.HOURGLASS = CfgNode()
    cfg.MODEL.HOURGLASS.NUM_STACKS = 2
    # Width and number of residual blocks at each depth of one hourglass, from the outermost.
    cfg.MODEL.HOURGLASS.CHANNELS = [256, 256, 384, 384, 384, 512]
    cfg.MODEL.HOURGLASS.BLOCKS = [2, 2, 2, 2, 2, 4]
    cfg.MODEL.HOURGLASS.NORM = "BN"


def _add_inference(cfg: CfgNode) -> None:
    # What engine.predictor.Predictor does for speed; nothing else reads these.
    cfg.MODEL.INFERENCE = CfgNode()
    # Batch normalizations become part of the convolutions before them. Same results.
    cfg.MODEL.INFERENCE.FOLD_BATCH_NORM = True
    # Of autocast in backbone and neck: "float32" (none), "bfloat16", "float16". Heads and decoding stay float32.
    cfg.MODEL.INFERENCE.PRECISION = "float32"
    # Backbone, neck and heads through torch.compile; the first picture, and those of other sizes, take minutes.
    cfg.MODEL.INFERENCE.COMPILE = False
    # One CUDA graph for each shape of the network's input: for few sizes (INPUT.RESIZE_TEST "fixed"), on a GPU.
    cfg.MODEL.INFERENCE.CUDA_GRAPHS = False


def _add_grid_points(cfg: CfgNode) -> None:
    cfg.MODEL.CENTERNET = CfgNode()
    # A name of TASK_REGISTRY.
    cfg.MODEL.CENTERNET.TASK = "GridPointTask"
    # Branches trained beside the task's own, by their names in BRANCH_REGISTRY.
    cfg.MODEL.CENTERNET.BRANCHES = []
    # 0: as many as the (first) training data set has.
    cfg.MODEL.CENTERNET.NUM_CLASSES = 0
    # Width of the 3x3 convolution of each branch.
    cfg.MODEL.CENTERNET.HEAD_CHANNELS = 64

    # Which points of the 3x3 grid stand for an object: row-major, 4 is the centre; any non-empty subset of 0..8.
    cfg.MODEL.CENTERNET.POINT_FLAGS = [4]
    # What is regressed at each point: "wh" (width, height), "lt" (distance to left and top: Enhanced CenterNet's
    # checkpoints), "ltrb" (distances to all four sides); grid cells.
    cfg.MODEL.CENTERNET.SIZE_ENCODING = "wh"

    # Which branch learns boxes: "GridBoxSize", SIZE_ENCODING's numbers by L1 at the points' own cells (published); or
    # "GridBox", boxes as boxes, in GridPointTask. There "ltrb" are distances from the middle of the cell, and no offset
    # is learnt.
    cfg.MODEL.CENTERNET.BOX_BRANCH = "GridBoxSize"
    # Of GridBox: "l1" (of the corners, grid cells), "iou", "giou", "diou", "ciou".
    cfg.MODEL.CENTERNET.BOX_LOSS = "giou"
    # Of GridBox, at which cells: "peak", the point's own; with "ltrb" also "square", 3x3 cells in the box; "gaussian",
    # a window of GAUSSIAN_SHARE weighted by its Gaussian and the logarithm of the box's area (TTFNet).
    cfg.MODEL.CENTERNET.BOX_CELLS = "peak"

    # Size of the Gaussians in grid points' heatmaps. "published": CornerNet's formula with its slip, about 3.3 times
    # larger; "corrected"; "ellipse": GAUSSIAN_SHARE of the box (TTFNet); "fixed"; "box": the whole box and no further.
    # (Landmarks' heatmaps sized like objects, and trackers': one of the first two.)
    cfg.MODEL.CENTERNET.GAUSSIAN_RADIUS = "published"
    # IoU that a box keeps when its corners move by the radius ("published", "corrected").
    cfg.MODEL.CENTERNET.GAUSSIAN_MIN_OVERLAP = 0.7
    # Radius from width and height apart ("published", "corrected").
    cfg.MODEL.CENTERNET.GAUSSIAN_ELLIPTICAL = False
    # Share of the box's width and height that a window covers (TTFNet's alpha and beta).
    cfg.MODEL.CENTERNET.GAUSSIAN_SHARE = 0.54
    # Radius of "fixed", grid cells.
    cfg.MODEL.CENTERNET.GAUSSIAN_FIXED_RADIUS = 1
    # "focal": penalty-reduced (published, from logits and so without its clamp of probabilities); "quality": the
    # Gaussian's value is the probability to be met.
    cfg.MODEL.CENTERNET.HEATMAP_LOSS = "focal"
    cfg.MODEL.CENTERNET.HEATMAP_WEIGHT = 1.0
    cfg.MODEL.CENTERNET.BOX_SIZE_WEIGHT = 0.1
    cfg.MODEL.CENTERNET.OFFSET_WEIGHT = 1.0

    # Peaks read per point and image.
    cfg.MODEL.CENTERNET.TOPK_CANDIDATES = 100
    # How candidates from different points become one object: "soft_nms", "vote", "resample" (docs/multi_point.md).
    cfg.MODEL.CENTERNET.MERGE = "vote"
    cfg.MODEL.CENTERNET.SCORE_THRESH_TEST = 0.0

    # Where a pixel's centre lies in its coordinates: 0.5, or 0.0 for checkpoints published with the paper.
    cfg.MODEL.CENTERNET.PIXEL_CENTER = 0.5


def _add_landmarks(cfg: CfgNode) -> None:
    cfg.MODEL.LANDMARK = CfgNode()
    # A name of data.landmarks.SCHEMES; "": that of the training set.
    cfg.MODEL.LANDMARK.SCHEME = ""
    # Which point of an object the centre heatmap marks: "box", "nose" (the tip, faces only), "mean" of the landmarks.
    cfg.MODEL.LANDMARK.CENTER = "box"
    # Regress boxes (at the box's centre). Without, the box of an object is that of its landmarks.
    cfg.MODEL.LANDMARK.BOX_SIZE = True
    # One object fills the picture (cropped faces): heatmap tasks need no centre then.
    cfg.MODEL.LANDMARK.ONE_OBJECT = False
    # Refine regressed landmarks by the peaks of a heatmap per landmark.
    cfg.MODEL.LANDMARK.REFINE = True
    # To which peak: "probable" (and close), or the "nearest" in the box (published).
    cfg.MODEL.LANDMARK.SNAP = "probable"
    # Peaks read per landmark and image.
    cfg.MODEL.LANDMARK.TOPK_PEAKS = 32
    # Candidates with overlapping boxes lower each other's scores (False: only between test-time passes, as published).
    cfg.MODEL.LANDMARK.SOFT_NMS = True
    # Radius in cells of the Gaussians in landmark heatmaps; 0: one cell (published for faces); -1: from the object's
    # size, as for centres (published for clothes).
    cfg.MODEL.LANDMARK.HEATMAP_RADIUS = 2
    # How a peak's place inside its cell is found: "offset" (regressed), "dark" (Taylor expansion of the logarithm),
    # "soft_argmax" (mean of the cells around), "none" (the middle of the cell).
    cfg.MODEL.LANDMARK.SUBCELL = "offset"
    # Offset maps for every landmark; False: one pair of maps for all of them (published).
    cfg.MODEL.LANDMARK.SUBCELL_PER_LANDMARK = True
    # Cells around a landmark's own at which its offset is learnt; 0: at its own alone (published).
    cfg.MODEL.LANDMARK.SUBCELL_RADIUS = 1
    cfg.MODEL.LANDMARK.OFFSETS_WEIGHT = 1.0
    cfg.MODEL.LANDMARK.HEATMAP_WEIGHT = 1.0
    cfg.MODEL.LANDMARK.SUBCELL_WEIGHT = 1.0
    cfg.MODEL.LANDMARK.GROUPING_WEIGHT = 0.1


def _add_tasks(cfg: CfgNode) -> None:
    # Extreme points (ExtremePointTask); MODEL.MASK_ON adds octagon masks.
    cfg.MODEL.EXTREME = CfgNode()
    # One heatmap a side for all classes: the centre's heatmaps alone say the class.
    cfg.MODEL.EXTREME.CLASS_AGNOSTIC = False
    # Peaks read per side and image; objects are sought among all groups of four of them.
    cfg.MODEL.EXTREME.TOPK = 40
    # Least probability of each extreme point of an object, and of its centre.
    cfg.MODEL.EXTREME.POINT_THRESH = 0.1
    cfg.MODEL.EXTREME.CENTER_THRESH = 0.1
    # Weight of edge aggregation: 0.1 in ExtremeNet, 0 (none) in CenterNet.
    cfg.MODEL.EXTREME.AGGREGATION = 0.1
    # Halve scores of boxes that hold several objects of their class: ExtremeNet, but not CenterNet.
    cfg.MODEL.EXTREME.SUPPRESS_GHOSTS = True
    # Where the centre is looked for: in the middle of the points' "places", or (published) of their "cells".
    cfg.MODEL.EXTREME.CENTER_CELL = "places"

    # Boxes in space: training objects have what ``data.boxes3d`` names, and regions to be ignored.
    cfg.MODEL.BOX3D_ON = False
    cfg.MODEL.BOX3D = CfgNode()
    # Also regress where the middle of the box in space is seen. Without (published), in the middle of the box.
    cfg.MODEL.BOX3D.CENTER_OFFSET = True
    # P, 3x4 row by row, of pictures that come without a calibration; pixels of the picture, not of the network's input.
    # That of some of KITTI's pictures (published).
    cfg.MODEL.BOX3D.CALIBRATION = [
        *(707.0493, 0.0, 604.0814, 45.75831),
        *(0.0, 707.0493, 180.5066, -0.3454157),
        *(0.0, 0.0, 1.0, 0.004981016),
    ]
    cfg.MODEL.BOX3D.DEPTH_WEIGHT = 1.0
    cfg.MODEL.BOX3D.DIMENSIONS_WEIGHT = 1.0
    cfg.MODEL.BOX3D.ORIENTATION_WEIGHT = 1.0
    cfg.MODEL.BOX3D.CENTER_OFFSET_WEIGHT = 1.0


def _add_tracking(cfg: CfgNode) -> None:
    # Trackers (META_ARCHITECTURE CenterTrack): training pictures come with the frame before.
    cfg.MODEL.TRACKING_ON = False
    cfg.MODEL.TRACKING = CfgNode()
    cfg.MODEL.TRACKING.DISPLACEMENT_WEIGHT = 1.0
    # Objects below are left out; those above NEW_THRESH can begin a track; a track is shown to the network in the next
    # frame from HEATMAP_THRESH on.
    cfg.MODEL.TRACKING.SCORE_THRESH = 0.3
    cfg.MODEL.TRACKING.NEW_THRESH = 0.3
    cfg.MODEL.TRACKING.HEATMAP_THRESH = 0.3
    # Frames for which a track that finds no object stays where it was.
    cfg.MODEL.TRACKING.MAX_AGE = 0
    # In training the frame before is one at most so many frames away, on either side.
    cfg.MODEL.TRACKING.MAX_FRAME_DISTANCE = 2
    # Its own shift and zoom against the frame: standard deviations, shares of the input's longer side and of its size.
    cfg.MODEL.TRACKING.SHIFT = 0.0
    cfg.MODEL.TRACKING.SCALE = 0.0
    # Its heatmap: noise of the centres in widths and heights, and probabilities that an object is not shown, and that
    # a false one is.
    cfg.MODEL.TRACKING.CENTER_NOISE = 0.05
    cfg.MODEL.TRACKING.LOST_PROB = 0.4
    cfg.MODEL.TRACKING.FALSE_PROB = 0.1


def _add_input(cfg: CfgNode) -> None:
    # COCO statistics of the paper, BGR, 0..255.
    cfg.MODEL.PIXEL_MEAN = [104.01362, 114.034225, 119.916595]
    cfg.MODEL.PIXEL_STD = [73.602765, 69.890825, 70.915075]
    # The model letterboxes by itself; 0 keeps DefaultPredictor from resizing first.
    cfg.INPUT.MIN_SIZE_TEST = 0
    # (height, width) of the network input in training, input pixels, multiples of the backbone's divisibility.
    cfg.INPUT.SIZE_TRAIN = [512, 512]
    # "fixed": the whole picture is fitted into SIZE_TEST; "keep": its own size, padded to what the backbone needs.
    cfg.INPUT.RESIZE_TEST = "fixed"
    cfg.INPUT.SIZE_TEST = [512, 512]
    # Kept sizes are padded even where they are what the backbone needs already, by one step of it (published).
    cfg.INPUT.PAD_ALWAYS = False
    # Pictures are fitted into SIZE_TRAIN and SIZE_TEST by their width alone, and what is too high is cut (as published
    # for KITTI).
    cfg.INPUT.FIT_WIDTH = False

    # JPEG files that the warp of training makes smaller by 2 or more are decoded smaller at once. Faster, and the small
    # picture is nearer to the mean over what each of its pixels covers; but prediction does not average, so off.
    cfg.INPUT.REDUCED_DECODING = False


def _add_augmentation(cfg: CfgNode) -> None:
    cfg.INPUT.AFFINE = CfgNode()
    # "crop": a scale out of SCALES and a centre out of the picture less a border of BORDER pixels (halved until it
    # fits in); "shift": Gaussian shift and scale around the middle; "none": letterbox.
    cfg.INPUT.AFFINE.MODE = "crop"
    # Probability of that mode; else the picture is letterboxed.
    cfg.INPUT.AFFINE.PROB = 1.0
    # Of the window, as a share of the longer side: small values zoom in.
    cfg.INPUT.AFFINE.SCALES = [0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3]
    cfg.INPUT.AFFINE.BORDER = 128
    # Standard deviations of mode "shift", clipped at two (shift) and one (scale) of them.
    cfg.INPUT.AFFINE.SHIFT = 0.1
    cfg.INPUT.AFFINE.SCALE = 0.4
    cfg.INPUT.AFFINE.FLIP_PROB = 0.5
    # Probability of a rotation, and the standard deviation of its angle in degrees (clipped at two of them).
    cfg.INPUT.AFFINE.ROTATION_PROB = 0.0
    cfg.INPUT.AFFINE.ROTATION = 0.0
    # Largest lean of what was upright in degrees (uniform, to either side), and largest factor by which width divided
    # by height becomes more or less at the same area (its logarithm uniform). 0.0 and 1.0: none.
    cfg.INPUT.AFFINE.SHEAR = 0.0
    cfg.INPUT.AFFINE.STRETCH = 1.0

    # Probability that a training picture keeps its own size (padded as the network needs) instead of being fitted into
    # SIZE_TRAIN; never for pictures with a side above KEEP_RESOLUTION_MAX pixels.
    cfg.INPUT.AFFINE.KEEP_RESOLUTION_PROB = 0.0
    cfg.INPUT.AFFINE.KEEP_RESOLUTION_MAX = 1024
    # Whether a training object's box becomes that of its labelled keypoints after the warp: "never", "rotated" (where
    # the picture was rotated: the box around a rotated box is too large), "always".
    cfg.INPUT.BOX_FROM_KEYPOINTS = "never"

    cfg.INPUT.OCCLUSION = CfgNode()
    # Probability that patches are laid over a training picture, how many at most, and the longest side of one as a
    # share of the picture's shorter side.
    cfg.INPUT.OCCLUSION.PROB = 0.0
    cfg.INPUT.OCCLUSION.MAX_PATCHES = 2
    cfg.INPUT.OCCLUSION.MAX_SIZE = 0.3

    cfg.INPUT.BLUR = CfgNode()
    # Probability of a blur (Gaussian, or along a line as by motion), and its largest standard deviation or length in
    # input pixels.
    cfg.INPUT.BLUR.PROB = 0.0
    cfg.INPUT.BLUR.MAX_SIZE = 3.0

    cfg.INPUT.COLOR = CfgNode()
    # Brightness, contrast and saturation each vary by this share; 0 switches the jitter off.
    cfg.INPUT.COLOR.JITTER = 0.4
    # Standard deviation of the noise along the principal components of COCO's colours (AlexNet's lighting noise).
    cfg.INPUT.COLOR.LIGHTING = 0.1
    # After all of these: transforms of torchvision.transforms.v2 that move nothing, [name, {arguments}] or [name,
    # {arguments}, probability] each, such as [["GaussianNoise", {"sigma": 0.05}, 0.3]] (data/photometric.py names
    # them).
    cfg.INPUT.PHOTOMETRIC = []


def _add_data(cfg: CfgNode) -> None:
    # Data sets of one's own, registered from here: (name, "coco", JSON file, image folder) or
    # (name, "voc", folder with Annotations/ JPEGImages/ ImageSets/Main/, split), or, with landmarks, (name, "face68" |
    # "face19" | "clothes294" | "pose17" | "extreme4", JSON file, image folder), or, with tracks, (name, "video", JSON
    # file, image folder). Relative paths start at DETECTRON2_DATASETS. (name, "crops", data set, margin) has a picture
    # for each object of that set (built in, or an entry before): a square of margin (such as "1.5") times the longer
    # side of its box.
    cfg.DATASETS.CUSTOM = []
    # Share of unreadable pictures (of those seen) above which training stops.
    cfg.DATALOADER.MAX_BROKEN_SHARE = 0.05


def _add_training(cfg: CfgNode) -> None:
    # "Adam", "AdamW" or "SGD".
    cfg.SOLVER.OPTIMIZER = "Adam"
    cfg.SOLVER.BASE_LR = 5e-4
    cfg.SOLVER.WEIGHT_DECAY = 0.0
    cfg.SOLVER.WEIGHT_DECAY_NORM = 0.0
    # Schedules (LR_SCHEDULER_NAME) are Detectron2's, and "OneCycleLR", which climbs for WARMUP_ITERS.
    cfg.SOLVER.WARMUP_ITERS = 0
    # Evaluated and saved are moving averages of the weights, which forget at this rate, such as 0.999; 0: the weights.
    cfg.SOLVER.EMA = CfgNode()
    cfg.SOLVER.EMA.DECAY = 0.0
    # Of autocast where SOLVER.AMP.ENABLED: "float16" (the loss is scaled) or "bfloat16".
    cfg.SOLVER.AMP.PRECISION = "float16"
    # Train with backbone, neck and heads compiled (torch.compile); the first steps take minutes.
    cfg.SOLVER.COMPILE = False
    # Checkpoints kept besides the best and the final one.
    cfg.SOLVER.KEEP_CHECKPOINTS = 2

    # Project on Weights & Biases that the curves go to, if any (the package wandb is needed).
    cfg.WANDB = CfgNode()
    cfg.WANDB.PROJECT = ""

    # Metric whose best checkpoint is kept as model_best.pth, such as "bbox/AP"; "" keeps none.
    cfg.TEST.BEST_METRIC = "bbox/AP"
    # Used where TEST.AUG.ENABLED: scales of the network input, and mirrored pictures (TEST.AUG.FLIP).
    cfg.TEST.AUG.SCALES = [1.0]
    # Pictures in one forward pass when evaluating.
    cfg.TEST.IMS_PER_BATCH = 1
