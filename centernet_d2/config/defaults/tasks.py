"""Defaults of the tasks: keypoints, extreme points, 3D boxes, landmarks over a feature pyramid, tracking."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_keypoints(cfg: CfgNode) -> None:
    cfg.MODEL.KEYPOINT = CfgNode()
    # A name of data.schemas.SCHEMAS; "": that of the training set.
    cfg.MODEL.KEYPOINT.SCHEMA = ""
    # Which point of an object the center heatmap marks: "box", "nose" (the tip, faces only), "mean" of the keypoints.
    cfg.MODEL.KEYPOINT.CENTER = "box"
    # Regress boxes (at the box's center). Without, the box of an object is that of its keypoints.
    cfg.MODEL.KEYPOINT.BOX_SIZE = True
    # One object fills the image (cropped faces): heatmap tasks need no center then.
    cfg.MODEL.KEYPOINT.SINGLE_INSTANCE = False
    # Refine regressed keypoints by the peaks of a heatmap per keypoint.
    cfg.MODEL.KEYPOINT.REFINE = True
    # To which peak: "probable" (and close), or the "nearest" in the box (as in the reference).
    cfg.MODEL.KEYPOINT.PEAK_MATCHING = "probable"
    # Peaks read per keypoint and image.
    cfg.MODEL.KEYPOINT.TOPK_PEAKS = 32
    # Candidates with overlapping boxes lower each other's scores (False: only between test-time passes, as in the
    # reference).
    cfg.MODEL.KEYPOINT.SOFT_NMS = True
    # Radius in cells of the Gaussians in keypoint heatmaps; 0: one cell (published for faces); -1: from the object's
    # size, as for centers (published for clothes).
    cfg.MODEL.KEYPOINT.HEATMAP_RADIUS = 2
    # How a peak's place inside its cell is found: "offset" (regressed), "dark" (Taylor expansion of the logarithm),
    # "soft_argmax" (mean of the cells around), "none" (the center of the cell).
    cfg.MODEL.KEYPOINT.OFFSET = "offset"
    # (a, b, c, d): keypoints have a covariance, exp(a) p^b times the shape of their heatmap, and their score p becomes
    # sigmoid(c logit(p) + d). (0, 0, 1, 0) is uncalibrated; evaluation then says numbers that fit. (): no covariance.
    cfg.MODEL.KEYPOINT.CALIBRATION = ()
    # Offset maps for every keypoint; False: one pair of maps for all of them (as in the reference).
    cfg.MODEL.KEYPOINT.OFFSET_PER_KEYPOINT = True
    # Cells around a keypoint's own at which its offset is learned; 0: at its own alone (as in the reference).
    cfg.MODEL.KEYPOINT.OFFSET_RADIUS = 1
    # What keypoint losses are divided by: "objects" (each object counts once), or "keypoints" (the reference: the
    # heatmap loss by the number of its peaks, regression and offsets by the number of labeled keypoints).
    cfg.MODEL.KEYPOINT.LOSS_NORMALIZER = "objects"
    # What is regressed at an object's center: "cells", the vector from the corner of the center's cell, in grid cells;
    # or "box", the position as a fraction of the box, from its top left corner (CenterFace; needs BOX_SIZE).
    cfg.MODEL.KEYPOINT.REGRESSION_ENCODING = "cells"
    cfg.MODEL.KEYPOINT.REGRESSION_WEIGHT = 1.0
    cfg.MODEL.KEYPOINT.HEATMAP_WEIGHT = 1.0
    cfg.MODEL.KEYPOINT.OFFSET_WEIGHT = 1.0
    cfg.MODEL.KEYPOINT.GROUPING_WEIGHT = 0.1


def add_tasks(cfg: CfgNode) -> None:
    # Extreme points (ExtremePointTask); MODEL.MASK_ON adds octagon masks.
    cfg.MODEL.EXTREME = CfgNode()
    # One heatmap a side for all classes: the center's heatmaps alone say the class.
    cfg.MODEL.EXTREME.CLASS_AGNOSTIC = False
    # Peaks read per side and image; objects are sought among all groups of four of them.
    cfg.MODEL.EXTREME.TOPK = 40
    # Minimum probability of each extreme point of an object, and of its center.
    cfg.MODEL.EXTREME.POINT_THRESH = 0.1
    cfg.MODEL.EXTREME.CENTER_THRESH = 0.1
    # Weight of edge aggregation: 0.1 in ExtremeNet, 0 (none) in CenterNet.
    cfg.MODEL.EXTREME.EDGE_AGGREGATION = 0.1
    # Halve scores of boxes that hold several objects of their class: ExtremeNet, but not CenterNet.
    cfg.MODEL.EXTREME.GHOST_BOX_SUPPRESSION = True
    # Where the center is looked for: in the center of the points' "positions", or (as in the reference) of their
    # "cells".
    cfg.MODEL.EXTREME.CENTER_LOOKUP = "positions"

    cfg.MODEL.BOX3D = CfgNode()
    # Also regress where the center of the 3D box is seen. Without (as in the reference), in the center of the box.
    cfg.MODEL.BOX3D.CENTER_OFFSET = True
    # P, 3x4 row by row, of images that come without a calibration; pixels of the image, not of the network's input.
    # That of some of KITTI's images (as in the reference).
    cfg.MODEL.BOX3D.CALIBRATION = [
        *(707.0493, 0.0, 604.0814, 45.75831),
        *(0.0, 707.0493, 180.5066, -0.3454157),
        *(0.0, 0.0, 1.0, 0.004981016),
    ]
    cfg.MODEL.BOX3D.DEPTH_WEIGHT = 1.0
    cfg.MODEL.BOX3D.DIMENSIONS_WEIGHT = 1.0
    cfg.MODEL.BOX3D.ORIENTATION_WEIGHT = 1.0
    cfg.MODEL.BOX3D.CENTER_OFFSET_WEIGHT = 1.0

    # Rotated boxes (RotatedBoxTask).
    cfg.MODEL.ROTATED_BOX = CfgNode()
    cfg.MODEL.ROTATED_BOX.ANGLE_WEIGHT = 1.0


def add_pyramid_tasks(cfg: CfgNode) -> None:
    # Tasks over a feature pyramid: LSNet{Box,Contour,Pose}Task and CenterNetPlusPlusTask.
    cfg.MODEL.LSNET = CfgNode()
    # Convolutions of each tower, from the first to the last: "deformable" (modulated) or "plain".
    cfg.MODEL.LSNET.TOWER = ["deformable", "deformable", "deformable"]
    # Points of a contour (LSNetContourTask).
    cfg.MODEL.LSNET.CONTOUR_POINTS = 36
    # Which box a pose belongs to (LSNetPoseTask): the "object" box, which is predicted, or that of its "keypoints".
    cfg.MODEL.LSNET.POSE_BOX = "object"
    # Where a cell's anchor point lies: 0 is the cell's corner (reference), 0.5 its center.
    cfg.MODEL.LSNET.POINT_OFFSET = 0.0
    # The positive cells of the first stage are nearest to the "box" center, or to the "centroid" of the extreme points.
    cfg.MODEL.LSNET.INIT_CENTER = "box"
    # Positive cells of an object in the first stage.
    cfg.MODEL.LSNET.INIT_POSITIVES = 1
    # Candidates of an object on each level in the second stage (ATSS).
    cfg.MODEL.LSNET.ATSS_TOPK = 9
    # The smaller of a pair of opposite numbers is this fraction of the larger (alpha of the cross-IOU loss).
    cfg.MODEL.LSNET.ALPHA = 0.2
    cfg.MODEL.LSNET.CLASS_WEIGHT = 1.0
    cfg.MODEL.LSNET.INIT_WEIGHT = 1.0
    cfg.MODEL.LSNET.REFINE_WEIGHT = 2.0
    # Factor of the box losses beside those of a pose.
    cfg.MODEL.LSNET.POSE_BOX_WEIGHT = 0.1
    # Pairs of cell and class that are decoded on each level.
    cfg.MODEL.LSNET.TOPK_CANDIDATES = 1000
    # How candidates of one object are merged: "nms" or "linear_soft_nms", per class, at this IoU. With several
    # test-time passes (TEST.AUG) the boxes vote, at VOTE_IOU.
    cfg.MODEL.LSNET.MERGE = "nms"
    cfg.MODEL.LSNET.NMS_IOU = 0.6
    cfg.MODEL.LSNET.VOTE_IOU = 0.66
    # Boxes below this area (image pixels) are left out: 1024 for poses, since COCO does not score smaller ones.
    cfg.MODEL.LSNET.MIN_BOX_AREA = 0.0
    # Corner verification: corners of boxes move to peaks of corner heatmaps (LSNet-CPV; CenterNet++, where False is
    # CenterNet-RT).
    cfg.MODEL.LSNET.CORNERS = False
    # Minimum probability of the corner that a box's corner moves to; 0 moves every one (reference).
    cfg.MODEL.LSNET.CORNER_THRESH = 0.0
    # Defects of the reference code to restore: names of modeling.lsnet.reference.DEFECTS.
    cfg.MODEL.LSNET.REFERENCE_DEFECTS = []


def add_tracking(cfg: CfgNode) -> None:
    # Trackers (META_ARCHITECTURE CenterTrack).
    cfg.MODEL.TRACKING = CfgNode()
    cfg.MODEL.TRACKING.DISPLACEMENT_WEIGHT = 1.0
    # Objects below are left out; those above NEW_THRESH can begin a track; a track is shown to the network in the next
    # frame from HEATMAP_THRESH on.
    cfg.MODEL.TRACKING.SCORE_THRESH = 0.3
    cfg.MODEL.TRACKING.NEW_THRESH = 0.3
    cfg.MODEL.TRACKING.HEATMAP_THRESH = 0.3
    # Frames for which a track that finds no object stays where it was.
    cfg.MODEL.TRACKING.MAX_AGE = 0
    # In training the previous frame is one at most so many frames away, on either side.
    cfg.MODEL.TRACKING.MAX_FRAME_DISTANCE = 2
    # Its own shift and zoom against the frame: standard deviations, fractions of the input's longer side and of its
    # size.
    cfg.MODEL.TRACKING.SHIFT = 0.0
    cfg.MODEL.TRACKING.SCALE = 0.0
    # Its heatmap: noise of the centers in widths and heights, and probabilities that an object is not shown, and that
    # a false one is.
    cfg.MODEL.TRACKING.HEATMAP_JITTER = 0.05
    cfg.MODEL.TRACKING.FN_PROB = 0.4
    cfg.MODEL.TRACKING.FP_PROB = 0.1
