import io

import numpy as np
import pytest
import torch
from scipy import ndimage

from dataloaders.datasets import Case
from dataloaders.registry import DATASETS
from networks import net_factory
from utils.evaluation import evaluate as evaluation
from utils.evaluation.evaluate import evaluate, validation_scores, with_progress
from utils.evaluation.inference import predict_slices


def test_predict_slices_is_zoom_argmax_zoom_back():
    torch.manual_seed(0)
    net = net_factory("unet", 1, 4).train()
    volume = np.random.default_rng(0).random((5, 40, 28)).astype(np.float32)
    label = predict_slices(net, volume, (32, 48), batch_size=2)
    assert net.training and label.dtype == np.uint8
    net.eval()
    for image, pred in zip(volume, label):
        zoomed = ndimage.zoom(image, (32 / 40, 48 / 28), order=0)
        with torch.no_grad():
            slow = net(torch.from_numpy(zoomed)[None, None])[0].argmax(1)[0].numpy().astype(np.uint8)
        assert np.array_equal(pred, ndimage.zoom(slow, (40 / 32, 28 / 48), order=0))


class TwoCases(list):
    info = DATASETS["ACDC"]


def test_scores_are_means_over_cases_then_classes_without_undefined_distances():
    label = np.zeros((1, 8, 8), np.uint8)
    label[0, :4, :4], label[0, 4:, 4:] = 1, 3
    half = label.copy()
    half[0, :2, :4] = 0  # class 1: Dice 2*8/(8+16), class 3 missing
    half[half == 3] = 0
    predictions = {"a": label, "b": half}
    cases = TwoCases([Case(name, np.full((1, 8, 8), index, np.float32), label) for index, name in enumerate("ab")])
    scores = validation_scores(evaluate(lambda image: predictions["ab"[int(image.max())]], cases), ("RV", "Myo", "LV"))
    assert scores["dice/RV"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["dice/Myo"] == 1  # empty in both: right
    assert scores["dice/LV"] == pytest.approx(0.5)
    assert scores["dice"] == pytest.approx((5 / 6 + 1 + 0.5) / 3)
    assert scores["asd/LV"] == 0 and np.isnan(scores["asd/Myo"])


class Screen(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_bar_that_is_cleared(monkeypatch):
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    assert list(with_progress([1, 2, 3], "validating")) == [1, 2, 3]
    assert "validating" in screen.getvalue() and screen.getvalue().rstrip(" ").endswith("\r")


@pytest.mark.parametrize("seconds, lines", [(25, [3, 6]), (1, []), (100, [1, 2, 3, 4, 5, 6])])
def test_without_a_terminal_slow_cases_give_a_line_a_minute(monkeypatch, capsys, seconds, lines):
    clock = iter(range(0, 10_000, seconds))
    monkeypatch.setattr(evaluation.time, "monotonic", lambda: next(clock))
    assert list(with_progress(range(7), "testing")) == list(range(7))
    wanted = [f"testing: {number} of 7 cases in {number * seconds} s" for number in lines]
    assert capsys.readouterr().out.splitlines() == wanted
