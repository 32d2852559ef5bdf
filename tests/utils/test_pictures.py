import sys

import numpy as np
import pytest
import torch

from utils.pictures import ERRORS, PALETTE, can_draw, class_colour, error_map, make_panel, overlay, window


def rgb(colour):
    return [int(colour[start : start + 2], 16) for start in (1, 3, 5)]


def test_every_class_has_a_colour_of_its_own():
    colours = [class_colour(label) for label in range(1, 25)]
    assert len({*colours, *ERRORS.values(), "#000000"}) == 24 + len(ERRORS) + 1
    assert colours[: len(PALETTE)] == list(PALETTE)


@pytest.mark.parametrize("label", [1, 3, 9, 17])
def test_overlay_colours_labels_and_leaves_background(label):
    picture = overlay(np.array([[0.5, 0.5]]), np.array([[0, label]]), opacity=1.0)
    assert picture[:, 0, 0].tolist() == [128] * 3 and picture[:, 0, 1].tolist() == rgb(class_colour(label))
    assert overlay(np.zeros((2, 2)), np.zeros((2, 2), int)).tolist() == torch.zeros(3, 2, 2).tolist()


def test_errors_have_their_colours():
    truth, pred = np.array([[1, 1, 0, 2]]), np.array([[1, 0, 1, 1]])
    picture = error_map(np.full((1, 4), 0.5), truth, pred)
    assert picture[:, 0, 0].tolist() == [76] * 3  # right: only darkened
    for column, kind in enumerate(("missed", "added", "wrong class"), start=1):
        assert picture[:, 0, column].tolist() == rgb(ERRORS[kind])


def test_window_is_of_percentiles_and_never_one_level():
    image = np.concatenate([np.linspace(0, 0.1, 1000), [1.0]])
    assert window(image)[500] == pytest.approx(0.5, abs=0.02)
    sparse = np.zeros(1000)
    sparse[:5] = np.linspace(1, 3, 5)
    assert window(sparse)[[0, 2, 4]].tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert window(np.full(4, 7.0)).tolist() == [0] * 4


@pytest.mark.parametrize("size", [(6, 5), (6, 5, 4)])
def test_a_panel_has_a_row_per_image_and_a_column_per_map(size):
    batch = {"image_w": torch.rand(6, 1, *size), "label": torch.ones(6, *size, dtype=torch.uint8)}
    labels = {"student": torch.full((3, *size), 2), "teacher": torch.full((3, *size), 3)}
    panel = make_panel(batch, labels, rows=2)
    assert panel.dtype == torch.uint8 and panel.shape == (3, 2 * 7 + 1, 4 * 6 + 1)
    means = [panel[:, 1:7, 1 + 6 * column : 6 + 6 * column].float().mean(dim=(1, 2)) for column in range(4)]
    assert means[0].std() < 1  # grey
    for mean, label in zip(means[1:], (2, 3, 1)):
        assert (mean - 0.6 * torch.tensor(rgb(class_colour(label)))).abs().max() < 0.4 * 255
        assert mean.argmax() == int(np.argmax(rgb(class_colour(label))))


def test_without_torchvision_nothing_is_drawn(monkeypatch):
    assert can_draw()
    for name in ("torchvision", "torchvision.utils"):
        monkeypatch.setitem(sys.modules, name, None)
    assert not can_draw()
