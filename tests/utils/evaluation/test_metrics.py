import numpy as np
import pytest
from scipy import ndimage

from utils.evaluation.metrics import METRICS, _near_distances, binary_metrics, case_metrics, surface, surface_distances

RNG = np.random.default_rng(0)


def test_reference_numbers(numbers):
    ref = numbers("metrics")
    values = case_metrics(ref["pred"], ref["gt"], 2)
    for name in METRICS:
        assert values[name][0] == pytest.approx(float(ref[name]), abs=1e-8)
    spaced = case_metrics(ref["pred"], ref["gt"], 2, spacing=(1.5, 1.5, 5.0))
    for name in ("asd", "hd95"):
        assert spaced[name][0] == pytest.approx(float(ref[f"{name}_spacing_1p5_1p5_5"]), abs=1e-8)


@pytest.mark.parametrize("case", ["border", "components", "single_voxel", "anisotropic", "nested", "equal"])
def test_more_reference_numbers(numbers, case):
    ref = numbers("metrics_more")
    pred, label = ref[f"pred_{case}"], ref[f"gt_{case}"]
    values, spaced = case_metrics(pred, label, 2), case_metrics(pred, label, 2, spacing=ref["spacing"])
    for name in METRICS:
        assert values[name][0] == pytest.approx(float(ref[f"{name}_{case}"]), abs=1e-8)
    for name in ("asd", "hd95"):
        assert spaced[name][0] == pytest.approx(float(ref[f"{name}_spacing_{case}"]), abs=1e-8)


def blob(shape, seed, size=3.0):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), size)
    return noise > np.quantile(noise, 0.8)


def ball(shape, centre, radius):
    axes = np.ogrid[tuple(slice(length) for length in shape)]
    return sum((axis - middle) ** 2 for axis, middle in zip(axes, centre)) < radius**2


PAIRS = {
    "blobs": (blob((40, 50, 30), 0), blob((40, 50, 30), 1)),
    "near": (blob((40, 50, 30), 0), np.roll(blob((40, 50, 30), 0), (1, -2, 1), (0, 1, 2))),
    "scattered": (RNG.random((40, 40, 20)) < 0.002, blob((40, 40, 20), 2)),
    "salt": (RNG.random((30, 30, 20)) < 0.4, blob((30, 30, 20), 3)),
    "far apart": (np.indices((60, 60, 10)).sum(0) < 12, np.indices((60, 60, 10)).sum(0) > 110),
    "elsewhere": (ball((80, 70, 50), (16, 16, 16), 14), ball((80, 70, 50), (62, 52, 34), 14)),
    "elsewhere, spread": (np.roll(blob((60, 60, 40), 8, 6), 30, 0), blob((60, 60, 40), 8, 6)),
    "2-D": (blob((90, 70), 4), blob((90, 70), 5)),
    "2-D elsewhere": (ball((200, 160), (40, 40), 35), ball((200, 160), (150, 110), 30)),
    "one slice": (blob((1, 50, 50), 6), blob((1, 50, 50), 7)),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("spaced", [False, True])
def test_equals_medpy(pair, spaced):
    metric = pytest.importorskip("medpy.metric", reason="MedPy is the reference implementation")
    pred, label = PAIRS[pair]
    spacing = (5.0, 0.7, 1.3)[-pred.ndim :] if spaced else None
    values = case_metrics(pred.astype(np.uint8), label.astype(np.uint8), 2, spacing)
    expected = {
        "dice": metric.dc(pred, label),
        "jaccard": metric.jc(pred, label),
        "hd95": metric.hd95(pred, label, spacing),
        "asd": metric.asd(pred, label, spacing),
    }
    for name in METRICS:
        assert values[name][0] == pytest.approx(expected[name], abs=1e-9), name


@pytest.mark.parametrize("pair", PAIRS)
def test_hd95_max_is_the_larger_direction_s_percentile(pair):
    pred, label = PAIRS[pair]
    borders = [surface(mask) for mask in (pred, label)]
    directed = [
        np.percentile(ndimage.distance_transform_edt(~borders[1 - index])[borders[index]], 95) for index in (0, 1)
    ]
    masks = pred.astype(np.uint8), label.astype(np.uint8)
    values = case_metrics(*masks, 2, hd95="max")
    assert values["hd95"][0] == pytest.approx(max(directed), abs=1e-9)
    pooled = case_metrics(*masks, 2)
    assert values["hd95"][0] >= pooled["hd95"][0] and values["asd"] == pooled["asd"]


def test_the_definitions_of_hd95_differ_where_a_part_is_missed():
    """A far object without a prediction: 12 of the label's 128 surface voxels, but of both surfaces' 244."""
    pred, label = (np.zeros((100, 100), np.uint8) for _ in range(2))
    pred[:30, :30] = label[:30, :30] = 1
    label[90:94, 90:94] = 1
    far, pooled = (case_metrics(pred, label, 2, hd95=which)["hd95"][0] for which in ("max", "pooled"))
    assert far > 80 and pooled == 0


@pytest.mark.parametrize("pair", PAIRS)
def test_each_way_to_a_distance_equals_the_transform(pair):
    source, target = map(surface, PAIRS[pair])
    for scale in (None, np.array((4.0, 0.5, 1.0))[-source.ndim :]):
        expected = ndimage.distance_transform_edt(~target, sampling=scale)[source]
        np.testing.assert_allclose(surface_distances(source, target, scale), expected, atol=1e-9)


@pytest.mark.parametrize("pair, late", [("elsewhere", 4), ("2-D elsewhere", 8)])
def test_a_prediction_wholly_elsewhere_goes_to_the_tree_at_once(pair, late, monkeypatch):
    source, target = map(surface, PAIRS[pair])
    transform = ndimage.distance_transform_edt(~target)
    for distance in (0, late):  # the first and the last shell would find these
        source[tuple(axis[:2] for axis in np.nonzero(transform == distance))] = True
    points = np.flatnonzero(source)
    _, far = _near_distances(points, target, np.ones(source.ndim))
    assert list(np.setdiff1d(np.arange(len(points)), far)) == list(np.flatnonzero(transform[source] == 0))
    monkeypatch.setattr(ndimage, "distance_transform_edt", None)
    np.testing.assert_allclose(surface_distances(source, target), transform[source], atol=1e-9)


def test_classes_are_told_apart():
    label = np.zeros((6, 8, 8), np.uint8)
    label[1:3, 1:5, 1:5], label[3:5, 2:7, 2:7] = 1, 3
    pred = np.roll(label, 1, axis=1)
    values = case_metrics(pred, label, 4, metrics=("dice", "asd"))
    for index, cls in enumerate((1, 2, 3)):
        if cls == 2:
            continue
        expected = binary_metrics(pred == cls, label == cls)
        assert values["dice"][index] == pytest.approx(expected["dice"])
        assert values["asd"][index] == pytest.approx(expected["asd"])
    assert set(values) == {"dice", "asd"}


def test_empty_masks_never_score_the_best_distance():
    empty, full = np.zeros((4, 4, 4), np.uint8), np.ones((4, 4, 4), np.uint8)
    for pred, label, overlap in ((empty, empty, 1), (empty, full, 0), (full, empty, 0)):
        values = case_metrics(pred, label, 2)
        assert values["dice"][0] == values["jaccard"][0] == overlap
        assert np.isnan(values["hd95"][0]) and np.isnan(values["asd"][0])


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"prediction \(2, 2\) and label \(2, 3\) differ"):
        case_metrics(np.zeros((2, 2)), np.zeros((2, 3)), 2)
