"""Each step of the preparations against numbers worked out by hand, and the way back to the scan."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dataloaders.files import InputError
from dataloaders.geometry import Geometry
from dataloaders.info import Preparation
from dataloaders.registry import PREPARATIONS
from dataloaders.scans.files import resample
from dataloaders.scans.preparation import (
    align_label,
    attributes,
    crop_box,
    draw_margin,
    from_axes,
    map_labels,
    prepare,
    restore,
    to_axes,
)
from dataloaders.scans.scan import Scan

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def scan(array, spacing=(1.0, 1.0, 1.0), direction=IDENTITY, name="scan.nii.gz"):
    array = np.asarray(array)
    return Scan(array, Geometry(array.shape[::-1], spacing, (0.0, 0.0, 0.0), direction), Path(name))


def test_acdc_is_scaled_by_its_own_range():
    image = np.array([[[-5, 0], [5, 15]]], np.int16)
    prepared = prepare(scan(image), PREPARATIONS["ACDC"], scan([[[0, 1], [2, 3]]]))
    assert prepared.image.dtype == np.float32 and prepared.image.tolist() == [[[0, 0.25], [0.5, 1]]]
    assert prepared.label.dtype == np.uint8 and prepared.label.tolist() == [[[0, 1], [2, 3]]]
    assert prepared.crop == ((0, 1), (0, 2), (0, 2))


def test_min_max_does_not_overflow_the_type_of_the_file():
    prepared = prepare(scan(np.array([[[-30000, 30000]]], np.int16)), PREPARATIONS["ACDC"])
    assert prepared.image.tolist() == [[[0, 1]]] and prepared.label is None


def test_synapse_is_windowed_and_its_slices_lie_along_x():
    image = np.array([[[-1000, -125, 75], [275, 3000, 175]]], np.int16)  # Z, Y, X
    label = np.array([[[8, 4, 3], [2, 6, 13]]], np.uint8)
    prepared = prepare(scan(image), PREPARATIONS["Synapse"], scan(label))
    assert prepared.image.tolist() == [[[0, 1], [0, 1], [0.5, 0.75]]]  # Z, X, Y
    assert prepared.label.tolist() == [[[1, 4], [2, 5], [3, 0]]]
    turned = prepare(scan(image), replace(PREPARATIONS["Synapse"], axes="zYx"), scan(label))
    assert turned.label.tolist() == [[[4, 5, 0], [1, 2, 3]]]


def test_btcv_organs_become_transunets_eight():
    mapped = map_labels(scan(np.arange(14).reshape(1, 2, 7)), PREPARATIONS["Synapse"].label_values)
    assert mapped.ravel().tolist() == [0, 7, 4, 3, 2, 0, 5, 8, 1, 0, 0, 6, 0, 0]


def test_la_is_z_scored_as_a_whole_then_cropped_and_255_is_1():
    image = np.arange(5 * 140 * 150, dtype=np.float64).reshape(5, 140, 150)
    label = np.zeros(image.shape, np.uint8)
    label[2, 60:70, 20:140] = 255  # 120 wide in x, 10 in y
    prepared = prepare(scan(image), PREPARATIONS["LA"], scan(label), margin=((10, 11), (12, 13)))
    # x: 20 - 10, 140 + 11 at most 150; y: 102 voxels are lacking, 60 - 51 - 12 at least 0, 70 + 51 + 13
    assert prepared.crop == ((10, 150), (0, 134), (0, 5)) and prepared.image.shape == (140, 134, 5)
    whole = ((image - image.mean()) / image.std()).astype(np.float32)
    assert np.array_equal(prepared.image, whole.transpose(2, 1, 0)[10:150, :134])
    assert set(np.unique(prepared.label)) == {0, 1} and prepared.label.sum() == 1200
    without = prepare(scan(image), PREPARATIONS["LA"])  # a new scan
    assert np.array_equal(without.image, whole.transpose(2, 1, 0))


def test_pancreas_is_resampled_cropped_and_z_scored():
    pytest.importorskip("SimpleITK", reason="scans are resampled by SimpleITK")
    rng = np.random.default_rng(0)
    image = rng.integers(-300, 400, (8, 60, 80)).astype(np.int16)
    label = np.zeros(image.shape, np.uint8)
    label[3:5, 20:40, 20:60] = 1
    direction = (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)
    spacing = (2.0, 2.0, 2.5)
    prepared = prepare(
        scan(image, spacing, direction), PREPARATIONS["Pancreas"], scan(label, spacing, direction), ((25, 25), (25, 25))
    )
    assert prepared.grid.size == (160, 120, 20) and prepared.grid.spacing == (1, 1, 1)
    assert prepared.grid.direction == IDENTITY  # turned to LPS
    # 80 mm wide in x, after the turn at 40..120: 16 lacking, 40 - 8 - 25 .. 120 + 8 + 25; y: 40..80, at most 0..120
    assert prepared.crop == ((7, 153), (0, 120), (0, 20))
    assert abs(prepared.image.mean()) < 1e-5 and prepared.image.std() == pytest.approx(1, abs=1e-5)
    assert prepared.label.sum() == 80 * 40 * 5 and attributes(prepared, PREPARATIONS["Pancreas"])["spacing"] == [
        1,
        1,
        1,
    ]


@pytest.mark.parametrize("axes", ["zyx", "zxy", "xyz", "zXy", "YxZ"])
def test_axes_there_and_back(axes):
    array = np.arange(24).reshape(2, 3, 4)
    assert np.array_equal(from_axes(to_axes(array, axes), axes), array)


@pytest.mark.parametrize("name", PREPARATIONS)
def test_a_label_returns_to_the_scans_own_grid(name):
    """Through crop, axes, turn and resampling; anisotropic and oblique."""
    preparation = PREPARATIONS[name]
    if preparation.spacing:
        pytest.importorskip("SimpleITK", reason="scans are resampled by SimpleITK")
    label = np.zeros((12, 150, 140), np.uint8)
    label[4:9, 50:90, 60:100] = 1
    cos, sin = np.cos(0.3), np.sin(0.3)
    direction = (cos, 0.0, sin, 0.0, -1.0, 0.0, sin, 0.0, -cos)
    image = scan(label * 100.0 + np.arange(140), (1.0, 1.0, 3.0), direction)
    truth = scan(label, (1.0, 1.0, 3.0), direction)
    prepared = prepare(image, preparation, truth, draw_margin(preparation, 0, "a"))
    back = restore(prepared.label, preparation.axes, prepared.crop, prepared.grid, prepared.scan)
    wanted = map_labels(truth, preparation.label_values)
    assert back.shape == label.shape and wanted.any() and np.array_equal(back, wanted)


def test_the_margin_is_drawn_from_seed_and_case():
    la = PREPARATIONS["LA"]
    first = draw_margin(la, 1337, "06SR5RBREL16DQ6M8LWS")
    assert first == draw_margin(la, 1337, "06SR5RBREL16DQ6M8LWS")
    assert first != draw_margin(la, 1, "06SR5RBREL16DQ6M8LWS") and first != draw_margin(
        la, 1337, "0RZDK210BSMWAA6467LU"
    )
    drawn = np.array([draw_margin(la, seed, "a") for seed in range(200)])
    assert drawn.shape == (200, 2, 2) and drawn.min() == 10 and drawn.max() == 20
    assert draw_margin(PREPARATIONS["Pancreas"], 0, "a") == ((25, 25), (25, 25))
    assert draw_margin(PREPARATIONS["ACDC"], 0, "a") is None


@pytest.mark.parametrize(
    "array, message",
    [
        (np.full((1, 2, 2), 0.5), "labels must be whole numbers"),
        (np.full((1, 2, 2), 13, np.uint8), "label 13 found, only 0, 1, 2, 3 are allowed"),
        (np.full((1, 2, 2), -1, np.int16), "label -1 found"),
        (np.full((1, 2, 2), 300, np.int16), "label 300 found"),
    ],
)
def test_labels_that_the_dataset_does_not_have(array, message):
    with pytest.raises(InputError, match=f"label.nii: {message}"):
        map_labels(scan(array, name="label.nii"), PREPARATIONS["ACDC"].label_values)


def test_whole_numbers_stored_as_floats_are_fine():
    assert map_labels(scan(np.array([[[0.0, 3.0]]])), PREPARATIONS["ACDC"].label_values).tolist() == [[[0, 3]]]
    for kind in ("uint64", "int64", "uint32", "int8", "float64"):  # as scans come; bincount takes not all of them
        assert map_labels(scan(np.array([[[0, 3]]], kind)), PREPARATIONS["ACDC"].label_values).tolist() == [[[0, 3]]]


def test_a_tilted_scan_is_prepared_where_nothing_is_turned_or_resampled():
    image = scan(np.arange(24.0).reshape(2, 3, 4), direction=(1, 0, 0, 0, 1, 0.6, 0, 0, 0.8))
    assert prepare(image, PREPARATIONS["ACDC"]).scan.tilted
    for change, why in (({"orientation": "LPS"}, "turns it to LPS"), ({"spacing": 1.0}, "resamples it")):
        with pytest.raises(InputError, match=f"scan.nii.gz: its axes are 36.9 degrees off .* the preparation {why}"):
            prepare(image, replace(PREPARATIONS["ACDC"], **change))


def test_a_small_shear_is_resampled_by_place():
    """A column of voxels that leans by 0.2 mm a slice stands upright on a straight grid."""
    pytest.importorskip("SimpleITK", reason="scans are resampled by SimpleITK")
    array = np.broadcast_to(np.arange(20.0, dtype=np.float32)[:, None], (10, 20, 6))  # HU along y
    affine = np.diag([1.0, 1.0, 12.0, 1.0])
    affine[1, 2] = 0.2
    leaning = Scan(array, Geometry.from_affine((6, 20, 10), affine), Path("a.nii"))
    assert not leaning.geometry.tilted
    grid = Geometry((6, 10, 10), (1.0, 1.0, 12.0), (0.0, 5.0, 0.0), IDENTITY)
    upright = resample(leaning, grid, "linear").array
    assert np.allclose(upright[:, :, 2], 5 + np.arange(10) - 0.2 * np.arange(10)[:, None], atol=1e-4)


def test_nothing_to_see_and_nothing_to_crop_around():
    flat = scan(np.ones((2, 3, 4)))
    for name in ("ACDC", "LA"):
        with pytest.raises(InputError, match="scan.nii.gz: every voxel is"):
            prepare(flat, PREPARATIONS[name])
    with pytest.raises(InputError, match="the label is empty"):
        crop_box(np.zeros((4, 4, 4)), (2, 2), ((1, 1), (1, 1)), Path("label.nii"))


def abdomen():
    """Soft tissue in front of a spine, in fat and air, and a label in the tissue, off centre in y and z."""
    image = np.full((12, 40, 40), -900)
    image[:, 5:35, 5:35] = -100  # fat
    image[2:6, 8:18, 10:30] = 90
    image[:, 26:33, 17:23] = 600
    label = np.zeros(image.shape, np.uint8)
    label[3:5, 10:16, 12:26] = 1
    return scan(image), scan(label, name="label.nii.gz")


@pytest.mark.parametrize("flip, axes", [("none", ()), ("y", (1,)), ("z", (0,)), ("yz", (0, 1))])
def test_the_flip_that_lays_a_label_on_tissue_is_found(flip, axes):
    image, label = abdomen()
    aligned, found = align_label(image, scan(np.flip(label.array, axes)))
    assert found == flip and np.array_equal(aligned.array, label.array) and aligned.geometry == image.geometry


def test_a_label_that_fits_under_no_flip_is_refused_and_can_be_told():
    image, label = abdomen()
    with pytest.raises(
        InputError, match=r"label.nii.gz: no flip puts it clearly .*none 43 %, deviation 1.. HU, y 0 %.*--label_flip"
    ):
        align_label(image, scan(np.roll(label.array, 12, axis=2), name="label.nii.gz"))
    image.array[:, :, :] = np.random.default_rng(0).normal(60, 25, image.array.shape)  # all is tissue ...
    image.array[3:5, 10:16, 12:26] = 90
    assert align_label(image, scan(label.array[:, ::-1]))[1] == "y"  # ... but the organ is of one kind
    everywhere = scan(np.full(image.array.shape, 90))  # any flip would do
    with pytest.raises(InputError, match="none 100 %, deviation 0 HU, y 100 %, deviation 0 HU"):
        align_label(everywhere, label)
    assert align_label(everywhere, label, "y")[1] == "y"
    with pytest.raises(InputError, match="voxels in x, y, z"):
        align_label(image, scan(label.array[1:]))


@pytest.mark.parametrize("preparation", PREPARATIONS.values(), ids=list(PREPARATIONS))
def test_a_preparation_survives_its_own_text(preparation):
    assert Preparation.from_json(preparation.to_json()) == preparation


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"name": 1, "label_values": []}x', '{"label_values": [], "what": 1}']
)
def test_another_text_is_refused(text):
    with pytest.raises(InputError, match="not the description of a preparation"):
        Preparation.from_json(text)
