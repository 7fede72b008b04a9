"""A pipeline of stages, one thread each, that keeps the order of the items.

Threads suffice, because OpenCV and PyTorch release Python's lock.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from centernet_d2.video.reader import Frame

# Seconds between two checks for a stop.
_POLL = 0.1
# Seconds to wait at the end for a stage that still works, such as a hanging camera.
_PATIENCE = 10.0


@dataclass(frozen=True)
class DrawnFrame:
    """A frame, its predictions, and the drawn image, (H, W, 3) uint8, BGR."""

    frame: Frame
    predictions: Any
    image: np.ndarray


def draw_frames(
    frames: Iterable[Frame],
    predict: Callable[[Frame], Any],
    draw: Callable[[Frame, Any], np.ndarray],
    capacity: int = 4,
) -> Generator[DrawnFrame, None, None]:
    """Predict and draw frames while the next ones are read.

    Args:
        predict: frame -> predictions.
        draw: frame, predictions -> image (H, W, 3) uint8, BGR. Both are called in the order of the frames, each in one
            thread.
        capacity: frames that may wait before each stage. Keep it small for cameras, so that images stay current.

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
    """Yield ``stages[-1](... stages[0](item))`` of every item, in their order.

    Items are read, and every stage runs, in a thread of its own. The threads start with the first ``next()`` and end
    with the iterator: at the end, at an error, or where it is closed. ``items.close()``, where there is one, is called
    in the thread that reads.

    Args:
        capacity: items that may wait between two threads.

    Raises:
        Whatever ``items`` or a stage raises, after everything that came before has been given out.
    """
    stop = threading.Event()
    queues: list[queue.Queue[_Message]] = [queue.Queue(capacity) for _ in range(len(stages) + 1)]
    threads = [threading.Thread(target=_read, args=(items, queues[0], stop), daemon=True)]
    for stage, source, target in zip(stages, queues, queues[1:], strict=False):
        threads.append(threading.Thread(target=_run_stage, args=(stage, source, target, stop), daemon=True))
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
    """An item, or, if ``last``, the error that ended the stream (None: no error)."""

    value: Any
    last: bool = False


def _read(items: Iterable[Any], target: queue.Queue[_Message], stop: threading.Event) -> None:
    last = _Message(None, last=True)
    try:
        for item in items:
            if not _put(target, _Message(item), stop):
                break
    except BaseException as error:  # raised again in the consumer's thread
        last = _Message(error, last=True)
    finally:
        if hasattr(items, "close"):
            items.close()
        _put(target, last, stop)


def _run_stage(
    stage: Callable[[Any], Any], source: queue.Queue[_Message], target: queue.Queue[_Message], stop: threading.Event
) -> None:
    while (message := _get(source, stop)) is not None:
        if not message.last:
            try:
                message = _Message(stage(message.value))
            except BaseException as error:  # raised again in the consumer's thread
                message = _Message(error, last=True)
        _put(target, message, stop)
        if message.last:
            return


def _put(target: queue.Queue[_Message], message: _Message, stop: threading.Event) -> bool:
    """Return True if the item was put before ``stop`` was set."""
    while not stop.is_set():
        try:
            target.put(message, timeout=_POLL)
            return True
        except queue.Full:
            continue
    return False


def _get(source: queue.Queue[_Message], stop: threading.Event) -> _Message | None:
    """Return the next message, None once ``stop`` is set."""
    while not stop.is_set():
        try:
            return source.get(timeout=_POLL)
        except queue.Empty:
            continue
    return None
