import h5py
import numpy as np
import pytest

from dataloaders.files import InputError, write_h5
from dataloaders.geometry import Geometry
from dataloaders.registry import PREPARATIONS
from dataloaders.scans.files import read_scan
from dataloaders.scans.preparation import attributes, prepare
from dataloaders.scans.scan import Scan
from utils.reports.testing import write_nifti

pytest.importorskip("nibabel", reason="NIfTI is read and written by nibabel")


def write(path, array, **facts):
    write_h5(path, array.astype(np.float32), None, facts)
    return path


@pytest.mark.parametrize("dims, order", [(2, (0, 1, 2)), (3, (2, 1, 0))])
@pytest.mark.parametrize("stated", [None, (3.0, 1.5, 2.0)])
def test_without_a_geometry_voxels_have_the_stated_size_or_one_millimetre(tmp_path, dims, order, stated):
    """Arrays are (Z, Y, X) in 2-D datasets, (X, Y, Z) in 3-D ones; spacing is in their order, a scan's is x, y, z."""
    pred = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)
    write_nifti(
        tmp_path / "a.nii.gz", pred, write(tmp_path / "a.h5", pred, **({"spacing": stated} if stated else {})), dims
    )
    scan = read_scan(tmp_path / "a.nii.gz")
    assert scan.array.dtype == np.uint8 and np.array_equal(scan.array, pred.transpose(order))
    expected = np.array(stated or (1, 1, 1))[::-1] if dims == 2 else stated or (1, 1, 1)
    assert scan.geometry.spacing == pytest.approx(tuple(expected)) and scan.geometry.origin == (0, 0, 0)


@pytest.mark.parametrize("name", ["ACDC", "Synapse", "LA", "Pancreas"])
def test_with_a_geometry_label_maps_lie_on_their_scans(tmp_path, name):
    """A ball at an odd place, prepared as each dataset is (turned, resampled, cropped) and predicted perfectly."""
    grid = np.meshgrid(*(np.arange(n) for n in (40, 130, 140)), indexing="ij")
    truth = (((grid[0] - 17) / 9) ** 2 + ((grid[1] - 70) / 30) ** 2 + ((grid[2] - 52) / 25) ** 2 < 1).astype(np.uint8)
    turned = tuple(np.float64([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]).flat)
    geometry = Geometry((140, 130, 40), (0.9, 0.9, 1.4), (10.0, -20.0, 5.0), turned)
    image = Scan(truth * 100.0 + np.random.default_rng(0).random(truth.shape), geometry, tmp_path)
    preparation = PREPARATIONS[name]
    values = {new: old for old, new in preparation.label_values if new}
    margin = None if preparation.margin is None else [(10, 10)] * 2
    prepared = prepare(image, preparation, Scan(truth * np.uint8(values[1]), geometry, tmp_path), margin)
    source = write(tmp_path / "a.h5", prepared.image, **attributes(prepared, preparation))
    write_nifti(tmp_path / "a.nii.gz", prepared.label, source, 2)
    written = read_scan(tmp_path / "a.nii.gz")
    assert written.geometry.size == geometry.size and written.geometry.distance(geometry) < 1e-3
    equal = (written.array == truth).mean()
    assert equal == 1 if preparation.spacing is None else equal > 0.99


def test_a_geometry_of_another_array_is_refused(tmp_path):
    truth = np.zeros((4, 5, 6), np.uint8)
    geometry = Geometry((6, 5, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), tuple(np.eye(3).flat))
    prepared = prepare(Scan(truth + 0.0 + np.arange(6), geometry, tmp_path), PREPARATIONS["ACDC"])
    facts = attributes(prepared, PREPARATIONS["ACDC"])
    with h5py.File(write(tmp_path / "a.h5", prepared.image, **facts), "r+") as file:
        file.attrs["crop"] = np.array([(0, 2), (0, 5), (0, 6)])
    with pytest.raises(InputError, match="a.h5: its recorded geometry is not that of its image"):
        write_nifti(tmp_path / "a.nii.gz", truth, tmp_path / "a.h5", 2)
    assert not (tmp_path / "a.nii.gz").exists()
