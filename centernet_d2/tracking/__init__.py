"""Track ids for the objects of a video, frame after frame."""
