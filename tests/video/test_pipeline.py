"""Steps overlap and keep the order; errors end everything, and no thread is left behind."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from centernet_d2.video import Frame, draw_frames, run_pipeline


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert [thread for thread in threading.enumerate() if thread not in before] == []


class Items:
    """0, 1, 2, ...: counts what has been requested, and says who closed it."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.count, self.error, self.given = count, error, 0
        self.closed_by: threading.Thread | None = None

    def __iter__(self):
        return self

    def __next__(self) -> int:
        if self.given == self.count:
            if self.error:
                raise self.error
            raise StopIteration
        self.given += 1
        return self.given - 1

    def close(self) -> None:
        self.closed_by = threading.current_thread()


@pytest.mark.parametrize("capacity", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_all_results_in_their_order(count, capacity):
    results = run_pipeline(range(count), lambda x: x + 1, str, capacity=capacity)
    assert list(results) == [str(x + 1) for x in range(count)]


def test_without_stages_the_items_come_back():
    assert list(run_pipeline(iter("abc"))) == ["a", "b", "c"]


def test_none_is_a_result_like_others():
    assert list(run_pipeline(range(3), lambda x: None)) == [None] * 3


def test_reading_and_all_stages_are_at_work_at_the_same_time():
    """Item 2 is read while the first stage has item 1 and the second item 0: each waits for the other two."""
    together = threading.Barrier(3, timeout=10)

    def items():
        yield from (0, 1)
        together.wait()
        yield 2

    def waits_at(item):
        def stage(x):
            if x == item:
                together.wait()
            return x

        return stage

    assert list(run_pipeline(items(), waits_at(1), waits_at(0), capacity=1)) == [0, 1, 2]


def test_a_slow_stage_holds_up_reading():
    """As many wait as may, one is at work, and one is in the reader's hand."""
    gate, full, items = threading.Event(), threading.Event(), Items(1000)

    def counted():
        for item in items:
            if items.given == 3 + 2:
                full.set()
            yield item

    results = run_pipeline(counted(), lambda x: gate.wait(10) and x, capacity=3)
    taker = threading.Thread(target=lambda: next(results))
    taker.start()
    assert full.wait(10)
    assert not gate.wait(0.2) and items.given == 3 + 2
    gate.set()
    taker.join()
    results.close()


@pytest.mark.parametrize("place", ["reading", "first", "last"])
def test_what_came_before_an_error_is_given_out_first(place):
    class CorruptError(Exception):
        pass

    def fails_at_5(x):
        if x == 5:
            raise CorruptError("frame 5")
        return x

    items = Items(5 if place == "reading" else 10**9, CorruptError("frame 5"))
    stages = {"reading": [], "first": [fails_at_5], "last": [lambda x: x, fails_at_5]}[place]
    results, seen = run_pipeline(items, *stages, capacity=2), []
    with pytest.raises(CorruptError, match="frame 5"):
        for result in results:
            seen.append(result)
    assert seen == list(range(5))
    assert items.closed_by is not None and items.closed_by is not threading.current_thread()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_stage_that_wants_to_end_the_program_does(error):
    def stage(x):
        raise error

    with pytest.raises(error):
        list(run_pipeline(range(3), stage))


def test_whoever_takes_the_results_may_stop():
    items = Items(10**9)
    results = run_pipeline(items, lambda x: x, lambda x: x, capacity=1)
    assert [next(results), next(results)] == [0, 1]
    results.close()
    assert items.closed_by is not None and items.given < 20


def test_frames_are_predicted_in_order_by_one_thread_and_synthetic():
    seen, threads = [], set()

    def predict(frame):
        threads.add(threading.current_thread())
        seen.append(int(frame.image[0, 0, 0]))
        return seen[-1] * 10

    frames = [Frame(k, k / 25, np.full((2, 3, 3), k, np.uint8)) for k in range(20)]
    drawn = list(draw_frames(frames, predict, lambda frame, predictions: frame.image + predictions))
    assert seen == list(range(20)) and len(threads) == 1
    assert [d.frame.index for d in drawn] == list(range(20)) and [d.predictions for d in drawn] == list(
        range(0, 200, 10)
    )
    assert all((d.image == 11 * k).all() for k, d in enumerate(drawn))
