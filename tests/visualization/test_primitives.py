"""Where lines, dots and words are."""

from __future__ import annotations

import numpy as np
import pytest

from centernet_d2.visualization.primitives import compute_line_width, draw_dot, draw_line, write_labels, write_text

WHITE = (255, 255, 255)


def black(height: int = 200, width: int = 300) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def extent(image: np.ndarray) -> list[int]:
    """x1, y1, x2, y2 of what is not black."""
    rows, columns = np.nonzero(image.max(axis=2))
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def plates(texts, boxes, height: int = 12, size=(200, 300)) -> list[list[int]]:
    """x1, y1, x2, y2 of what is darkened for each label alone, in an image with the ones before."""
    predictions = []
    for count in range(1, len(texts) + 1):
        image = np.full((*size, 3), 200, np.uint8)
        before = image.copy()
        for k, stop in ((before, count - 1), (image, count)):
            write_labels(k, texts[:stop], np.array(boxes[:stop], float).reshape(-1, 4), [WHITE] * stop, height)
        rows, columns = np.nonzero((image != before).any(axis=2))
        predictions.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return predictions


def overlap(a, b) -> bool:
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def test_coordinates_are_continuous():
    """A vertical line of width 1 at x = 20.5 is column 20; a dot is centered to a sixteenth of a pixel."""
    image = black()
    draw_line(image, (20.5, 10.5), (20.5, 49.5), WHITE)
    assert (image[11:49, 20] > 200).all() and image[:, [18, 22]].max() < 30 and image[[8, 51]].max() < 30
    for x, y in ((100.5, 60.5), (100.25, 60.75)):
        image = black()
        draw_dot(image, (x, y), 6, WHITE)
        weight = image[..., 0].astype(float)
        rows, columns = np.mgrid[0:200, 0:300] + 0.5
        assert (weight * columns).sum() / weight.sum() == pytest.approx(x, abs=0.08)
        assert (weight * rows).sum() / weight.sum() == pytest.approx(y, abs=0.08)


def test_what_is_nowhere_is_not_synthetic():
    image = black()
    draw_line(image, (np.nan, 5), (50, 50), WHITE)
    draw_line(image, (5, 5), (np.inf, 50), WHITE)
    draw_dot(image, (5, np.nan), 3, WHITE)
    write_labels(image, ["a"], np.array([[np.nan, 5, 50, 50]]), [WHITE], 12)
    assert not image.any()
    draw_line(image, (10.5, 100.5), (1e30, 100.5), WHITE)
    assert (image[100, 12:, 0] > 200).all()


def test_widths_suit_the_image():
    assert [compute_line_width(black(*size)) for size in ((50, 90), (480, 640), (1080, 1920))] == [1, 2, 4]


def test_a_label_is_in_the_corner_of_a_large_box_and_above_a_small_one():
    (large,) = plates(["cat"], [[50, 60, 250, 180]])
    assert large[:2] == [50, 60] and large[3] == 60 + 12 + 4
    (small,) = plates(["cat"], [[50, 60, 60, 70]])
    assert small[0] == 50 and small[3] == 60
    (at_the_top,) = plates(["cat"], [[50, 2, 60, 12]])
    assert at_the_top[1] >= 0 and at_the_top[3] <= 200


def test_labels_do_not_hide_each_other():
    """Four boxes in one place, of which each has a better place than on top of another; the first keeps the best."""
    boxes = [[50, 60, 250, 180]] * 4
    predictions = plates(["the first", "second", "third", "fourth"], boxes)
    assert predictions[0][:2] == [50, 60]
    assert not any(overlap(predictions[i], predictions[j]) for i in range(4) for j in range(i))


@pytest.mark.parametrize("box", [[-80, -80, -20, -20], [290, 190, 400, 300], [500, 500, 600, 600]])
def test_labels_stay_in_the_image(box):
    (plate,) = plates(["bicycle"], [box])
    assert plate[0] >= 0 and plate[1] >= 0 and plate[2] <= 300 and plate[3] <= 200
    assert plate[2] - plate[0] > 30, "all of it"


def test_accents_are_written():
    """OpenCV's own letters have question marks in their place."""
    images = []
    for text in ("ä", "é", "ж", "?"):
        images.append(black(40, 40))
        write_text(images[-1], (5, 5), text, WHITE, 24)
    assert all(image.any() for image in images)
    assert not any(np.array_equal(images[i], images[j]) for i in range(4) for j in range(i))


def test_a_text_has_its_color_and_place():
    image = black()
    write_text(image, (40, 30), "HHH", (10, 200, 30), 20)
    x1, y1, x2, y2 = extent(image)
    assert 40 <= x1 < 44 and 30 <= y1 < 40 and y2 <= 52 and x2 < 120
    assert image[..., 1].max() > 190 and image[..., 2].max() <= 30
