"""DICOM as archives hand it out: series, enhanced multi-frame files, tilted gantries, and what is no scan."""

from pathlib import Path

import numpy as np
import pytest
from scan_files import write_dicom, write_frames, write_slices

from dataloaders.geometry import Geometry
from dataloaders.scans.files import read_scan, scan_files

pytest.importorskip("SimpleITK", reason="DICOM is read by SimpleITK")

ARRAY = np.random.default_rng(0).integers(-1000, 1000, (6, 9, 8)).astype(np.int16)  # Z, Y, X
STRAIGHT = Geometry((8, 9, 6), (0.75, 0.75, 2.0), (-10.0, -20.0, 0.0), (1.0, 0, 0, 0, 1, 0, 0, 0, 1))
PLACES = [(-10, -20, 2 * z) for z in range(6)]
PLAN, STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.5", "1.2.840.10008.5.1.4.1.1.481.3"


def test_a_dicom_series_is_read_in_order_of_place(tmp_path):
    scan = read_scan(write_slices(tmp_path / "series", ARRAY))
    assert np.array_equal(scan.array, ARRAY)
    assert scan.geometry == STRAIGHT


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 4, 2]])
def test_a_multi_frame_file_is_the_volume_of_its_series(tmp_path, order):
    """By itself, under any name, and alone in a folder; its frames stored in any order."""
    path = write_frames(tmp_path / "in" / "a.dcm", ARRAY[order], [PLACES[z] for z in order])
    bare = Path(tmp_path, "IM0001")
    bare.write_bytes(path.read_bytes())
    for source in (path, bare, path.parent):
        scan = read_scan(source)
        assert np.array_equal(scan.array, ARRAY) and scan.geometry == STRAIGHT and scan.path == source
    write_slices(tmp_path / "in", ARRAY)
    assert scan_files(tmp_path / "in") == [path]


@pytest.mark.parametrize("multi_frame", [False, True])
def test_a_tilted_gantry_is_a_sheared_grid(tmp_path, multi_frame):
    places = [(-10, -20 + z, 2 * z) for z in range(6)]
    if multi_frame:
        source = write_frames(tmp_path / "a.dcm", ARRAY, places)
    else:
        source = write_slices(tmp_path / "series", ARRAY, tilt=1)
    scan = read_scan(source)
    assert np.array_equal(scan.array, ARRAY) and scan.geometry.tilted
    assert np.allclose([scan.geometry.point([0, 0, z]) for z in range(6)], places)
    assert scan.geometry.voxel_ml == pytest.approx(0.75 * 0.75 * 2 / 1000)


def test_plans_and_structure_sets_beside_slices_do_not_count(tmp_path):
    series = write_slices(tmp_path / "study" / "series", ARRAY)
    write_dicom(series / "plan.dcm", PLAN, {})
    write_dicom(tmp_path / "study" / "structures" / "rs.dcm", STRUCTURES, {})
    write_dicom(tmp_path / "DICOMDIR", "1.2.840.10008.1.3.10", {})
    assert np.array_equal(read_scan(tmp_path).array, ARRAY)


def two_series(folder):
    write_slices(folder, ARRAY, series="1.2.3")
    return write_slices(folder, ARRAY, series="1.2.4")


def cut_slice(folder, others=True, end=600):
    first, *rest = sorted(write_slices(folder, ARRAY).iterdir())
    first.write_bytes(first.read_bytes()[:end])
    for path in () if others else rest:
        path.unlink()
    return folder


def empty(folder):
    folder.mkdir()
    return folder


def alone(path, kind, **elements):
    write_dicom(path, kind, elements)
    return path.parent


def picture(path, samples=1):
    """A secondary capture, which has no place."""
    kind, size = "1.2.840.10008.5.1.4.1.1.7", 4
    colour = {1: "MONOCHROME2", 3: "RGB"}[samples]
    names = ("0028|0002", "0028|0010", "0028|0011", "0028|0100", "0028|0101", "0028|0102", "0028|0103")
    numbers = dict(zip(names, (("US", value) for value in (samples, size, size, 8, 8, 7, 0))))
    if samples > 1:
        numbers["0028|0006"] = ("US", 0)
    about = {"0020|000d": ("UI", "1.2"), "0020|000e": ("UI", "1.2.3"), "0028|0004": ("CS", colour)}
    write_dicom(path, kind, {**about, **numbers, "7fe0|0010": ("OW", bytes(size * size * samples))})
    return path.parent


def frames(path, places, **more):
    return write_frames(path, ARRAY[: len(places)], places, **more)


FAULTS = {
    "empty folder": (lambda t: empty(t / "series"), "series: no DICOM slice in this folder"),
    "two series": (lambda t: two_series(t / "series"), "2 DICOM series in one folder"),
    "a slice is missing": (
        lambda t: write_slices(t / "series", ARRAY, skip=[3]),
        "slices lie 2 to 4 mm apart, one is missing or doubled after 1.2.3_097.dcm",
    ),
    "a slice is cut": (lambda t: cut_slice(t / "series"), "1.2.3_094.dcm: not a readable DICOM slice, cut short"),
    "the end of a slice is cut": (
        lambda t: cut_slice(t / "series", end=-1), "1.2.3_094.dcm: not a readable DICOM slice, cut short"
    ),
    "the only slice is cut": (
        lambda t: cut_slice(t / "series", others=False), "1.2.3_094.dcm: not a readable DICOM slice, cut short"
    ),
    "a plan": (lambda t: alone(t / "a.dcm", PLAN), "a.dcm: a DICOM object without pixels .plan, structure set"),
    "structures": (lambda t: alone(t / "in" / "IM1", STRUCTURES), "IM1: a DICOM object without pixels"),
    "a plan by itself": (lambda t: alone(t / "a.dcm", PLAN) / "a.dcm", "a.dcm: a DICOM object without pixels"),
    "no DICOM inside": (lambda t: (t / "a.dcm").write_bytes(b"hello") and t / "a.dcm", "a.dcm: not a readable DICOM"),
    "a picture": (lambda t: picture(t / "a.dcm"), r"a.dcm: no image position .0020,0032."),
    "pictures": (lambda t: picture(t / "a.dcm") and picture(t / "b.dcm"), r"[ab].dcm: no image position .0020,0032."),
    "in colour": (lambda t: picture(t / "a.dcm", 3), "a.dcm: 3 values per voxel"),
    "one slice by itself": (
        lambda t: sorted(write_slices(t / "series", ARRAY).iterdir())[0], "a single DICOM slice; give the folder of its"
    ),
    "frames without place": (
        lambda t: frames(t / "a.dcm", PLACES[:1] * 6), "slices lie 0 to 0 mm apart"
    ),
    "frames of two times": (lambda t: frames(t / "a.dcm", PLACES[:3] * 2), "lie 0 to 2 mm apart, one is missing"),
    "frames with a gap": (lambda t: frames(t / "a.dcm", PLACES[:2] + PLACES[3:]), "apart, one is .* after frame 2"),
    "a file of frames that is cut": (lambda t: cut_frames(t / "a.dcm"), "a.dcm: not a readable DICOM slice, cut short"),
    "fewer places than frames": (
        lambda t: write_frames(t / "a.dcm", ARRAY, PLACES[:1]), "1 image positions .0020,0032. for 6 frames"
    ),
}  # fmt: skip


def cut_frames(path):
    frames(path, PLACES)
    path.write_bytes(path.read_bytes()[:-300])
    return path


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_scan_is_refused_in_one_line(tmp_path, fault, refused):
    make, message = FAULTS[fault]
    refused(make(tmp_path), message)
