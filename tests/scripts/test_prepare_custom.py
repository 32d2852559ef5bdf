"""From custom scans, made here, to a prepared dataset: arrays by hand, geometry, resuming, faults."""

import json
import shutil

import h5py
import numpy as np
import pytest
from scan_files import write_frames, write_itk, write_slices

from dataloaders.geometry import Geometry
from dataloaders.reading import read_case, read_list
from dataloaders.scans.files import read_scan, write_label, write_scan
from dataloaders.scans.preparation import restore
from scripts import check_dataset
from scripts.make_phantom import draw_geometry, make_scans
from scripts.prepare import main

pytest.importorskip("SimpleITK", reason="scans are read and resampled by SimpleITK")
pytest.importorskip("nibabel", reason="NIfTI is read and written by nibabel")

PLAIN = Geometry((10, 8, 3), (1.5, 1.5, 5.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
TILTED = Geometry(PLAIN.size, PLAIN.spacing, PLAIN.origin, (1, 0, 0, 0, 1, 0.2**0.5, 0, 0, 0.8**0.5))
NAMES = ("p1_frame01", "p1_frame02", "p2", "p3", "p4")  # p4 has no label


def arrays(name, shape=(3, 8, 10)):
    """Whole numbers, and a box of each of two labels, different for each name."""
    rng = np.random.default_rng([*name.encode()])
    label = np.zeros(shape, np.uint8)
    label[:, 2:5, 1:4], label[1:, 5:7, 6:9] = 1, 2
    return rng.integers(-200, 900, shape).astype(np.int16), label


@pytest.fixture
def source(tmp_path):
    """A folder with five scans of four patients, described as a 2-D dataset."""
    folder = tmp_path / "source"
    for name in NAMES:
        image, label = arrays(name)
        write_scan(folder / "images" / f"{name}.nii.gz", image, PLAIN)
        if name != "p4":
            write_label(folder / "labels" / f"{name}.nii.gz", label, PLAIN)
    describe(folder)
    return folder


def describe(folder, **keys):
    described = {"name": "Mine", "dims": 2, "classes": ["A", "B"], "patch_size": [16, 16], "intensity": "min-max"}
    (folder / "dataset.json").write_text(json.dumps({**described, **keys}))


def run(source, out, *flags):
    """The exit code of a call in this process."""
    try:
        main(["--name", "Custom", "--source", str(source), "--out", str(out), "--num_workers", "0", *map(str, flags)])
    except SystemExit as stop:
        return stop.code
    return 0


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def file_of(root, name):
    """A prepared scan, as a volume or as its first slice."""
    return next(path for path in (root / f"data/{name}.h5", root / f"data/slices/{name}_slice_000.h5") if path.exists())


def test_slices_volumes_and_lists(tmp_path, source, capsys):
    assert run(source, tmp_path) == 0
    root = tmp_path / "Mine"
    assert (root / "dataset.json").read_text() == (source / "dataset.json").read_text()
    train = list(dict.fromkeys(entry.rsplit("_slice_", 1)[0] for entry in read_list(root / "train_slices.list")))
    val, test = read_list(root / "val.list"), read_list(root / "test.list")
    assert sorted([*train, *val, *test]) == sorted(NAMES) and train[-1] == "p4"
    assert len(read_list(root / "train_slices.list")) == 3 * len(train)
    for name in (*val, *test):
        image, label = arrays(name)
        expected = (image - image.min()) / (float(image.max()) - image.min())
        found, found_label = read_case(root / f"data/{name}.h5", 3, 3, unit_range=True)
        assert np.allclose(found, expected, atol=1e-7) and np.array_equal(found_label, label)
    image, label = read_case(root / "data/slices/p4_slice_001.h5", 2, 3, label_required=False)
    assert label is None and image.shape == (8, 10)
    out = capsys.readouterr().out
    assert "Mine: 5 scans in" in out and "4 with a label, 0 done before" in out
    assert "of the training patients 1 have labels: --labeled_cases 1 to 1" in out
    assert (root / "scans.csv").read_text().count("\n") == 6


def test_the_same_command_goes_on_and_a_changed_description_does_not(tmp_path, source, capsys):
    assert run(source, tmp_path) == 0
    first = contents(tmp_path / "Mine")
    assert run(source, tmp_path) == 0 and contents(tmp_path / "Mine") == first
    assert "5 done before" in capsys.readouterr().out
    assert run(source, tmp_path, "--num_workers", 1) == 0
    describe(source, intensity=[0, 400])
    assert run(source, tmp_path) == 2 and contents(tmp_path / "Mine") == first
    assert (
        "exists but was made with a different preparation (min_max, window); use another --out"
        in capsys.readouterr().err
    )
    describe(source, patch_size=[32, 32])  # the arrays are the same
    assert run(source, tmp_path) == 0
    changed = contents(tmp_path / "Mine")
    assert changed.pop("dataset.json.old") == first["dataset.json"] and changed.keys() == first.keys()


def test_a_label_that_comes_later_is_taken_in(tmp_path, source, capsys):
    assert run(source, tmp_path) == 0
    write_label(source / "labels" / "p4.nii.gz", arrays("p4")[1], PLAIN)
    assert run(source, tmp_path) == 0
    assert "5 with a label, 4 done before" in capsys.readouterr().out
    with h5py.File(file_of(tmp_path / "Mine", "p4")) as file:
        assert "label" in file


def test_keys_that_are_not_used_and_a_source_that_is_not_there_are_named(tmp_path, source, capsys):
    describe(source, voxel_size=2.0, numTraining=5)
    assert run(source, tmp_path) == 0
    out = capsys.readouterr().out
    assert "dataset.json: not used here: voxel_size, numTraining" in out
    assert "the patient is taken from the scan's name; 'patient' in dataset.json changes this" in out
    assert run(tmp_path / "none", tmp_path) == 2
    assert "--source" in capsys.readouterr().err


def test_a_corrected_label_and_a_replaced_image_are_taken_in(tmp_path, source, capsys):
    assert run(source, tmp_path) == 0
    image, label = arrays("p4")
    write_scan(source / "images" / "p4.nii.gz", image + 7 * label, PLAIN)
    name = "p1_frame01"
    write_label(source / "labels" / f"{name}.nii.gz", np.roll(arrays(name)[1], 1, axis=2), PLAIN)
    assert run(source, tmp_path) == 0 and run(source, tmp_path) == 0
    out = capsys.readouterr().out
    assert "3 done before" in out and "5 done before" in out
    with h5py.File(file_of(tmp_path / "Mine", name)) as file:
        expected = np.roll(arrays(name)[1], 1, axis=2)
        assert np.array_equal(file["label"][()], expected if file["label"].ndim == 3 else expected[0])


def write_pairs(folder, pattern, numbers):
    """Two scans with labels for each number."""
    for name in (pattern.format(number, t) for number in numbers for t in (1, 2)):
        write_scan(folder / "images" / f"{name}.nii.gz", arrays(name)[0], PLAIN)
        write_label(folder / "labels" / f"{name}.nii.gz", arrays(name)[1], PLAIN)


def split_patients(root):
    """The patients of each list, as scans.csv has them: the beginning of a scan's name."""
    lists = {}
    for line in (root / "scans.csv").read_text().splitlines()[1:]:
        role, image = line.split(",")[2:4]
        lists.setdefault(role, set()).add(image.split("_")[0])
    return lists


def test_scans_of_one_patient_are_warned_of_and_what_is_proposed_keeps_them_together(tmp_path, capsys):
    folder = tmp_path / "source"
    write_pairs(folder, "P{:02d}_t{}", range(8))
    describe(folder)
    assert run(folder, tmp_path / "a") == 0
    warning = capsys.readouterr().out.splitlines()[-1]
    assert warning.startswith("WARNING: 16 names begin alike in 8 groups, as scans of one patient do, and ")
    train, val, test = split_patients(tmp_path / "a/Mine").values()
    leaks = len(train & val | train & test | val & test)
    assert leaks and f"and {leaks} of the groups are in more than one list, a leak if they are patients" in warning
    proposed = json.loads("{" + warning[warning.index('"patient"') : warning.index(" to dataset.json")] + "}")
    describe(folder, **proposed)
    assert run(folder, tmp_path / "b") == 0
    assert "WARNING" not in capsys.readouterr().out
    train, val, test = split_patients(tmp_path / "b/Mine").values()
    assert not (train & val or train & test or val & test)
    describe(folder, patient="(.+)")  # each a patient of its own: nothing is prepared again
    assert run(folder, tmp_path / "a") == 0
    out = capsys.readouterr().out
    assert "WARNING" not in out and "16 with a label, 16 done before" in out and ".list.old" not in out


def test_numbered_scans_are_not_warned_of(tmp_path, source, capsys):
    write_pairs(source, "scan_{}{}", range(4))
    assert run(source, tmp_path) == 0
    assert "WARNING" not in capsys.readouterr().out


def test_a_split_without_validation_or_test_moves_their_former_lists_away(tmp_path, source, capsys):
    assert run(source, tmp_path) == 0
    former = {role: (tmp_path / f"Mine/{role}.list").read_text() for role in ("val", "test")}
    assert "seen the new test cases" not in capsys.readouterr().out
    assert run(source, tmp_path, "--split", 100, 0, 0) == 0
    out = capsys.readouterr().out
    for role, text in former.items():
        assert not (tmp_path / f"Mine/{role}.list").exists()
        assert (tmp_path / f"Mine/{role}.list.old").read_text() == text
        assert (
            f"{role}.list of another split was kept as {role}.list.old" in out
            and f"this split has no {role} list" in out
        )
    assert "a run trained on the old ones may have seen the new test cases" in out
    train = dict.fromkeys(entry.rsplit("_slice_", 1)[0] for entry in read_list(tmp_path / "Mine/train_slices.list"))
    assert sorted(train) == sorted(NAMES)


def test_a_scan_that_takes_anothers_name_is_refused(tmp_path, source, capsys):
    describe(source, patient="^(p\\d)")
    assert run(source, tmp_path) == 0
    for folder in ("images", "labels"):
        (source / folder / "p1_frame01.nii.gz").unlink()
    assert run(source, tmp_path) == 2  # p1_frame02 would become p1's first
    error = capsys.readouterr().err
    assert "p1_frame01" in error and "exists but was made with a different source" in error


@pytest.mark.parametrize("dims", [2, 3])
def test_oblique_scans_stored_either_way_lie_alike(tmp_path, dims):
    """The way back leads to the very voxels, and both ways to store a scan give one array."""
    rng = np.random.default_rng(5)
    for body in "abc":
        image, label = arrays(body)
        geometry = draw_geometry(rng, image.shape[::-1], 3.0)
        ways = (1, image, label, geometry), (2, image[:, ::-1, ::-1], label[:, ::-1, ::-1], geometry.flipped("xy"))
        for way, image, label, geometry in ways:
            write_itk(tmp_path / "source/images" / f"{body}{way}.nrrd", image, geometry)
            write_label(tmp_path / "source/labels" / f"{body}{way}.nii.gz", label, geometry)
    describe(tmp_path / "source", dims=dims, patch_size=[16] * dims)
    assert run(tmp_path / "source", tmp_path, "--split", 1, 9, 9) == 0
    found = {}
    for path in (tmp_path / "Mine/data").glob("*.h5"):
        found[path.stem], label = read_case(path, 3, 3)
        with h5py.File(path) as file:
            facts = dict(file.attrs)
        geometries = [Geometry.from_attributes(facts, key) for key in ("grid", "scan")]
        back = restore(label, facts["axes"], facts["crop"], *geometries)
        assert np.array_equal(back, read_scan(tmp_path / "source/labels" / f"{path.stem}.nii.gz").array)
    pairs = [(found[f"{body}1"], found[f"{body}2"]) for body in "abc" if {f"{body}1", f"{body}2"} <= set(found)]
    assert pairs and all(np.array_equal(*pair) for pair in pairs)


def test_resampled_images_stay_in_range_and_labels_keep_their_volume(tmp_path):
    folder = tmp_path / "source"
    geometry = Geometry((20, 20, 6), (0.7, 0.7, 3.3), (5.0, 6.0, 7.0), PLAIN.direction)
    for name in "abc":
        label = np.zeros((6, 20, 20), np.uint8)
        label[1:5, 4:14, 5:15] = 1
        write_itk(folder / "images" / f"{name}.mha", label.astype(np.int16) * 1000, geometry)  # edges: overshoot
        write_itk(folder / "labels" / f"{name}.mha", label, geometry)
    describe(folder, spacing=[1.0, 1.4, 2.2], classes=["A"])
    assert run(folder, tmp_path) == 0
    path = next((tmp_path / "Mine/data").glob("*.h5"))
    image, label = read_case(path, 3, 2, unit_range=True)
    assert image.shape == (9, 10, 14) and 0 <= image.min() and image.max() <= 1
    assert label.sum() * 1.0 * 1.4 * 2.2 == pytest.approx(4 * 10 * 10 * 0.7 * 0.7 * 3.3, rel=0.1)
    with h5py.File(path) as file:
        assert file.attrs["spacing"].tolist() == [2.2, 1.4, 1.0]


def test_a_dicom_folder_and_a_file_of_the_same_scan_give_the_same_arrays(tmp_path):
    for name in ("a", "b", "c"):
        image, label = arrays("a")
        path = write_slices(tmp_path / "source/images" / name, image)
        if name == "b":  # an enhanced multi-frame file
            shutil.rmtree(path)
            path = write_frames(path.with_suffix(".dcm"), image, [(-10, -20, 2 * z) for z in range(len(image))])
        scan = read_scan(path)
        write_label(tmp_path / "source/labels" / f"{name}.nii.gz", label, scan.geometry)
    describe(tmp_path / "source", dims=3, patch_size=[16, 16, 16])
    assert run(tmp_path / "source", tmp_path / "dicom") == 0
    for name in ("a", "b", "c"):
        scan = read_scan(next((tmp_path / "source/images").glob(f"{name}*")))
        write_scan(tmp_path / "copy/images" / f"{name}.nii.gz", scan.array, scan.geometry)
    (tmp_path / "source/labels").rename(tmp_path / "copy/labels")
    describe(tmp_path / "copy", dims=3, patch_size=[16, 16, 16])
    assert run(tmp_path / "copy", tmp_path / "files") == 0
    both = [read_case(tmp_path / kind / "Mine/data/b.h5", 3, 3) for kind in ("dicom", "files")]
    assert np.array_equal(both[0][0], both[1][0]) and np.array_equal(both[0][1], both[1][1])
    assert both[0][0].shape == (10, 8, 3) and abs(both[0][0].mean()) < 1e-5


def test_slices_acquired_along_another_axis_are_refused(tmp_path, capsys):
    along_x = Geometry((10, 8, 3), (1.5, 1.5, 5.0), (0.0, 0.0, 0.0), (0, 0, 1, 1, 0, 0, 0, 1, 0))
    for name in "abc":
        write_scan(tmp_path / "source/images" / f"{name}.nii.gz", arrays(name)[0], along_x)
        write_label(tmp_path / "source/labels" / f"{name}.nii.gz", arrays(name)[1], along_x)
    describe(tmp_path / "source")
    assert run(tmp_path / "source", tmp_path / "out") == 2
    assert "its slices have pixels of 5 x 1.5 mm" in capsys.readouterr().err
    describe(tmp_path / "source", orientation=None)
    assert run(tmp_path / "source", tmp_path / "out") == 0


def test_scans_of_a_tilted_gantry_are_prepared_as_they_are_stored(tmp_path, source, capsys):
    for name in NAMES:
        write_scan(source / "images" / f"{name}.nii.gz", arrays(name)[0], TILTED)
        if name != "p4":
            write_label(source / "labels" / f"{name}.nii.gz", arrays(name)[1], TILTED)
    assert run(source, tmp_path) == 2
    error = capsys.readouterr().err
    assert "the preparation turns it to LPS; resample it and its label to a straight grid in a" in error
    assert error.count("\n") == error.count("error: ") == len(NAMES)
    describe(source, orientation=None)
    assert run(source, tmp_path) == 0
    with h5py.File(file_of(tmp_path / "Mine", "p2")) as file:
        stated = Geometry.from_attributes(file.attrs, "scan")
        assert np.array_equal(file["label"], arrays("p2")[1][0] if file["label"].ndim == 2 else arrays("p2")[1])
    assert stated.tilted and stated.distance(TILTED) < 1e-4
    page = ["--out", str(tmp_path / "page.html"), "--root_path", str(tmp_path / "Mine")]
    check_dataset.main(["--name", "Mine", *page])
    assert "files come from scans of a tilted gantry: " in capsys.readouterr().out
    describe(source, orientation=None, spacing=3.0)
    assert run(source, tmp_path / "other") == 2
    assert "the preparation resamples it; resample it and its label to a straight grid" in capsys.readouterr().err


FAULTS = {
    "cut short": (lambda s: (s / "images/p2.nii.gz").write_bytes(b"\x1f\x8b12"), "p2.nii.gz: damaged or cut short"),
    "no image": (lambda s: (s / "images/p2.nii.gz").unlink(), "p2.nii.gz: no image p2 in"),
    "a label too many": (
        lambda s: write_label(s / "labels/p2.nii.gz", np.full((3, 8, 10), 3), PLAIN), "label 3 found, only 0, 1, 2"),
    "other shape": (
        lambda s: write_label(s / "labels/p2.nii.gz", np.zeros((3, 8, 9)), PLAIN), "they are not of the same scan"),
    "a tilted gantry": (
        lambda s: write_scan(s / "images/p2.nii.gz", arrays("p2")[0], TILTED), "26.6 degrees off the right angle"),
    "an empty DICOM folder": (lambda s: (s / "images/p9").mkdir(), "p9: no DICOM slice in this folder"),
    "twice": (lambda s: (s / "labels/p2.nrrd").write_bytes(b""), "p2 exists twice"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_the_rest_is_done_and_no_list_is_written(tmp_path, source, capsys, fault):
    for name in ("p5", "p6"):
        write_scan(source / "images" / f"{name}.nii.gz", arrays(name)[0], PLAIN)
        write_label(source / "labels" / f"{name}.nii.gz", arrays(name)[1], PLAIN)
    damage, message = FAULTS[fault]
    damage(source)
    assert run(source, tmp_path) == 2
    captured = capsys.readouterr()
    errors = captured.err.splitlines()
    assert len(errors) == 1 and errors[0].startswith("error: ") and message in errors[0]
    assert "lists not written; fix or remove the files below" in captured.out
    root = tmp_path / "Mine"
    assert file_of(root, "p6") and file_of(root, "p1_frame02")
    assert not list(root.glob("*.list")) and not (root / "dataset.json").exists() and not list(root.rglob(".part*"))


def test_flags_and_sources_that_do_not_fit(tmp_path, source, capsys):
    for flags, message in (
        (["--split", 0, 1, 1], "--split: the share of the training must not be 0"),
        (["--check", tmp_path], "--check compares with published preparations"),
        (["--name", "Other"], "dataset.json describes Mine; give --name Mine or Custom"),
        (["--source", tmp_path], "or a custom dataset, which needs "),
        (["--slice_axes", "xy"], "--slice_axes is Synapse's"),
        (["--name", "ACDC", "--split", 1, 1, 1], "--split is Custom's, ACDC has published lists"),
    ):
        assert run(source, tmp_path / "out", *flags) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert run(source, tmp_path / "out", "--name", "Mine") == 0


def test_the_phantom_of_scans_has_what_real_ones_have(tmp_path):
    folder = make_scans("ACDC", tmp_path, train=4, val=1, test=1, shape=(4, 32, 32))
    images = sorted((folder / "images").iterdir())
    assert len(images) == 12 and len(list((folder / "labels").iterdir())) == 8
    one, turned = (read_scan(path) for path in images[:2])
    direction = np.reshape(one.geometry.direction, (3, 3))
    assert 0.02 < abs(direction - np.eye(3)).max() < 0.6 and np.allclose(direction @ direction.T, np.eye(3), atol=1e-5)
    assert np.reshape(turned.geometry.direction, (3, 3))[0, 0] < 0
    assert one.geometry.spacing[2] == pytest.approx(4 * one.geometry.spacing[0])
