"""Association against a plain loop, and the rules for new, lost and weak objects by hand."""

from __future__ import annotations

import pytest
import torch
from detectron2.structures import Boxes, Instances

from centernet_d2.tracking.tracker import Tracker, associate_greedily


def objects(centers, size=20.0, scores=None, classes=None):
    centers = torch.tensor(centers, dtype=torch.float32).reshape(-1, 2)
    predictions = Instances((100, 200))
    predictions.pred_boxes = Boxes(torch.cat([centers - size / 2, centers + size / 2], dim=1))
    predictions.scores = torch.tensor(scores) if scores is not None else torch.linspace(0.9, 0.8, len(centers))
    predictions.pred_classes = (
        torch.tensor(classes) if classes is not None else torch.zeros(len(centers), dtype=torch.int64)
    )
    return predictions


def ids(tracker, centers, before=None, **kwargs):
    predictions = objects(centers, **kwargs)
    where = predictions.pred_boxes.get_centers() if before is None else torch.tensor(before, dtype=torch.float32)
    return tracker.update(predictions, where).pred_track_ids.tolist()


def test_greedy_association_is_a_loop():
    """Row after row the nearest free column, against sets and sorting."""
    generator = torch.Generator().manual_seed(0)
    for rows, columns in [(0, 3), (3, 0), (1, 1), (5, 3), (3, 5), (20, 20)]:
        distance = torch.rand(rows, columns, generator=generator)
        distance[torch.rand(rows, columns, generator=generator) < 0.3] = torch.inf
        free, expected = set(range(columns)), []
        for row in distance.tolist():
            possible = sorted((row[column], column) for column in free if row[column] < float("inf"))
            expected.append(possible[0][1] if possible else -1)
            free.discard(expected[-1])
        given = distance.clone()
        assert associate_greedily(distance).tolist() == expected
        assert torch.equal(distance, given)


def test_more_tracks_than_32_bits_count():
    tracker = Tracker()
    tracker._count = 2**31 - 2
    assert ids(tracker, [[20, 20], [60, 60], [90, 20]]) == [2**31 - 1, 2**31, 2**31 + 1]
    assert ids(tracker, [[20, 20], [60, 60], [90, 20], [150, 80]]) == [2**31 - 1, 2**31, 2**31 + 1, 2**31 + 2]


def test_objects_that_cross_keep_their_track_ids_by_their_displacement():
    """Two meet and pass: by place alone they would be taken for each other."""
    by_displacement, by_place = Tracker(), Tracker()
    frames = [([[40, 50], [60, 50]]), ([[46, 50], [54, 50]]), ([[54, 50], [46, 50]]), ([[60, 50], [40, 50]])]
    for number, centers in enumerate(frames):
        before = frames[max(number - 1, 0)]
        assert ids(by_displacement, centers, before) == [1, 2]
        last = ids(by_place, centers)
    assert last == [2, 1]


def test_only_near_objects_of_the_class_go_on():
    """The squared distance may be the smaller box's area at most."""
    for shift, area_side, expected in [(19.9, 20, 1), (20.1, 20, 2), (9.9, 10, 1), (10.1, 10, 2)]:
        tracker = Tracker()
        assert ids(tracker, [[50, 50]]) == [1]
        assert ids(tracker, [[50, 50]], [[50 + shift, 50]], size=float(area_side)) == [expected]
    tracker = Tracker()
    assert ids(tracker, [[50, 50]]) == [1]
    assert ids(tracker, [[50, 50]], classes=[1]) == [2]


def test_the_highest_scoring_object_chooses_first():
    """Also where it comes later in the list."""
    tracker = Tracker()
    assert ids(tracker, [[50, 50]]) == [1]
    predictions = tracker.update(objects([[50, 50], [52, 50]], scores=[0.5, 0.9]), torch.tensor([[50.0, 50], [52, 50]]))
    assert predictions.scores.tolist() == pytest.approx([0.9, 0.5])
    assert predictions.pred_track_ids.tolist() == [1, 2]


def test_scores_decide_who_is_kept_who_is_new_and_who_is_shown():
    tracker = Tracker(score_threshold=0.2, new_threshold=0.5, heatmap_threshold=0.6)
    assert ids(tracker, [[20, 20], [60, 60], [90, 90]], scores=[0.9, 0.4, 0.2]) == [1]
    assert ids(tracker, [[20, 20], [60, 60]], scores=[0.3, 0.55]) == [2, 1]
    assert tracker.select_visible_boxes().tolist() == []
    assert ids(tracker, [[20, 20], [60, 60]], scores=[0.1, 0.7]) == [2]
    assert tracker.select_visible_boxes().tolist() == [[50, 50, 70, 70]]


@pytest.mark.parametrize("max_age", [0, 1, 3])
def test_a_lost_track_waits_where_it_was(max_age):
    """So many frames, in which the network is not shown it; track ids are never used again."""
    for gap in range(5):
        tracker = Tracker(max_age=max_age)
        assert ids(tracker, [[20, 20], [60, 60]]) == [1, 2]
        for _ in range(gap):
            assert ids(tracker, [[60, 60]]) == [2]
            assert tracker.select_visible_boxes().tolist() == [[50, 50, 70, 70]]
        assert ids(tracker, [[20, 20], [60, 60]]) == [1 if gap <= max_age else 3, 2]
    tracker.reset()
    assert ids(tracker, [[20, 20]]) == [1]


def test_frames_without_objects():
    tracker = Tracker()
    assert ids(tracker, []) == []
    assert tracker.select_visible_boxes().shape == (0, 4)
    assert ids(tracker, [[20, 20]]) == [1]
    assert ids(tracker, []) == []
    assert ids(tracker, [[20, 20]]) == [2]


def test_equals_a_plain_loop_over_frames():
    """Random objects of two classes, with ages; state is kept in a list of dicts as anyone would write it."""
    generator = torch.Generator().manual_seed(1)
    tracker, tracks, count = Tracker(0.3, 0.4, 0.3, max_age=2), [], 0
    for _ in range(30):
        number = int(torch.randint(0, 12, (1,), generator=generator))
        centers = torch.rand(number, 2, generator=generator) * 60
        before = centers + torch.randn(number, 2, generator=generator) * 4
        scores = torch.rand(number, generator=generator)
        classes = torch.randint(0, 2, (number,), generator=generator)
        predictions = objects(centers.tolist(), scores=scores.tolist(), classes=classes.tolist())
        result = tracker.update(predictions, before)
        expected, now = [], []
        for i in sorted(range(number), key=lambda i: -float(scores[i])):
            if scores[i] <= 0.3:
                continue
            options = [
                (float((before[i] - track["center"]).square().sum()), place)
                for place, track in enumerate(tracks)
                if track["class"] == classes[i]
            ]
            options = [option for option in options if option[0] <= 400]
            if options:
                track_id = tracks.pop(min(options)[1])["id"]
            elif scores[i] > 0.4:
                count += 1
                track_id = count
            else:
                continue
            expected.append(track_id)
            now.append({"center": centers[i], "class": classes[i], "id": track_id, "age": 0})
        tracks = now + [{**track, "age": track["age"] + 1} for track in tracks if track["age"] < 2]
        assert result.pred_track_ids.tolist() == expected
    assert count > 30
