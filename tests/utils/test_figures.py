import csv

import numpy as np

from utils.figures import ERRORS, error_map, pick_cases
from utils.panels import PALETTE, overlay


def test_errors_have_their_colours():
    truth = np.array([[1, 1, 0, 2]])
    pred = np.array([[1, 0, 1, 1]])
    picture = error_map(np.full((1, 4), 0.5), truth, pred)
    assert np.allclose(picture[0, 0], 0.3)  # right: only darkened
    for column, kind in ((1, "missed"), (2, "added"), (3, "wrong class")):
        assert np.allclose(picture[0, column], ERRORS[kind])


def test_overlay_colours_labels_and_leaves_background():
    picture = overlay(np.array([[0.5, 0.5]]), np.array([[0, 3]]), opacity=1.0)
    assert np.allclose(picture[0, 0], 0.5) and np.allclose(picture[0, 1], PALETTE[3])
    assert len({tuple(colour) for colour in PALETTE}) == 9


def test_best_median_and_worst_are_distinct(tmp_path):
    def write(scores):
        with open(tmp_path / "per_case.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["case", "class", "dice"])
            writer.writerows([name, label, dice] for name, dice in scores.items() for label in ("RV", "LV"))
        return {title: name for title, (name, _) in pick_cases(tmp_path).items()}

    assert write({"a": 0.5, "b": 0.9, "c": 0.1}) == {"best": "b", "median": "a", "worst": "c"}
    assert write({"a": 0.5}) == {"best": "a"}
    assert write({"a": 0.5, "b": 0.6}) == {"best": "b", "median": "a"}
