import numpy as np
import pytest
import torch

from dataloaders.files import InputError
from dataloaders.registry import DATASETS
from networks import net_factory
from utils.evaluation.inference import (
    finest_logits,
    largest_objects,
    make_predictor,
    predict_slices,
    predict_volume,
    slices_and_scores,
    window_scores,
    window_starts,
)


class Toy(torch.nn.Module):
    """The reference's toy models: logit_1 = 2x - 0.3 + a ramp over the patch (+ its mean), logit_0 = -logit_1."""

    def __init__(self, factors, with_mean):
        super().__init__()
        self.factors, self.with_mean = factors, with_mean
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.windows = []

    def forward(self, x):
        self.windows += [float(window.abs().sum()) for window in x]
        logit = 2 * x - 0.3
        for axis, factor in enumerate(self.factors):
            shape = [1] * 5
            shape[axis + 2] = -1
            logit = logit + factor * torch.linspace(-1, 1, x.shape[axis + 2], dtype=x.dtype).reshape(shape)
        if self.with_mean:
            logit = logit + x.mean(dim=(1, 2, 3, 4), keepdim=True)
        return torch.cat([-logit, logit], dim=1), None


def check(ref, suffix, net, image, dtype, tolerance, batch_size):
    patch = ref[f"patch_size{suffix}"].tolist()
    stride = int(ref[f"stride_xy{suffix}"]), int(ref[f"stride_z{suffix}"])
    scores = window_scores(net, image.astype(dtype), patch, stride, batch_size)[1]
    np.testing.assert_allclose(scores.numpy(), ref[f"foreground_score{suffix}"], rtol=0, atol=tolerance)
    label = predict_volume(net, image.astype(dtype), patch, stride, batch_size)
    assert label.dtype == np.uint8 and np.array_equal(label, ref[f"label_map{suffix}"])
    assert all(total > 0 for total in net.windows)  # no window of padding alone


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_reference_averages(numbers, batch_size):
    ref = numbers("sliding_window")
    check(ref, "", Toy((0.5,), False), ref["image"], np.float32, 1e-5, batch_size)


@pytest.mark.parametrize("case", ["longer", "shorter"])
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-8), (np.float32, 1e-6)])
def test_reference_averages_of_longer_and_shorter_volumes(numbers, case, dtype, tolerance):
    ref = numbers("sliding_window_more")
    net = Toy((0.5, -0.4, 0.3), True).to(torch.float64 if dtype == np.float64 else torch.float32)
    check(ref, f"_{case}", net, ref[f"image_{case}"], dtype, tolerance, 5)


def test_no_window_is_computed_twice_and_the_axis_is_covered():
    for size, patch, stride in (
        (112, 112, 18),
        (180, 112, 18),
        (130, 112, 18),
        (129, 112, 18),
        (88, 80, 4),
        (17, 16, 16),
    ):
        starts = window_starts(size, patch, stride)
        assert starts == sorted(set(starts)) and starts[0] == 0 and starts[-1] == size - patch
        assert all(b - a <= stride for a, b in zip(starts, starts[1:]))
        assert starts == [min(i * stride, size - patch) for i in range(int(np.ceil((size - patch) / stride)) + 1)]


@pytest.mark.parametrize("stride", [(17, 4), (4, 25), (18, 80)])
def test_windows_that_leave_gaps_are_refused(stride):
    make_predictor(None, DATASETS["LA"], (16, 32, 24), (16, 24))
    with pytest.raises(InputError, match=f"--stride {stride[0]} {stride[1]}: .* gaps; give at most 16 24"):
        make_predictor(None, DATASETS["LA"], (16, 32, 24), stride)


@pytest.mark.parametrize("kind", [list, tuple])
def test_the_last_of_several_scales_is_the_output_whatever_holds_them(kind):
    logits = torch.rand(1, 2, 4, 4)
    assert finest_logits(lambda image: (kind([logits[..., ::2, ::2], logits]), None), logits) is logits
    assert finest_logits(lambda image: (logits, None), logits) is logits


def test_more_classes_by_arg_max():
    class Three(torch.nn.Module):
        weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return torch.cat([0.5 - x, x, 2 * x - 0.6], dim=1), None

    net = Three()
    net.register_parameter("w", torch.nn.Parameter(torch.zeros(1)))
    image = np.linspace(0, 1, 16 * 16 * 20, dtype=np.float32).reshape(16, 16, 20)
    label = predict_volume(net, image, (16, 16, 16), (16, 16))
    expected = np.stack([0.5 - image, image, 2 * image - 0.6]).argmax(axis=0)
    assert (label != expected).sum() <= 2 and set(np.unique(label)) == {0, 1, 2}


@pytest.mark.parametrize("shape", [(5, 32, 32), (3, 61, 40)])  # 61 rows from 32: the zoom leaves the last empty
def test_slice_scores_are_those_behind_the_label_map(fill, shape):
    net = fill(net_factory("unet", 1, 4), 3).eval()
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    own, scores = slices_and_scores(net, image, (32, 32), batch_size=2)
    label = predict_slices(net, image, (32, 32))
    assert np.array_equal(own, label)
    assert scores.shape == (4, *shape) and torch.allclose(scores.sum(dim=0), torch.ones(shape), atol=1e-6)
    assert np.array_equal(scores.argmax(dim=0).numpy(), label) and len(np.unique(label)) == 4


def test_largest_objects():
    label = np.zeros((6, 6, 6), np.uint8)
    label[0, 0, 0] = label[1, 1, 1] = 1  # connected by a corner
    label[4, 4, 4] = 1
    label[0, 5, 0:2] = 2
    kept = largest_objects(label, 3)
    assert kept[0, 0, 0] == kept[1, 1, 1] == 1 and kept[4, 4, 4] == 0 and (kept == 2).sum() == 2
    assert np.array_equal(largest_objects(kept, 3), kept)
