"""Videos and cameras: decoding, prediction and drawing run in parallel."""

from centernet_d2.video.pipeline import DrawnFrame, draw_frames, run_pipeline
from centernet_d2.video.process import process_video
from centernet_d2.video.reader import VIDEO_SUFFIXES, Frame, Video, VideoError, is_video
from centernet_d2.video.writer import VideoWriter, Window, open_window

__all__ = [
    "VIDEO_SUFFIXES",
    "DrawnFrame",
    "Frame",
    "Video",
    "VideoError",
    "VideoWriter",
    "Window",
    "draw_frames",
    "is_video",
    "open_window",
    "process_video",
    "run_pipeline",
]
