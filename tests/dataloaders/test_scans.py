"""Scans through SimpleITK, and all that it would let pass."""

import gzip
import struct

import numpy as np
import pytest
from dicom import write_slices

from dataloaders.errors import InputError
from dataloaders.scans import (
    Geometry,
    Scan,
    check_same_grid,
    flip,
    read_scan,
    reorient,
    resample,
    write_label,
    write_scan,
)
from dataloaders.writing import WriteError

sitk = pytest.importorskip("SimpleITK", reason="scans are read and written by SimpleITK")

ARRAY = np.random.default_rng(0).integers(-1000, 1000, (6, 9, 8)).astype(np.int16)  # Z, Y, X
COS, SIN = np.cos(0.4), np.sin(0.4)
STRAIGHT = (8, 9, 6), (0.75, 1.25, 3.0), (-12.5, 40.0, 7.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
OBLIQUE = Geometry((8, 9, 6), (0.75, 1.25, 3.0), (-12.5, 40.0, 7.0), (COS, -SIN, 0.0, -SIN, -COS, 0.0, 0.0, 0.0, -1.0))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_every_format_returns_voxels_and_geometry(tmp_path, suffix):
    write_scan(tmp_path / f"a{suffix}", ARRAY, OBLIQUE)
    scan = read_scan(tmp_path / f"a{suffix}")
    assert np.array_equal(scan.array, ARRAY) and scan.geometry.size == OBLIQUE.size
    assert scan.geometry.distance(OBLIQUE) < 1e-4
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".part")]


def test_a_dicom_series_is_read_in_order_of_place(tmp_path):
    scan = read_scan(write_slices(tmp_path / "series", ARRAY))
    assert np.array_equal(scan.array, ARRAY)
    assert scan.geometry == Geometry((8, 9, 6), (0.75, 0.75, 2.0), (-10.0, -20.0, 0.0), (1.0, 0, 0, 0, 1, 0, 0, 0, 1))


def test_orientation_is_itks_name_of_the_axes():
    rng = np.random.default_rng(0)
    for letters in ("LPS", "RAS", "PIR", "SLA"):
        scan = reorient(Scan(ARRAY, Geometry(*STRAIGHT), None), letters)
        assert scan.geometry.orientation == letters
        turned, _ = np.linalg.qr(np.reshape(scan.geometry.direction, (3, 3)) + 0.2 * rng.uniform(-1, 1, (3, 3)))
        turned *= np.sign(np.diag(turned.T @ np.reshape(scan.geometry.direction, (3, 3))))
        geometry = Geometry(scan.geometry.size, *STRAIGHT[1:3], tuple(map(float, turned.flat)))
        name = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(geometry.direction)
        assert geometry.orientation == name == letters


def test_flipped_voxels_keep_their_place():
    scan = Scan(ARRAY, OBLIQUE, None)
    flipped = flip(scan, "xz")
    assert np.array_equal(flipped.array, ARRAY[::-1, :, ::-1])
    assert np.allclose(flipped.geometry.point([0, 3, 1]), OBLIQUE.point([7, 3, 4]))
    back = flip(flipped, "xz")
    assert np.array_equal(back.array, ARRAY) and back.geometry.distance(OBLIQUE) < 1e-9


def test_labels_are_uint8(tmp_path):
    write_label(tmp_path / "a.nii.gz", (ARRAY > 0).astype(np.int64), OBLIQUE)
    assert read_scan(tmp_path / "a.nii.gz").array.dtype == np.uint8


def test_a_nifti_label_map_has_the_scans_own_header(tmp_path):
    """Also where the two places that a header states differ, and viewers choose one or the other."""
    path = nifti(tmp_path, name="scan.nii")
    header = bytearray(path.read_bytes())
    header[123] = 10  # mm and s
    for place, value in ((76, -1.0), (256, 0.6), (268, 17.123456), (280, 1.1), (292, -40.7)):
        struct.pack_into("<f", header, place, value)  # qfac, quaternion, qform's and sform's numbers
    struct.pack_into("<2h", header, 252, 1, 4)
    path.write_bytes(header)
    scan = read_scan(path)
    write_label(tmp_path / "label.nii.gz", scan.array > 0, scan.geometry, like=path)
    written = gzip.decompress((tmp_path / "label.nii.gz").read_bytes())
    assert written[76:108] + written[252:328] == bytes(header[76:108] + header[252:328]) and written[123] == 10
    assert read_scan(tmp_path / "label.nii.gz").geometry == scan.geometry


def nifti(tmp_path, array=ARRAY, name="a.nii.gz", **kwargs):
    path = tmp_path / name
    sitk.WriteImage(sitk.GetImageFromArray(array, **kwargs), str(path))
    return path


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    return path


def with_nan(tmp_path, place):
    path = nifti(tmp_path, name="a.nii")
    header = bytearray(path.read_bytes())
    struct.pack_into("<f", header, place, float("nan"))
    path.write_bytes(header)
    return path


def text(path, content=b"hello"):
    path.write_bytes(content)
    return path


def unpacked(tmp_path):
    return gzip.decompress(nifti(tmp_path).read_bytes())


def nifti_2(array):
    """Big-endian, as few writers make it."""
    header = struct.pack(
        ">i8shh8q3d8dq", 540, b"n+2\0\r\n\032\n", 4, 16, 3, *array.shape[::-1], *[1] * 4, *[0] * 3, *[1] * 8, 544
    )
    return header.ljust(544, b"\0") + array.astype(">i2").tobytes()


def two_series(folder):
    write_slices(folder, ARRAY, series="1.2.3")
    return write_slices(folder, ARRAY, series="1.2.4")


def cut_slice(folder):
    cut(sorted(write_slices(folder, ARRAY).iterdir())[0], 600)
    return folder


def empty(folder):
    folder.mkdir()
    return folder


FAULTS = {
    "truncated gz": (lambda t: cut(nifti(t), 400), "a.nii.gz: damaged or cut short"),
    "gz cut at its end": (lambda t: cut(nifti(t), -4), "a.nii.gz: damaged or cut short"),
    "gz of less": (lambda t: text(t / "a.nii.gz", gzip.compress(unpacked(t)[:-9])), "cut short .855 of 864"),
    "truncated NIfTI-2": (lambda t: text(t / "a.nii", nifti_2(ARRAY)[:-9]), "cut short .855 of 864"),
    "truncated nii": (lambda t: cut(nifti(t, name="a.nii"), -100), "a.nii: cut short .764 of 864 bytes"),
    "truncated nrrd": (lambda t: cut(nifti(t, name="a.nrrd"), -100), "a.nrrd: not a readable scan"),
    "truncated mha": (lambda t: cut(nifti(t, name="a.mha"), -100), "a.mha: not a readable scan"),
    "not a NIfTI": (lambda t: text(t / "a.nii.gz"), "a.nii.gz: not a NIfTI file"),
    "no bytes": (lambda t: text(t / "a.nii", b""), "a.nii: not a NIfTI file"),
    "4-D": (lambda t: nifti(t, np.zeros((2, 3, 4, 5)), isVector=False), r"4 axes of \(5, 4, 3, 2\)"),
    "2-D": (lambda t: nifti(t, np.zeros((4, 5)), "a.nrrd"), r"2 axes of \(5, 4\)"),
    "RGB": (lambda t: nifti(t, np.zeros((3, 4, 5, 3), np.uint8), isVector=True), "3 values a voxel"),
    "NaN in the affine": (lambda t: with_nan(t, 280), "geometry holds NaN"),
    "NaN in an offset": (lambda t: with_nan(t, 292), "geometry holds NaN"),
    "NaN in a size": (lambda t: with_nan(t, 80), "geometry holds NaN"),
    "NaN among many": (
        lambda t: nifti(t, np.pad(ARRAY * np.float64(1), 40, constant_values=np.inf), "a.nii"),
        "voxels are NaN or infinite",
    ),
    "NaN in NRRD": (lambda t: nifti(t, np.full((2, 3, 4), np.nan), "a.nrrd"), "24 voxels are NaN"),
    "NaN voxels": (lambda t: nifti(t, np.full((2, 3, 4), np.nan, np.float32)), "24 voxels are NaN"),
    "no file": (lambda t: t / "a.nii.gz", "a.nii.gz: no such file or folder"),
    "another format": (lambda t: text(t / "a.png"), "a.png: not a scan by its name"),
    "empty folder": (lambda t: empty(t / "series"), "series: no DICOM slice in this folder"),
    "two series": (lambda t: two_series(t / "series"), "2 DICOM series in one folder"),
    "a slice is missing": (lambda t: write_slices(t / "series", ARRAY, skip=[3]), "slices lie 2 to 4 mm apart, one is"),
    "a slice is cut": (lambda t: cut_slice(t / "series"), "1.2.3_094.dcm: not a readable DICOM slice"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_scans_are_refused_in_one_line(tmp_path, fault, capfd):
    make, message = FAULTS[fault]
    path = make(tmp_path)
    capfd.readouterr()
    with pytest.raises(InputError, match=message) as error:
        read_scan(path)
    assert "\n" not in str(error.value)
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""  # ITK's own output is kept away


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


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, name):
    """SimpleITK reports it for NRRD and writes a cut file without a word for NIfTI."""
    original = sitk.WriteImage

    def full(image, path, *args, **kwargs):
        original(image, path, *args, **kwargs)
        with open(path, "rb+") as file:
            file.truncate(200)
        if path.endswith(".nrrd"):
            raise RuntimeError("Exception thrown in SimpleITK\nNo space left on device")

    monkeypatch.setattr(sitk, "WriteImage", full)
    with pytest.raises(WriteError, match=f"{name}: cannot be written .*([nN]o space left on device|is the disk full)"):
        write_scan(tmp_path / name, ARRAY, OBLIQUE)
    assert list(tmp_path.iterdir()) == []


def test_turning_there_and_back_is_exact(tmp_path):
    scan = Scan(ARRAY, OBLIQUE, tmp_path)
    turned = reorient(scan, "LPS")
    assert np.diag(np.reshape(turned.geometry.direction, (3, 3))).min() > 0.9
    assert not np.array_equal(turned.array, ARRAY)
    assert np.array_equal(resample(turned, OBLIQUE, "nearest").array, ARRAY)


def test_resampling_keeps_the_body_and_a_linear_ramp(tmp_path):
    ramp = np.broadcast_to(np.arange(20.0, dtype=np.float32)[:, None, None], (20, 9, 8))  # 3 mm a step along Z
    geometry = Geometry((8, 9, 20), *list(vars(OBLIQUE).values())[1:])
    grid = geometry.resampled(1.0)
    assert grid.size == (6, 11, 60) and grid.spacing == (1.0, 1.0, 1.0)
    faces = [g.point(np.full(3, -0.5)) for g in (geometry, grid)]
    assert np.allclose(*faces)  # the outer face of the first voxel
    fine = resample(Scan(np.ascontiguousarray(ramp), geometry, tmp_path), grid, "linear").array
    expected = (np.arange(60) + 0.5) / 3 - 0.5
    assert np.allclose(fine[2:-2, 5, 3], expected[2:-2], atol=1e-4)
    assert fine.min() >= 0 and fine.max() <= 19  # nothing comes in from beyond the edge


def test_geometry_as_attributes():
    facts = OBLIQUE.attributes("scan")
    assert Geometry.from_attributes(facts, "scan") == OBLIQUE
    assert Geometry.from_attributes({}, "scan") is None
