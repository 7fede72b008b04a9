"""Evaluation of tracks: CLEAR MOT, IDF1, HOTA."""
