import csv

import numpy as np
import pytest

from dataloaders.datasets import Case
from utils.pictures import class_colour
from utils.reports.figures import draw_curves, draw_tiles, inline_svg, loss_terms, pick_cases, planes


def test_best_median_and_worst_are_distinct(tmp_path):
    def write(scores):
        with open(tmp_path / "per_case.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["case", "class", "dice"])
            writer.writerows([name, label, dice] for name, dice in scores.items() for label in ("RV", "LV"))
        return {title: name for title, (name, _) in pick_cases(tmp_path).items()}

    assert write({"a": 0.5, "b": 0.9, "c": 0.1}) == {"best": "b", "median": "a", "worst": "c"}
    assert write({"a": 0.5}) == {"best": "a"}
    assert write({"a": 0.5, "b": 0.6}) == {"best": "b", "worst": "a"}


def drawn_terms(rows):
    """title, {label: values}"""
    title, terms = loss_terms([{"iteration": number, **row} for number, row in enumerate(rows, start=1)])
    return title, {term.label: [value for _, value in term.points] for term in terms}


def test_terms_divided_by_themselves_are_drawn_undivided():
    """DuCiSC's terms are their weights, or 0 where they are left out; float32 division is not exact."""
    rows = [
        {"loss/total": 1.0, "loss/supervised": 1.0, "monitor/supervised": 0.9, "monitor/fused": 0.5},
        {"loss/total": 1.3000001, "loss/supervised": 1.0, "loss/fused": 0.30000001, "monitor/supervised": 0.6},
        {"loss/total": 1.0, "loss/supervised": 1.0, "loss/fused": 0.0, "monitor/supervised": 0.4},
        {"loss/total": 1.3, "loss/supervised": 1.0, "loss/fused": 0.3, "monitor/supervised": 0.2},
    ]
    for row, fused in zip(rows, (0.5, 0.4, float("nan"), 0.2)):
        row.update({"monitor/fused": fused, "monitor/weighted_sum": row["monitor/supervised"] + 0.1})
    title, terms = drawn_terms(rows)
    assert "before normalisation" in title
    assert terms["supervised"] == [0.9, 0.6, 0.4, 0.2] and terms["fused"][:2] == [0.5, 0.4]
    assert terms["weighted sum"] == pytest.approx([1.0, 0.7, 0.5, 0.3]) and "total" not in terms


def test_a_chart_without_any_number_is_not_drawn():
    """As of training labels that a custom dataset's unlabelled images do not have."""
    rows = [
        {"iteration": 1, "loss/total": 0.9, "monitor/dice_student": float("nan"), "val/dice": 0.5, "val/dice/RV": 0.5}
    ]
    assert list(draw_curves(rows)) == ["loss", "validation_dice"]
    rows.append({**rows[0], "iteration": 2, "monitor/dice_student": 0.4})
    assert list(draw_curves(rows)) == ["loss", "training_dice", "validation_dice"]


def test_of_a_single_divided_term_the_total_is_that_term():
    rows = [{"loss/total": 1.0, "loss/supervised": 1.0, "monitor/supervised": value} for value in (0.9, 0.5)]
    assert drawn_terms(rows)[1]["weighted sum"] == [0.9, 0.5]


def test_other_terms_are_drawn_as_they_are_summed():
    """One with weight 0, or recorded once, is not taken for a divided one."""
    rows = [
        {"loss/total": value, "loss/supervised": value, "loss/contrast": 0.0, "monitor/contrast": 0.7}
        for value in (0.9, 0.5)
    ]
    title, terms = drawn_terms(rows)
    assert "as summed" in title and terms["contrast"] == [0, 0] and terms["total"] == [0.9, 0.5]
    assert drawn_terms([{"loss/total": 0.9, "loss/contrast": 0.2, "monitor/contrast": 2.0}])[1]["contrast"] == [0.2]


def test_curves_say_what_is_seen_in_the_colours_of_the_classes():
    rows = [{"iteration": 5, "loss/total": 2.0}, {"iteration": 10, "loss/total": 1.0, "val/dice": 0.4}]
    rows[1].update({"val/dice/RV": 0.3, "val/dice/LV": 0.5})
    curves = draw_curves(rows)
    assert set(curves) == {"loss", "validation_dice"}  # nothing was recorded for the third
    assert "total from 2 to 1" in curves["loss"][0] and "iteration 10" in curves["loss"][0]
    lines = curves["validation_dice"][1].axes[0].lines
    assert [line.get_color() for line in lines] == [class_colour(1), class_colour(2), "black"]


def test_svg_has_its_title_escaped_and_follows_the_page():
    text, figure = draw_curves([{"iteration": 1, "loss/total": 2.0, "loss/<b>&": 1.0}])["loss"]
    svg = inline_svg(figure, text)
    assert "<title>" in svg and 'role="img"' in svg and "&lt;b&gt;&amp;" in svg and "<b>" not in svg
    assert "#000000" not in svg and "currentColor" in svg


@pytest.mark.parametrize(
    "dims, names", [(2, ["slice 2 of 8 along Z"]), (3, [f"slice 2 of 8 along {x}" for x in "XYZ"])]
)
def test_slices_are_counted_from_one_and_windowed_alike(dims, names):
    """A bright voxel does not make the rest black, whatever the dimension."""
    image = np.random.default_rng(0).uniform(0, 0.1, (8, 8, 8)).astype(np.float32)
    label = np.zeros((8, 8, 8), np.uint8)
    image[3, 3, 3], label[1, 1, 1] = 1, 2
    found = planes(Case("a", image, label), label, dims)
    assert [name for name, *_ in found] == names
    assert all(truth[1, 1] == 2 and picture.mean() > 0.2 for _, picture, truth, _ in found)


def test_tiles_tell_what_they_show():
    truth, pred = np.array([[1, 1, 0, 2]]), np.array([[1, 0, 1, 1]])
    tiles = draw_tiles(np.zeros((1, 4)), truth, pred, ("RV", "LV"))
    assert [text for text, _ in tiles.values()] == [
        "image",
        "ground truth: RV, LV",
        "prediction: RV",
        "errors: 1 pixels missed, 1 added, 1 of a wrong class",
    ]
    assert all(picture.shape == (3, 64, 256) for _, picture in tiles.values())
