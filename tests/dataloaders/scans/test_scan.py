"""Scans in memory: their axes turned, flipped, and compared with those of a label."""

import numpy as np
import pytest

from dataloaders.files import InputError
from dataloaders.geometry import Geometry
from dataloaders.scans.scan import Scan, check_same_grid, flip, reorient

ARRAY = np.random.default_rng(0).integers(-1000, 1000, (6, 9, 8)).astype(np.int16)  # Z, Y, X
COS, SIN = np.cos(0.4), np.sin(0.4)
OBLIQUE = Geometry((8, 9, 6), (0.75, 1.25, 3.0), (-12.5, 40.0, 7.0), (COS, -SIN, 0.0, -SIN, -COS, 0.0, 0.0, 0.0, -1.0))


def test_turned_axes_are_itks(tmp_path):
    sitk = pytest.importorskip("SimpleITK", reason="the reference implementation of turned axes")
    rng = np.random.default_rng(0)
    for letters in ("LPS", "RAS", "PIR", "SLA"):
        image = sitk.GetImageFromArray(ARRAY)
        image.SetSpacing(OBLIQUE.spacing)
        image.SetOrigin(OBLIQUE.origin)
        direction, _ = np.linalg.qr(np.reshape(OBLIQUE.direction, (3, 3)) + 0.2 * rng.uniform(-1, 1, (3, 3)))
        image.SetDirection(direction.ravel().tolist())
        scan = Scan(ARRAY, Geometry(OBLIQUE.size, OBLIQUE.spacing, OBLIQUE.origin, image.GetDirection()), tmp_path)
        name = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
        assert scan.geometry.orientation == name
        turned, expected = reorient(scan, letters), sitk.DICOMOrient(image, letters)
        assert turned.geometry.orientation == letters
        assert np.array_equal(turned.array, sitk.GetArrayFromImage(expected))
        theirs = Geometry(expected.GetSize(), expected.GetSpacing(), expected.GetOrigin(), expected.GetDirection())
        assert turned.geometry.size == theirs.size and turned.geometry.distance(theirs) < 1e-9


def test_flipped_voxels_keep_their_place():
    scan = Scan(ARRAY, OBLIQUE, None)
    flipped = flip(scan, "xz")
    assert np.array_equal(flipped.array, ARRAY[::-1, :, ::-1])
    assert np.allclose(flipped.geometry.point([0, 3, 1]), OBLIQUE.point([7, 3, 4]))
    back = flip(flipped, "xz")
    assert np.array_equal(back.array, ARRAY) and back.geometry.distance(OBLIQUE) < 1e-9


def test_turning_there_and_back_is_exact(tmp_path):
    scan = Scan(ARRAY, OBLIQUE, tmp_path)
    turned = reorient(scan, "LPS")
    assert np.diag(np.reshape(turned.geometry.direction, (3, 3))).min() > 0.9
    assert not np.array_equal(turned.array, ARRAY)
    back = reorient(turned, OBLIQUE.orientation)
    assert np.array_equal(back.array, ARRAY) and back.geometry.distance(OBLIQUE) < 1e-9


def test_image_and_label_must_share_shape_and_place(tmp_path):
    image = Scan(ARRAY, OBLIQUE, tmp_path / "image.nii")
    check_same_grid(
        image, Scan(ARRAY, Geometry(OBLIQUE.size, OBLIQUE.spacing, (-12.3, 40, 7), OBLIQUE.direction), tmp_path)
    )
    for geometry, array, message in (
        (Geometry(OBLIQUE.size, OBLIQUE.spacing, (-10.5, 40, 7), OBLIQUE.direction), ARRAY, "up to 2.0 mm apart"),
        (Geometry(OBLIQUE.size, OBLIQUE.spacing, OBLIQUE.origin, (1, 0, 0, 0, 1, 0, 0, 0, 1)), ARRAY, "mm apart"),
        (Geometry((8, 9, 5), *list(vars(OBLIQUE).values())[1:]), ARRAY[1:], r"\(8, 9, 5\) voxels in x, y, z"),
    ):
        with pytest.raises(InputError, match=message):
            check_same_grid(image, Scan(array, geometry, tmp_path / "label.nii"))
