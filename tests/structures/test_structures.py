"""The flat list of a batch's objects against loops over its images."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from detectron2.structures import Boxes, Instances

from centernet_d2.structures import Targets
from centernet_d2.structures.transfer import move

# Two inside, one that reaches out on all sides, one that lies outside, one without width.
BOXES = [[8, 4, 24, 30], [1, 2, 3, 5], [-9, -9, 99, 99], [70, 4, 80, 9], [5, 5, 5, 9]]


def images(counts: list[int], ignored: list[bool] | None = None) -> list[Instances]:
    """Images with ``counts`` of the objects of :data:`BOXES`, in turn, numbered in their field ``gt_number``."""
    predictions, start = [], 0
    for count in counts:
        numbers = torch.arange(start, start + count)
        image = Instances((48, 64))
        image.gt_boxes = Boxes(torch.tensor([BOXES[i % 5] for i in numbers.tolist()], dtype=torch.float).view(-1, 4))
        image.gt_classes, image.gt_number = numbers % 3, numbers
        if ignored is not None:
            image.gt_ignored = torch.tensor(ignored[start : start + count], dtype=torch.bool)
        predictions.append(image)
        start += count
    return predictions


def expected(counts: list[int], wanted: list[bool]) -> list[tuple[list[float], int, int, int]]:
    """Box, class, image and number of the objects that are wanted and have an area inside 16 x 12 cells."""
    rows, number = [], 0
    for image, count in enumerate(counts):
        for _ in range(count):
            box = [min(max(x / 4, 0), limit) for x, limit in zip(BOXES[number % 5], (16, 12, 16, 12), strict=True)]
            if wanted[number] and box[2] > box[0] and box[3] > box[1]:
                rows.append((box, number % 3, image, number))
            number += 1
    return rows


def listed(targets: Targets) -> list[tuple[list[float], int, int, int]]:
    columns = (targets.boxes, targets.classes, targets.image_index, targets.fields["number"])
    return list(zip(*(x.tolist() for x in columns), strict=True))


@pytest.mark.parametrize("counts", [[5, 5], [2], [0, 2, 0, 3], [0], [0, 0]])
def test_objects_are_listed_in_grid_cells(counts):
    targets = Targets.from_instances(images(counts), 4, (12, 16))
    rows = expected(counts, [True] * sum(counts))
    assert listed(targets) == rows
    assert targets.num_objects.item() == len(rows)
    assert targets.num_images == len(counts)
    assert [x.dtype for x in (targets.boxes, targets.classes, targets.image_index)] == [torch.float, *[torch.long] * 2]


def test_ignored_objects_are_listed_apart():
    ignored = [i % 4 == 1 for i in range(12)]
    targets = Targets.from_instances(images([7, 5], ignored), 4, (12, 16))
    assert targets.ignored is not None
    assert listed(targets) == expected([7, 5], [not x for x in ignored])
    assert listed(targets.ignored) == expected([7, 5], ignored)


def test_images_keep_their_boxes():
    image = images([5])[0]
    Targets.from_instances([image], 1, (12, 16))
    assert image.gt_boxes.tensor.tolist() == BOXES


def test_points_belong_to_the_objects_they_are_requested_of():
    """Also after they were requested with other flags, or of other objects."""
    targets = Targets.from_instances(images([3]), 4, (12, 16))
    for flags in [(4,), (0, 8), [4]]:
        points = [
            [[x1 + (1 + p % 3) / 4 * (x2 - x1), y1 + (1 + p // 3) / 4 * (y2 - y1)] for p in flags]
            for x1, y1, x2, y2 in targets.boxes.tolist()
        ]
        assert targets.get_points(flags).tolist() == points
        assert targets.get_cells(flags).tolist() == [[[math.floor(x), math.floor(y)] for x, y in row] for row in points]
    rest = targets.select(torch.tensor([False, True, True]))
    assert rest.get_points((4,)).tolist() == targets.get_points((4,))[1:].tolist()
    moved = replace(targets, fields={"center": torch.tensor([[3.5, 2.5], [15.75, 0.0], [0.0, 11.0]])})
    assert moved.get_points((4,)).tolist() == [[[3.5, 2.5]], [[15.75, 0.0]], [[0.0, 11.0]]]
    assert moved.get_cells((4,)).tolist() == [[[3, 2]], [[15, 0]], [[0, 11]]]


@pytest.mark.parametrize("ignored", [None, [False, False, False], [True, False, True], [True, True, True]])
def test_all_of_the_objects_move_to_a_device(ignored):
    """Also a list of ignored regions that is empty."""
    targets = Targets.from_instances(images([3], ignored), 4, (12, 16))
    moved = move(targets, torch.device("meta"))
    parts = [moved] if ignored is None else [moved, moved.ignored]
    assert (moved.ignored is None) == (ignored is None)
    for part in parts:
        tensors = [part.boxes, part.classes, part.image_index, part.num_objects, *part.fields.values()]
        assert {str(tensor.device) for tensor in tensors} == {"meta"}
