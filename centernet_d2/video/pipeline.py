"""Steps of work on a stream of things, each in a thread of its own, so that they overlap; the order is kept.

OpenCV and PyTorch release Python's lock while they work, so threads suffice.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from centernet_d2.video.reader import Frame

# Threads look this often (seconds) whether they should stop.
_POLL = 0.1
# How long (seconds) the end waits for a step that is still at work, such as a camera that hangs.
_PATIENCE = 10.0


@dataclass(frozen=True)
class DrawnFrame:
    """A frame, what the network found in it, and its image, (H, W, 3) uint8, BGR."""

    frame: Frame
    predictions: Any
    image: np.ndarray


def draw_frames(
    frames: Iterable[Frame],
    predict: Callable[[Frame], Any],
    draw: Callable[[Frame, Any], np.ndarray],
    capacity: int = 4,
) -> Generator[DrawnFrame, None, None]:
    """Find and draw, frame after frame, while the next ones are read.

    Args:
        predict: what is found in a frame.
        draw: of a frame and what was found in it, an image (H, W, 3) uint8, BGR. Both are called in the order of the
            frames, each in one thread.
        capacity: frames that may wait before each step; with a camera, small is what keeps the image up to date.

    Raises:
        Whatever reading, ``predict`` or ``draw`` raises, after the previous frames.
    """

    def find(frame: Frame) -> tuple[Frame, Any]:
        return frame, predict(frame)

    def draw_frame(pair: tuple[Frame, Any]) -> DrawnFrame:
        frame, predictions = pair
        return DrawnFrame(frame, predictions, draw(frame, predictions))

    return run_pipeline(frames, find, draw_frame, capacity=capacity)


def run_pipeline(items: Iterable[Any], *stages: Callable[[Any], Any], capacity: int = 4) -> Generator[Any, None, None]:
    """``stages[-1](... stages[0](item))`` of every item, in their order.

    Items are read, and every stage runs, in a thread of its own. The threads start with the first ``next()`` and end
    with the iterator: at the end, at an error, or where it is closed. ``items.close()``, where there is one, is called
    in the thread that reads.

    Args:
        capacity: finished things that may wait between two threads.

    Raises:
        Whatever ``items`` or a stage raises, after everything that came before has been given out.
    """
    stop = threading.Event()
    queues: list[queue.Queue[_Message]] = [queue.Queue(capacity) for _ in range(len(stages) + 1)]
    threads = [threading.Thread(target=_read, args=(items, queues[0], stop), daemon=True)]
    for stage, source, target in zip(stages, queues, queues[1:], strict=False):
        threads.append(threading.Thread(target=_work, args=(stage, source, target, stop), daemon=True))
    try:
        for thread in threads:
            thread.start()
        while (message := _get(queues[-1], stop)) is not None and not message.last:
            yield message.value
        if message is not None and message.value is not None:
            raise message.value
    finally:
        stop.set()
        for thread in threads:
            thread.join(_PATIENCE)


@dataclass(frozen=True)
class _Message:
    """A thing, or, as the ``last`` one, the error that ended it all (None: the end)."""

    value: Any
    last: bool = False


def _read(items: Iterable[Any], target: queue.Queue[_Message], stop: threading.Event) -> None:
    last = _Message(None, last=True)
    try:
        for item in items:
            if not _put(target, _Message(item), stop):
                break
    except BaseException as error:  # raised again where the results are taken
        last = _Message(error, last=True)
    finally:
        if hasattr(items, "close"):
            items.close()
        _put(target, last, stop)


def _work(
    stage: Callable[[Any], Any], source: queue.Queue[_Message], target: queue.Queue[_Message], stop: threading.Event
) -> None:
    while (message := _get(source, stop)) is not None:
        if not message.last:
            try:
                message = _Message(stage(message.value))
            except BaseException as error:  # raised again where the results are taken
                message = _Message(error, last=True)
        _put(target, message, stop)
        if message.last:
            return


def _put(target: queue.Queue[_Message], message: _Message, stop: threading.Event) -> bool:
    """Whether it could be put before ``stop`` was set."""
    while not stop.is_set():
        try:
            target.put(message, timeout=_POLL)
            return True
        except queue.Full:
            continue
    return False


def _get(source: queue.Queue[_Message], stop: threading.Event) -> _Message | None:
    """None once ``stop`` is set."""
    while not stop.is_set():
        try:
            return source.get(timeout=_POLL)
        except queue.Empty:
            continue
    return None
