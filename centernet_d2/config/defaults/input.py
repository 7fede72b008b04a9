"""Defaults of input, augmentation and datasets."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_input(cfg: CfgNode) -> None:
    # (height, width) of the network input in training, input pixels, multiples of the backbone's divisibility.
    cfg.INPUT.SIZE_TRAIN = [512, 512]
    # "fixed": the whole image is fitted into SIZE_TEST; "keep": its own size, padded to what the backbone needs;
    # "stretch": its own size, width and height each scaled up to what the backbone needs.
    # "short_side": SIZE_TEST limits its shorter and its longer side, padded likewise.
    cfg.INPUT.RESIZE_TEST = "fixed"
    cfg.INPUT.SIZE_TEST = [512, 512]
    # Both sizes get the shape of the training images (portrait, square, ...) at about the same area.
    cfg.INPUT.MATCH_ASPECT = False
    # Kept sizes are padded even where they are what the backbone needs already, by one step of it (as in the
    # reference).
    cfg.INPUT.PAD_ALWAYS = False
    # Images are fitted into SIZE_TRAIN and SIZE_TEST by their width alone, and what is too high is cut (as in the
    # reference for KITTI).
    cfg.INPUT.FIT_WIDTH = False

    # Images are rotated upright as their EXIF orientation says, as most annotation tools show them. False: as they are
    # stored, for datasets that were annotated so; in training, evaluation, prediction and drawing.
    cfg.INPUT.EXIF_ORIENTATION = True

    # JPEG files that the warp of training makes smaller by 2 or more are decoded smaller at once. Faster, and the small
    # image is nearer to the mean over what each of its pixels covers; but prediction does not average, so off.
    cfg.INPUT.REDUCED_DECODING = False


def add_affine(cfg: CfgNode) -> None:
    cfg.INPUT.AFFINE = CfgNode()
    # "crop": a scale out of SCALES and a center out of the image less a border of BORDER pixels (halved until it
    # fits in); "shift": Gaussian shift and scale around the center; "none": letterbox; "short_side": the whole image,
    # whose shorter and longer side SIZE_TRAIN limits, times a factor between the smallest and the largest of SCALES.
    cfg.INPUT.AFFINE.MODE = "crop"
    # Probability of that mode; else the image is letterboxed.
    cfg.INPUT.AFFINE.PROB = 1.0
    # Of the window, as a fraction of the longer side: small values zoom in.
    cfg.INPUT.AFFINE.SCALES = [0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3]
    cfg.INPUT.AFFINE.BORDER = 128
    # Standard deviations of mode "shift", clipped at two (shift) and one (scale) of them.
    cfg.INPUT.AFFINE.SHIFT = 0.1
    cfg.INPUT.AFFINE.SCALE = 0.4
    cfg.INPUT.AFFINE.FLIP_PROB = 0.5
    # Fraction of the schedule after which no image is flipped: labels that all lie a little to one side, as those of a
    # machine may, cannot be learned from images that are (docs/landmarks.md).
    cfg.INPUT.AFFINE.FLIP_UNTIL = 1.0
    # Probability of a rotation, and the standard deviation of its angle in degrees (clipped at two of them).
    cfg.INPUT.AFFINE.ROTATION_PROB = 0.0
    cfg.INPUT.AFFINE.ROTATION = 0.0
    # Largest lean of what was upright in degrees (uniform, to either side), and largest factor by which width divided
    # by height becomes more or less at the same area (its logarithm uniform). 0.0 and 1.0: none.
    cfg.INPUT.AFFINE.SHEAR = 0.0
    cfg.INPUT.AFFINE.ASPECT_JITTER = 1.0

    # Probability that a training image keeps its own size (padded as the network needs) instead of being fitted into
    # SIZE_TRAIN; never for images with a side above KEEP_RESOLUTION_MAX pixels.
    cfg.INPUT.AFFINE.KEEP_RESOLUTION_PROB = 0.0
    cfg.INPUT.AFFINE.KEEP_RESOLUTION_MAX = 1024
    # Whether a training object's box becomes that of its labeled keypoints after the warp: "never", "rotated" (where
    # the image was rotated: the box around a rotated box is too large), "always".
    cfg.INPUT.BOX_FROM_KEYPOINTS = "never"


def add_photometric(cfg: CfgNode) -> None:
    cfg.INPUT.RANDOM_ERASING = CfgNode()
    # Probability that patches are laid over a training image, how many at most, and the longest side of one as a
    # fraction of the image's shorter side.
    cfg.INPUT.RANDOM_ERASING.PROB = 0.0
    cfg.INPUT.RANDOM_ERASING.MAX_PATCHES = 2
    cfg.INPUT.RANDOM_ERASING.MAX_SIZE = 0.3

    cfg.INPUT.BLUR = CfgNode()
    # Probability of a blur (Gaussian, or along a line as by motion), and its largest standard deviation or length in
    # input pixels.
    cfg.INPUT.BLUR.PROB = 0.0
    cfg.INPUT.BLUR.MAX_SIZE = 3.0

    cfg.INPUT.COLOR = CfgNode()
    # Brightness, contrast and saturation each vary by this fraction; 0 switches the jitter off.
    cfg.INPUT.COLOR.JITTER = 0.4
    # Standard deviation of the noise along the principal components of COCO's colors (AlexNet's lighting noise).
    cfg.INPUT.COLOR.LIGHTING = 0.1
    # After all of these: transforms of torchvision.transforms.v2 that move nothing, [name, {arguments}] or [name,
    # {arguments}, probability] each, such as [["GaussianNoise", {"sigma": 0.05}, 0.3]] (data/transforms/photometric.py
    # names them).
    cfg.INPUT.PHOTOMETRIC = []


def add_mixing(cfg: CfgNode) -> None:
    # Probability of a mosaic of four images (data/mixing.py), and SCALES of each within its quarter: 1.0 shows the
    # whole image at half its size, 0.5 half of it at its usual size.
    cfg.INPUT.MOSAIC = CfgNode()
    cfg.INPUT.MOSAIC.PROB = 0.0
    cfg.INPUT.MOSAIC.SCALES = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    # Probability that a second image is laid over the first.
    cfg.INPUT.MIXUP = CfgNode()
    cfg.INPUT.MIXUP.PROB = 0.0
    # Probability that objects of a second image, whose masks are known ("segmentation"), are put in front.
    cfg.INPUT.COPY_PASTE = CfgNode()
    cfg.INPUT.COPY_PASTE.PROB = 0.0
    # Fraction of the schedule after which all three are off.
    cfg.INPUT.MIX_UNTIL = 0.85


def add_data(cfg: CfgNode) -> None:
    # Your own datasets. An entry is {name: cats, type: coco, json_file: a.json, image_root: images} or, shorter,
    # [cats, coco, a.json, images]. Types: "coco", "voc_json", "video" (tracks), "face68", "face19", "face5",
    # "clothes294", "pose17", "extreme4": json_file, image_root. "voc": root (with Annotations/ JPEGImages/
    # ImageSets/Main/), split. "auto", "yolo", "labelme", "label_studio", "via", "cvat", "voc_folder", "dota",
    # "coco_folder": path of the folder or file, split ("train", "val", "test" or "all"). "crops", an image for each
    # object of another dataset: source, margin (side of the square, such as "1.5" times the longer side of the box).
    # Relative paths start at DETECTRON2_DATASETS.
    cfg.DATASETS.CUSTOM = []
    # Train on so many images of DATASETS.TRAIN, drawn at random but always the same ones; more contain fewer. 0: all.
    cfg.DATASETS.TRAIN_IMAGES = 0
    # Keypoints that the categories of a "coco" file name.
    cfg.DATASETS.KEYPOINTS = CfgNode()
    # Pairs of names that are exchanged in a flipped image, such as [["ear_a", "ear_b"]]; []: inferred from the names
    # (left and right, l and r; numbered ones where the skeleton shows the symmetry).
    cfg.DATASETS.KEYPOINTS.FLIP_PAIRS = []
    # "auto": images are not flipped if a class has keypoints but no pair, or a keypoint of a side without the other;
    # "always": they are (every keypoint without a pair lies on the axis of symmetry).
    cfg.DATASETS.KEYPOINTS.FLIP = "auto"
    # Boxes that are missing are those of the labeled keypoints, larger on each side by this fraction of their longer
    # side.
    cfg.DATASETS.KEYPOINTS.BOX_MARGIN = 0.1
    # Fraction of unreadable images (of those seen) above which training stops.
    cfg.DATALOADER.MAX_CORRUPT_FRACTION = 0.05
