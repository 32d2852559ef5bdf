"""Scan files in every form that users have, read alike; what is damaged or no scan, refused in one line."""

import gzip
import resource
import struct

import numpy as np
import pytest
from scan_files import write_itk

from dataloaders.files import WriteError
from dataloaders.geometry import Geometry
from dataloaders.scans.files import read_scan, resample, scan_files, scan_hash, write_label, write_scan
from dataloaders.scans.scan import Scan

nibabel = pytest.importorskip("nibabel", reason="NIfTI is read and written by nibabel")
sitk = pytest.importorskip("SimpleITK", reason="other scans are read by SimpleITK")

ARRAY = np.random.default_rng(0).integers(-1000, 1000, (6, 9, 8)).astype(np.int16)  # Z, Y, X
COS, SIN = np.cos(0.4), np.sin(0.4)
OBLIQUE = Geometry((8, 9, 6), (0.75, 1.25, 3.0), (-12.5, 40.0, 7.0), (COS, -SIN, 0.0, -SIN, -COS, 0.0, 0.0, 0.0, -1.0))


def itk_and_nibabel(path):
    """The matrix of a NIfTI file in ITK's frame, by both libraries."""
    image, other = sitk.ReadImage(str(path)), nibabel.load(path)
    geometry = Geometry(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return geometry.affine, np.diag([-1, -1, 1, 1]) @ other.affine


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_every_format_returns_voxels_and_geometry(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    (write_scan if "nii" in suffix else write_itk)(path, ARRAY, OBLIQUE)
    scan = read_scan(path)
    assert np.array_equal(scan.array, ARRAY) and scan.geometry.size == OBLIQUE.size
    assert scan.geometry.distance(OBLIQUE) < 1e-4
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".part")]
    if "nii" in suffix:
        assert all(np.allclose(affine, OBLIQUE.affine, atol=1e-4) for affine in itk_and_nibabel(path))


AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0]) @ OBLIQUE.affine
SHEARED, TILTED = (AFFINE @ [[1, 0, 0, 0], [0, 1, shear, 0], [0, 0, 1, 0], [0, 0, 0, 1]] for shear in (0.005, 0.8))


def save(path, kind=nibabel.Nifti1Image, affine=AFFINE, array=ARRAY):
    nibabel.save(kind(array.T, affine), path)
    return path


def renamed(path, name):
    return path.rename(path.with_name(name))


FORMS = {
    "plain": lambda t: save(t / "a.nii"),
    "NIfTI-2": lambda t: save(t / "a.nii.gz", nibabel.Nifti2Image),
    "big-endian NIfTI-2": lambda t: text(t / "a.nii", nifti_2(ARRAY, AFFINE)),
    "pair": lambda t: save(t / "a.hdr", nibabel.Nifti1Pair),
    "pair by its voxels": lambda t: save(t / "a.hdr", nibabel.Nifti1Pair).with_suffix(".img"),
    "packed pair": lambda t: save(t / "a.img.gz", nibabel.Nifti1Pair).with_name("a.hdr.gz"),
    "NIfTI-2 pair in capitals": lambda t: [
        renamed(path, path.name.upper()) for path in sorted(save(t / "a.hdr", nibabel.Nifti2Pair).parent.iterdir())
    ][0],
    "packed, named .nii": lambda t: renamed(save(t / "a.nii.gz"), "a.nii"),
    "plain, named .nii.gz": lambda t: renamed(save(t / "a.nii"), "a.nii.gz"),
    "four axes, one frame": lambda t: save(t / "a.nii", array=ARRAY[None]),
    "sheared a little": lambda t: save(t / "a.nii", affine=SHEARED),
    "tilted gantry": lambda t: save(t / "a.nii", affine=TILTED),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_nifti_is_the_plain_one(tmp_path, form):
    """Voxels as stored, in place; a label map on its grid has the same matrix for other readers."""
    path = FORMS[form](tmp_path)
    scan, stored = read_scan(path), {"sheared a little": SHEARED, "tilted gantry": TILTED}.get(form, AFFINE)
    assert np.array_equal(scan.array, ARRAY) and scan.array.dtype == np.int16 and scan.path == path
    assert np.allclose(np.diag([-1, -1, 1, 1]) @ scan.geometry.affine, stored, atol=1e-4)
    assert scan.geometry.spacing == pytest.approx(np.linalg.norm(stored[:3, :3], axis=0), abs=1e-5)
    assert scan.geometry.voxel_ml == pytest.approx(0.75 * 1.25 * 3 / 1000) and scan.geometry.tilted == ("tilt" in form)
    assert len(scan_files(tmp_path)) == 1
    for header in (scan.header, None):
        write_label(tmp_path / "label.nii.gz", ARRAY > 0, scan.geometry, header)
        written = nibabel.load(tmp_path / "label.nii.gz")
        assert np.allclose(written.affine, stored, atol=1e-4)
        assert np.array_equal(written.get_fdata().T, ARRAY > 0) and written.get_data_dtype() == np.uint8


def test_the_hash_of_a_pair_is_that_of_both_files(tmp_path):
    path = save(tmp_path / "a.hdr", nibabel.Nifti1Pair)
    before = scan_hash(path)
    text(tmp_path / "a.txt")
    assert scan_hash(path) == before == scan_hash(path.with_suffix(".img"))
    with open(path.with_suffix(".img"), "r+b") as file:
        file.write(b"other")
    assert scan_hash(path) != before


def test_stored_numbers_are_scaled_and_units_are_millimetres(tmp_path):
    image = nibabel.Nifti1Image(ARRAY.T, AFFINE)
    image.header.set_slope_inter(0.5, 3)
    image.header.set_xyzt_units("micron")
    image._affine = None  # nibabel would write the header anew
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    content = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<2f", content, 112, 0.5, 3.0)
    (tmp_path / "a.nii").write_bytes(content)
    scan = read_scan(tmp_path / "a.nii")
    assert scan.array.dtype == np.float32 and np.array_equal(scan.array, ARRAY * np.float32(0.5) + 3)
    assert scan.geometry.spacing == pytest.approx((0.75e-3, 1.25e-3, 3e-3))
    write_label(tmp_path / "label.nii.gz", ARRAY > 0, scan.geometry, scan.header)
    assert np.allclose(nibabel.load(tmp_path / "label.nii.gz").affine, AFFINE, atol=1e-4)


def test_a_header_that_states_no_place_is_read_as_itk_does(tmp_path):
    image = nibabel.Nifti1Image(ARRAY.T, None)
    image.header.set_zooms((0.75, 1.25, 3.0))
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert np.allclose(read_scan(tmp_path / "a.nii.gz").geometry.affine, itk_and_nibabel(tmp_path / "a.nii.gz")[0])


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
    write_label(tmp_path / "label.nii.gz", scan.array > 0, scan.geometry, scan.header)
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


def with_number(tmp_path, place, number=np.nan):
    path = nifti(tmp_path, name="a.nii")
    header = bytearray(path.read_bytes())
    struct.pack_into("<f", header, place, number)
    path.write_bytes(header)
    return path


def text(path, content=b"hello"):
    path.write_bytes(content)
    return path


def half(path):
    """One file of a pair."""
    pair = {end: save(path.with_suffix(".hdr"), nibabel.Nifti1Pair).with_suffix(end) for end in (".hdr", ".img")}
    pair[".img" if path.suffix == ".hdr" else ".hdr"].unlink()
    return path


def cut_pair(path):
    cut(save(path, nibabel.Nifti1Pair).with_suffix(".img"), -100)
    return path


def unpacked(tmp_path):
    return gzip.decompress(nifti(tmp_path).read_bytes())


def nifti_2(array, affine=AFFINE):
    """Big-endian, as few writers make it."""
    header = nibabel.Nifti2Header(endianness=">")
    header.set_data_dtype(np.int16)
    image = nibabel.Nifti2Image(array.T, affine, header)
    return image.to_bytes()


FAULTS = {
    "truncated gz": (lambda t: cut(nifti(t), 400), "a.nii.gz: damaged or cut short"),
    "gz cut at its end": (lambda t: cut(nifti(t), -4), "a.nii.gz: damaged or cut short"),
    "gz of less": (lambda t: text(t / "a.nii.gz", gzip.compress(unpacked(t)[:-9])), "cut short.* 864 bytes, got 855"),
    "truncated NIfTI-2": (lambda t: text(t / "a.nii", nifti_2(ARRAY)[:-9]), "cut short.* 864 bytes, got 855"),
    "truncated nii": (lambda t: cut(nifti(t, name="a.nii"), -100), "a.nii: damaged or cut short.* 864 bytes, got 764"),
    "truncated header": (lambda t: cut(nifti(t, name="a.nii"), 300), "a.nii: not a NIfTI file"),
    "truncated pair": (lambda t: cut_pair(t / "a.hdr"), "a.hdr: damaged or cut short.* 864 bytes, got 764"),
    "half a pair": (lambda t: half(t / "a.img"), "a.img: half of a .hdr/.img pair"),
    "another half": (lambda t: half(t / "a.hdr"), "a.hdr: half of"),
    "Analyze": (lambda t: save(t / "a.hdr", nibabel.AnalyzeImage), "a.hdr: not a NIfTI file .an Analyze"),
    "truncated nrrd": (lambda t: cut(nifti(t, name="a.nrrd"), -100), "a.nrrd: not a readable scan"),
    "truncated mha": (lambda t: cut(nifti(t, name="a.mha"), -100), "a.mha: not a readable scan"),
    "not a NIfTI": (lambda t: text(t / "a.nii.gz"), "a.nii.gz: not a NIfTI file"),
    "no bytes": (lambda t: text(t / "a.nii", b""), "a.nii: not a NIfTI file"),
    "4-D": (lambda t: nifti(t, np.zeros((2, 3, 4, 5)), isVector=False), r"4 axes of \(5, 4, 3, 2\)"),
    "2-D": (lambda t: nifti(t, np.zeros((4, 5)), "a.nrrd"), r"2 axes of \(5, 4\)"),
    "a field": (lambda t: save(t / "a.nii", array=np.zeros((3, 1, 4, 5, 6), np.float32)), "3 values per voxel"),
    "complex": (lambda t: save(t / "a.nii", array=ARRAY.astype(np.complex64)), "voxels of type complex64"),
    "no thickness": (lambda t: with_number(t, 320, 0), "no size of a voxel"),
    "RGB": (lambda t: nifti(t, np.zeros((3, 4, 5, 3), np.uint8), isVector=True), "3 values per voxel"),
    "NaN in the affine": (lambda t: with_number(t, 280), "geometry holds NaN"),
    "NaN in an offset": (lambda t: with_number(t, 292), "geometry holds NaN"),
    "NaN in a size": (lambda t: with_number(t, 80), "geometry holds NaN"),
    "NaN among many": (
        lambda t: nifti(t, np.pad(ARRAY * np.float64(1), 40, constant_values=np.inf), "a.nii"),
        "voxels are NaN or infinite",
    ),
    "NaN in NRRD": (lambda t: nifti(t, np.full((2, 3, 4), np.nan), "a.nrrd"), "24 voxels are NaN"),
    "NaN voxels": (lambda t: nifti(t, np.full((2, 3, 4), np.nan, np.float32)), "24 voxels are NaN"),
    "no file": (lambda t: t / "a.nii.gz", "a.nii.gz: no such file or folder"),
    "another format": (lambda t: text(t / "a.png"), "a.png: not a scan by its name"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_scans_are_refused_in_one_line(tmp_path, fault, refused):
    make, message = FAULTS[fault]
    refused(make(tmp_path), message)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(WriteError, match="a.nii.gz: cannot be written .File too large"):
            write_scan(tmp_path / "a.nii.gz", ARRAY, OBLIQUE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


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
