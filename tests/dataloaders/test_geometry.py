"""Grids: their matrix, their shear, their text in an h5 file."""

import numpy as np
import pytest

from dataloaders.geometry import Geometry

COS, SIN = np.cos(0.4), np.sin(0.4)
OBLIQUE = Geometry((8, 9, 6), (0.75, 1.25, 3.0), (-12.5, 40.0, 7.0), (COS, -SIN, 0.0, -SIN, -COS, 0.0, 0.0, 0.0, -1.0))


def test_geometry_as_attributes():
    facts = OBLIQUE.attributes("scan")
    assert Geometry.from_attributes(facts, "scan") == OBLIQUE
    assert Geometry.from_attributes({}, "scan") is None


def test_the_matrix_there_and_back():
    again = Geometry.from_affine(OBLIQUE.size, OBLIQUE.affine)
    assert again.size == OBLIQUE.size and again.spacing == pytest.approx(OBLIQUE.spacing)
    assert again.distance(OBLIQUE) < 1e-12 and OBLIQUE.shear == pytest.approx(0, abs=1e-6) and not OBLIQUE.tilted


def test_a_sheared_voxel_has_the_volume_of_its_edges():
    """A cube of 2 mm whose layers slide by 1 mm: its height, and so its volume, stays, its third edge is longer."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[1, 2] = 1.0
    sheared = Geometry.from_affine((4, 4, 4), affine)
    assert sheared.spacing == pytest.approx((2, 2, 5**0.5)) and sheared.voxel_ml == pytest.approx(0.008)
    assert sheared.shear == pytest.approx(np.degrees(np.arctan(0.5))) and sheared.tilted
    assert np.allclose(sheared.point([1, 1, 1]), [2, 3, 2]) and np.allclose(sheared.affine, affine)
