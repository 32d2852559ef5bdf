"""New scans: the label map is where the scan is, and equals the test's where there is one."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dataloaders.files import InputError
from dataloaders.geometry import Geometry
from dataloaders.registry import DATASETS, PREPARATIONS
from dataloaders.scans.files import read_scan, write_label, write_scan
from dataloaders.scans.preparation import prepare
from dataloaders.scans.scan import Scan, reorient
from networks import net_factory
from utils.evaluation.inference import make_predictor
from utils.prediction.predict import Model, axes_to_flip, load_model, predict_scan, seek

sitk = pytest.importorskip("SimpleITK", reason="scans are read and resampled by SimpleITK")
pytest.importorskip("nibabel", reason="NIfTI is read and written by nibabel")

TURNED = (0.8, 0.6, 0.0, 0.6, -0.8, 0.0, 0.0, 0.0, -1.0)  # by 37 degrees, its y and z axes flipped
CUBE = (24, 24, 24)


class Bright(torch.nn.Module):
    """Its classes are the values of the prepared image nearest to `levels`."""

    def __init__(self, *levels):
        super().__init__()
        self.levels = torch.nn.Parameter(torch.tensor(levels))

    def forward(self, x):
        levels = self.levels.reshape(1, -1, *[1] * (x.ndim - 2))
        return -20 * (x - levels) ** 2, None


def model(name, net, patch, **changes):
    info = replace(DATASETS[name], patch_size=patch)
    stride = (8, 8) if info.dims == 3 else None
    return Model(net, info, replace(PREPARATIONS[name], **changes), stride, batch_size=4)


def body(points):
    """The class at places in mm, (..., 3) -> uint8: an egg with a yolk that is not at its centre."""
    x, y, z = np.moveaxis(points - np.array([14.0, -9.0, 5.0]), -1, 0)
    egg = (x / 13) ** 2 + (y / 9) ** 2 + (z / 11) ** 2 <= 1
    yolk = ((x - 4) / 5) ** 2 + ((y + 2) / 4) ** 2 + (z / 5) ** 2 <= 1
    return egg.astype(np.uint8) + yolk


def body_scan(direction, spacing, size, path=Path("body.nii.gz")):
    """The body's label map on a grid about it, each voxel's place asked of SimpleITK."""
    image = sitk.Image(size, sitk.sitkUInt8)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    middle = image.TransformContinuousIndexToPhysicalPoint([(count - 1) / 2 for count in size])
    image.SetOrigin((np.array([14.0, -9.0, 5.0]) - middle).tolist())
    indices = np.stack(np.meshgrid(*map(range, size), indexing="ij"), axis=-1).reshape(-1, 3)
    points = np.array([image.TransformIndexToPhysicalPoint(index) for index in indices.tolist()])
    label = body(points).reshape(size).transpose(2, 1, 0)
    return Scan(label, Geometry(size, spacing, image.GetOrigin(), direction), path)


def dice(a, b):
    return 2 * np.sum((a > 0) & (a == b)) / (np.sum(a > 0) + np.sum(b > 0))


CASES = {
    "ACDC": model("ACDC", Bright(0.0, 0.5, 1.0), (30, 40)),
    "turned and resampled": model(
        "Pancreas", Bright(0.0, 0.5, 1.0), CUBE, window=(0.0, 600.0), margin=None, least=None, z_score=None
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_turned_scan_gets_its_label_map_where_the_body_is(tmp_path, case):
    truth = body_scan(TURNED, (0.9, 1.3, 2.1), (40, 30, 18))
    path = tmp_path / "scan.nii.gz"
    write_scan(path, truth.array.astype(np.int16) * 300, truth.geometry)
    scan = read_scan(path)
    in_array = dice(predict_scan(CASES[case], scan).label, truth.array)
    assert in_array > 0.97 if case != "ACDC" else in_array == 1

    write_label(tmp_path / "label.nii.gz", predict_scan(CASES[case], scan).label, scan.geometry, scan.header)
    written, source = (sitk.ReadImage(str(tmp_path / name)) for name in ("label.nii.gz", "scan.nii.gz"))
    for key in ("Size", "Spacing", "Origin", "Direction"):
        assert getattr(written, f"Get{key}")() == getattr(source, f"Get{key}")()
    points = np.random.default_rng(0).uniform((2, -17, -5), (26, -1, 15), (20000, 3))
    found, wanted = (
        np.array([image[image.TransformPhysicalPointToIndex(point)] for point in points.tolist()])
        for image in (written, source // 300)
    )
    assert dice(found, wanted) > 0.99 * in_array
    assert dice(wanted, body(points)) > 0.85  # the grid itself is that coarse


def test_scans_turned_in_the_file_give_one_label_map():
    """Pancreas turns scans to DICOM's axes: how a converter stored them does not matter."""
    truth = body_scan((1.0, 0, 0, 0, 1, 0, 0, 0, 1), (1.5, 1.5, 2.0), (26, 24, 20))
    scan = Scan((truth.array * 300.0).astype(np.float32), truth.geometry, truth.path)
    one = predict_scan(CASES["turned and resampled"], scan).label
    other = predict_scan(CASES["turned and resampled"], reorient(scan, "PSR"))
    back = reorient(Scan(other.label, reorient(scan, "PSR").geometry, scan.path), "LPS")
    assert np.array_equal(back.array, one) and set(np.unique(one)) == {0, 1, 2}


@pytest.mark.parametrize(
    "own, training, axes",
    [("LPS", "LPS", ""), ("LAS", "LPS", "y"), ("RAI", "LPS", "xyz"), ("PLS", "LPS", ""), ("LPS", None, "")],
)
def test_axes_that_run_the_other_way(own, training, axes):
    """One with permuted axes is left alone: the right orientation of its slices is not known."""
    assert axes_to_flip(own, training) == axes


def test_probabilities_belong_to_the_label_map_and_sum_to_one():
    truth = body_scan(TURNED, (0.9, 1.3, 2.1), (40, 30, 18))
    scan = Scan(truth.array.astype(np.int16) * 300, truth.geometry, truth.path)
    for case in CASES.values():
        label, scores = predict_scan(case, scan, with_scores=True)
        assert scores.dtype == np.float32 and scores.shape == (3, *label.shape)
        assert np.allclose(scores.sum(axis=0), 1, atol=1e-6) and scores.min() >= -1e-6
        assert np.array_equal(scores.argmax(axis=0), label)
        assert predict_scan(case, scan).scores is None


ATRIUM = model("LA", Bright(0.0, 3.0), CUBE, least=(20, 20), margin=(2, 7))


def atrium(extra=()):
    label = np.zeros((20, 60, 50), np.uint8)  # Z, Y, X
    label[5:15, 20:32, 10:18] = 1
    image = label.copy()
    for place in extra:
        image[place] = 1
    geometry = Geometry((50, 60, 20), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1, 0, 0, 0, 1))
    return (Scan(array, geometry, Path("atrium.nrrd")) for array in ((image * 100).astype(np.int16), label))


def test_the_first_pass_finds_the_crop_of_training():
    """x: 8 wide, 20 at least, 4 more a side, which the scan cuts at 0; y: 12 wide."""
    scan, label = atrium()
    found = seek(ATRIUM, scan)
    assert found.crop == ((0, 28), (12, 40), (0, 20))
    as_in_training = prepare(scan, ATRIUM.preparation, label, [(4, 4)] * 2)
    assert found.crop == as_in_training.crop and np.array_equal(found.image, as_in_training.image)
    label_map = predict_scan(ATRIUM, scan).label
    inside = make_predictor(ATRIUM.net, ATRIUM.info, CUBE, ATRIUM.stride)(found.image)
    assert np.array_equal(label_map[:, 12:40, :28], inside.transpose(2, 1, 0)) and np.array_equal(
        label_map, label.array
    )


def test_the_largest_object_is_taken_and_one_pass_takes_all():
    far = (slice(8, 11), slice(50, 54), slice(40, 44))
    scan, label = atrium([far])
    assert np.array_equal(predict_scan(ATRIUM, scan).label, label.array)
    everything = predict_scan(replace(ATRIUM, one_pass=True), scan).label
    assert everything[far].all() and everything.sum() == label.array.sum() + 48


def test_nothing_found_is_an_empty_label_map():
    scan, _ = atrium()
    label, scores = predict_scan(replace(ATRIUM, net=Bright(0.0, 99.0)), scan, with_scores=True)
    assert not label.any() and scores[0].all() and not scores[1].any()


def stated(info, preparation=None, **more):
    dataset = {"name": info.name, "dims": info.dims, "classes": list(info.classes), "patch_size": [16] * info.dims}
    return {**dataset, "stride": [8, 8], "preparation": preparation, **more}


def test_an_own_dataset_needs_no_more_than_its_weights(tmp_path, fill):
    own = replace(PREPARATIONS["Pancreas"], name="Mine", least=None, margin=None, spacing=2.0)
    info = replace(DATASETS["Pancreas"], name="Mine", classes=("a", "b"))
    state = fill(net_factory("vnet", 1, 3, 3), 1).state_dict()
    path = tmp_path / "best.pth"
    torch.save({"net": state, "dataset": stated(info, asdict(own))}, path)
    loaded = load_model(path, 3, torch.device("cpu"), batch_size=2)
    assert loaded.preparation == own and loaded.stride == (8, 8) and loaded.info.classes == ("a", "b")
    torch.save({"net": state, "dataset": stated(info)}, path)
    with pytest.raises(InputError, match="does not record how the images of Mine were prepared"):
        load_model(path, 3, torch.device("cpu"), batch_size=2)
    torch.save({"net": state, "dataset": stated(info, {"name": "Mine", "unknown": 1})}, path)
    with pytest.raises(InputError, match="best.pth: records an unknown preparation"):
        load_model(path, 3, torch.device("cpu"), batch_size=2)
    torch.save({"net": state, "dataset": stated(info, asdict(own), stride=None)}, path)
    with pytest.raises(InputError, match="give --stride"):
        load_model(path, 3, torch.device("cpu"), batch_size=2)
    with pytest.raises(InputError, match="trained with the patch size .16, 16, 16.; leave --patch_size out"):
        load_model(path, 3, torch.device("cpu"), batch_size=2, patch_size=(32, 32, 32))
    with pytest.raises(InputError, match="Mine is a 3-D dataset; use test_3d.py"):
        load_model(path, 2, torch.device("cpu"), batch_size=2)
