"""From downloads, made here as they unpack, to files that the training reads."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from scan_files import write_slices

from dataloaders.geometry import Geometry
from dataloaders.reading import read_case, read_list, read_spacing, resolve_all
from dataloaders.registry import DATASETS, labelled_cases
from dataloaders.scans import downloads
from dataloaders.scans.files import read_scan
from dataloaders.scans.preparation import restore
from scripts.make_phantom import write_case
from scripts.prepare import main

sitk = pytest.importorskip("SimpleITK", reason="scans are read and resampled by SimpleITK")
pytest.importorskip("nibabel", reason="NIfTI is read and written by nibabel")


def write(path, array, spacing=(1.5, 1.5, 5.0), direction=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    if direction:
        image.SetDirection(direction)
    sitk.WriteImage(image, str(path), True)


def blob(shape, values=(1,), seed=0):
    """A label map with a box of each value and an image of whole numbers."""
    rng = np.random.default_rng((seed, *shape))
    label = np.zeros(shape, np.uint8)
    for place, value in enumerate(values):
        label[1:-1, 2 + place, 3:-2] = value
    return rng.integers(0, 900, shape).astype(np.int16), label


def acdc(folder, patients=("patient001", "patient002", "patient003"), shape=(3, 8, 9)):
    for number, patient in enumerate(patients):
        for frame in (1, 10):
            image, label = blob(shape, (1, 2, 3), 2 * number + frame)
            write(folder / "training" / patient / f"{patient}_frame{frame:02d}.nii.gz", image)
            write(folder / "training" / patient / f"{patient}_frame{frame:02d}_gt.nii.gz", label)
    return folder


def la(folder, cases=("A", "B"), shape=(5, 130, 140)):
    for number, case in enumerate(cases):
        image, label = blob(shape, (), number)
        label[1:-1, 60:70, 30:-30] = 255
        write(folder / "Training Set" / case / "lgemri.nrrd", image.astype(np.uint8), (0.625,) * 3)
        write(folder / "Training Set" / case / "laendo.nrrd", label, (0.625,) * 3)
    return folder


def synapse(folder, cases=("0001", "0002")):
    for number, case in enumerate(cases):
        image, label = blob((4, 20, 24), range(1, 14), number)
        write(folder / "img" / f"img{case}.nii.gz", image - 400)
        write(folder / "label" / f"label{case}.nii.gz", label)
    return folder


def pancreas(folder, cases=("0001", "0002")):
    """Labels turned in y, as NIfTI writers do."""
    for number, case in enumerate(cases):
        image = np.full((6, 50, 60), -900, np.int16)
        image[1:4, 8:20, 10:40] = 80 + number
        label = np.zeros(image.shape, np.uint8)
        label[1:3, 10:16, 14:30] = 1
        write(folder / "image" / f"image{case}.nii.gz", image, (2.0, 2.0, 2.0))
        write(folder / "label" / f"label{case}.nii.gz", label[:, ::-1], (2.0, 2.0, 2.0), (1, 0, 0, 0, -1, 0, 0, 0, 1))
    return folder


@pytest.fixture
def lists(tmp_path, monkeypatch):
    """lists(LA_train="A B") -> these stand for the published lists."""
    folder = tmp_path / "lists"
    folder.mkdir()
    monkeypatch.setattr(downloads, "LISTS", folder)

    def set_lists(**entries):
        for name, cases in entries.items():
            (folder / f"{name}.list").write_text(cases.replace(" ", "\n") + "\n")

    return set_lists


@pytest.fixture
def acdc_lists(lists):
    lists(ACDC_train_patients="patient002 patient001", ACDC_test_patients="patient003")


def run(name, source, out, *flags):
    """The exit code of a call in this process, without workers unless the flags say otherwise."""
    try:
        main(["--name", name, "--source", str(source), "--out", str(out), "--num_workers", "0", *map(str, flags)])
    except SystemExit as stop:
        return stop.code
    return 0


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def attributes(path):
    with h5py.File(path) as file:
        return dict(file.attrs)


def test_acdc_becomes_slices_and_volumes(tmp_path, acdc_lists, capsys):
    source, info = acdc(tmp_path / "download"), DATASETS["ACDC"]
    assert run("ACDC", source, tmp_path / "home") == 0
    root = tmp_path / "home" / "ACDC"
    entries = read_list(root / "train_slices.list")
    assert entries == [
        f"patient{p}_frame{f}_slice_{k}" for p in ("002", "001") for f in ("01", "02") for k in (1, 2, 3)
    ]
    assert labelled_cases(info, entries, 1, None)[0] == ["patient002"]
    assert read_list(root / "test.list") == ["patient003_frame01", "patient003_frame02"]
    read = read_scan(source / "training/patient002/patient002_frame10.nii.gz").array.astype(np.float64)
    expected = ((read - read.min()) / (read.max() - read.min())).astype(np.float32)
    for index, path in enumerate(resolve_all(root, info.slice_paths, entries[3:6], root)):
        image, label = read_case(path, 2, 4, unit_range=True)
        assert np.array_equal(image, expected[index]) and set(np.unique(label)) <= {0, 1, 2, 3}
        assert read_spacing(path) == (1.5, 1.5) and attributes(path)["slice"] == index
    path = root / "data" / "patient003_frame02.h5"
    assert read_case(path, 3, 4)[0].shape == (3, 8, 9) and read_spacing(path) == (5.0, 1.5, 1.5)
    assert attributes(path)["source"] == "patient003_frame10.nii.gz"
    assert "train_slices.list 12 slices; test.list 2 volumes" in capsys.readouterr().out


def test_synapse_orientation_is_a_flag_and_stated(tmp_path, lists, capsys):
    lists(Synapse_train="case0002", Synapse_test="case0001")
    source = synapse(tmp_path / "download")
    for axes in ("xy", "yX"):
        assert run("Synapse", source, tmp_path / axes, "--slice_axes", axes) == 0
    xy, yx = (tmp_path / axes / "Synapse" for axes in ("xy", "yX"))
    assert read_list(xy / "train_slices.list") == [f"case0002_slice_{k:03d}" for k in range(4)]
    image, label = read_case(xy / "data/case0001.h5", 3, 9)
    turned, _ = read_case(yx / "data/case0001.h5", 3, 9)
    assert image.shape == (4, 24, 20) and np.array_equal(turned, image.transpose(0, 2, 1)[:, :, ::-1])
    assert attributes(xy / "data/case0001.h5")["axes"] == "zxy" and attributes(yx / "data/case0001.h5")["axes"] == "zyX"
    assert set(np.unique(label)) == set(range(9))
    capsys.readouterr()
    assert run("Synapse", source, tmp_path / "xy", "--slice_axes", "yx") == 2  # would leave both in one folder
    assert "exists but was made with a different preparation (axes); use another --out" in capsys.readouterr().err
    assert run("ACDC", source, tmp_path / "xy", "--slice_axes", "yx") == 2


def test_la_twice_gives_the_same_bytes_and_other_seeds_other_margins(tmp_path, lists):
    lists(LA_train="B", LA_test="A")
    source = la(tmp_path / "download")
    for out, flags in (("a", ()), ("b", ("--num_workers", 2)), ("c", ("--seed", 7))):
        assert run("LA", source, tmp_path / out, *flags) == 0
    first, again, other = (contents(tmp_path / out) for out in "abc")
    assert first == again and first.keys() == other.keys() and first != other
    path = tmp_path / "a/LA/2018LA_Seg_Training Set/A/mri_norm2.h5"
    image, label = read_case(path, 3, 2)
    facts = attributes(path)
    assert image.shape == label.shape == tuple(np.diff(facts["crop"]).ravel()) and min(image.shape[:2]) >= 112
    geometry = [Geometry.from_attributes(facts, key) for key in ("grid", "scan")]
    back = restore(label, facts["axes"], facts["crop"], *geometry)
    assert np.array_equal(back, read_scan(source / "Training Set/A/laendo.nrrd").array == 255)
    assert facts["seed"] == 1337 and read_spacing(path) == (0.625, 0.625, 0.625)


def test_pancreas_finds_the_flip_and_goes_on_without_the_withdrawn(tmp_path, lists, capsys):
    lists(Pancreas_train="image0070 image0001", Pancreas_test="image0002 image0025")
    source = pancreas(tmp_path / "download")
    assert run("Pancreas", source, tmp_path / "home") == 0
    assert "missing as in every download since 2020: image0070, image0025" in capsys.readouterr().out
    root = tmp_path / "home" / "Pancreas"
    assert read_list(root / "train.list") == ["image0001"] and read_list(root / "test.list") == ["image0002"]
    path = root / "Pancreas_h5" / "image0001.h5"
    image, label = read_case(path, 3, 2)
    assert attributes(path)["label_flip"] == "y" and read_spacing(path) == (1, 1, 1)
    assert image.shape[2] == 12 and label.sum() == 32 * 12 * 4 and abs(image.mean()) < 1e-5
    assert image[label == 1].min() > 2 > 0 > np.median(image)  # the label is on the one tissue
    path = source / "label" / "label0001.nii.gz"
    write(path, np.roll(read_scan(path).array, 25, axis=2))
    assert run("Pancreas", source, tmp_path / "other") == 2
    assert "no flip puts it clearly on the soft tissue" in capsys.readouterr().err
    assert run("Pancreas", source, tmp_path / "other", "--label_flip", "y") == 0


def test_a_dicom_series_and_its_converted_copy_give_the_same_case(tmp_path, lists):
    lists(Pancreas_train="image0001", Pancreas_test="image0002")
    source = pancreas(tmp_path / "download")
    for case in ("0001", "0002"):
        scan = read_scan(source / "image" / f"image{case}.nii.gz")
        folder = tmp_path / "dicom" / f"PANCREAS_{case}" / "1.2" / "1.3"
        write_slices(folder, scan.array, spacing=scan.geometry.spacing)
        shutil.copytree(source / "label", tmp_path / "dicom" / "labels", dirs_exist_ok=True)
    for name in ("download", "dicom"):
        assert run("Pancreas", tmp_path / name, tmp_path / "home" / name) == 0
    assert run("Pancreas", tmp_path / "dicom", tmp_path / "home/dicom", "--check", tmp_path / "home/download") == 0


def test_missing_cases_are_named_at_once_and_the_rest_is_done(tmp_path, lists, capsys):
    lists(ACDC_train_patients="patient002 patient009 patient001 patient008", ACDC_test_patients="patient003")
    assert run("ACDC", acdc(tmp_path / "download"), tmp_path / "home") == 1
    out = capsys.readouterr().out
    assert "missing from the download, 2: patient009, patient008\n" in out
    assert "train_slices.list not written, 4 of its 8 cases are missing; test.list 2 volumes" in out
    root = tmp_path / "home" / "ACDC"
    assert len(list((root / "data/slices").iterdir())) == 12 and not (root / "train_slices.list").exists()
    acdc(tmp_path / "download", ["patient008", "patient009"])  # they have come
    assert run("ACDC", tmp_path / "download", tmp_path / "home") == 0
    assert len(read_list(root / "train_slices.list")) == 24


def gt(source):
    return source / "training/patient001/patient001_frame10_gt.nii.gz"


def image_of(source):
    return source / "training/patient001/patient001_frame10.nii.gz"


FAULTS = {
    "truncated gz": (lambda s: image_of(s).write_bytes(image_of(s).read_bytes()[:300]), "damaged or cut short"),
    "4-D": (lambda s: sitk.WriteImage(sitk.Image([4, 4, 4, 2], sitk.sitkInt16), str(image_of(s))), "4 axes"),
    "RGB": (
        lambda s: sitk.WriteImage(sitk.Image([4, 4, 4], sitk.sitkVectorUInt8, 3), str(image_of(s))),
        "3 values per",
    ),
    "NaN": (lambda s: write(image_of(s), np.full((3, 8, 9), np.nan, np.float32)), "216 voxels are NaN"),
    "float labels": (lambda s: write(gt(s), np.full((3, 8, 9), 0.5, np.float32)), "labels must be whole numbers"),
    "13 classes": (lambda s: write(gt(s), np.full((3, 8, 9), 13, np.uint8)), "label 13 found, only 0, 1, 2, 3"),
    "other shape": (lambda s: write(gt(s), np.ones((3, 9, 9), np.uint8)), "not of the same scan"),
    "other spacing": (
        lambda s: write(gt(s), np.ones((3, 8, 9), np.uint8), (1.5, 1.5, 9.0)),
        "mm apart by their headers",
    ),
    "constant": (lambda s: write(image_of(s), np.ones((3, 8, 9), np.int16)), "every voxel is 1"),
    "a missing frame": (lambda s: gt(s).unlink(), "1 of 2 annotated frames"),
    "a frame without image": (lambda s: image_of(s).unlink(), "no image next to it"),
}


@pytest.mark.parametrize("fault, workers", [*((fault, 0) for fault in FAULTS), ("13 classes", 1)])
def test_a_damaged_case_is_one_line_and_the_rest_is_done(tmp_path, acdc_lists, capfd, fault, workers):
    source = acdc(tmp_path / "download")
    damage, message = FAULTS[fault]
    damage(source)
    assert run("ACDC", source, tmp_path / "home", "--num_workers", workers) == 2
    errors = capfd.readouterr().err.splitlines()
    assert len(errors) == 1 and errors[0].startswith("error: ") and message in errors[0] and "patient001" in errors[0]
    files = contents(tmp_path / "home" / "ACDC")
    whole = 6 if "frame" in fault else 9  # slices; and two volumes and their list
    assert len(files) == whole + 3 and "train_slices.list" not in files and not any(".part" in name for name in files)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_ends_it_in_one_line(tmp_path, acdc_lists, capsys, monkeypatch, workers):
    if workers:  # a folder that cannot be made stands for it: a patch does not reach the workers
        (tmp_path / "home" / "ACDC").mkdir(parents=True)
        (tmp_path / "home" / "ACDC" / "data").write_text("in the way")
    else:
        monkeypatch.setattr("pathlib.Path.write_bytes", full_disk)
    assert run("ACDC", acdc(tmp_path / "download"), tmp_path / "home", "--num_workers", workers) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and "cannot be written (" in errors[0] and "then run the same command again" in errors[0]
    assert not list((tmp_path / "home").rglob("*.h5")) and not list((tmp_path / "home").rglob(".part*"))


def full_disk(path, content):
    with open(path, "wb") as file:
        file.write(content[: len(content) // 2])
    raise OSError(28, "No space left on device")


def test_nothing_is_overwritten(tmp_path, acdc_lists, capsys):
    source, root = acdc(tmp_path / "download"), tmp_path / "home" / "ACDC"
    root.mkdir(parents=True)
    (root / "test.list").write_text("mine\n")
    (root / "data").mkdir()
    for content in (b"junk", None):
        path = root / "data" / "patient003_frame02.h5"
        if content:
            path.write_bytes(content)
        else:
            with h5py.File(path, "w") as file:
                file["image"] = np.zeros(3)
        before = contents(root)
        assert run("ACDC", source, tmp_path / "home") == 2 and contents(root) == before
        assert "patient003_frame02.h5: exists but" in capsys.readouterr().err
    path.unlink()
    assert run("ACDC", source, tmp_path / "home") == 0
    assert (root / "test.list.old").read_text() == "mine\n"


def test_check_reports_each_difference(tmp_path, acdc_lists, capsys):
    source = acdc(tmp_path / "download")
    assert run("ACDC", source, tmp_path / "a") == 0 and run("ACDC", source, tmp_path / "b") == 0
    assert run("ACDC", source, tmp_path / "a", "--check", tmp_path / "b", "--check", tmp_path / "b/ACDC") == 0
    assert "6 the same, 0 the same except for the margin, 0 different, 0 not there" in capsys.readouterr().out
    data = tmp_path / "b/ACDC/data"
    with h5py.File(data / "patient003_frame01.h5", "r+") as file:
        file["image"][0, 0, 0] += 0.25
    with h5py.File(data / "slices/patient001_frame02_slice_2.h5", "r+") as file:
        file["label"][0, 0] = 3
    (data / "slices/patient002_frame01_slice_1.h5").unlink()
    (data / "patient003_frame02.h5").unlink()
    assert run("ACDC", source, tmp_path / "a", "--check", tmp_path / "b") == 1
    out = capsys.readouterr().out
    assert "patient003_frame01: image differs by up to 0.25, 0 voxels have another label\n" in out
    assert (
        "patient001_frame02: image differs by up to 0, 1 voxels have another label (1 of 3 slices, 0 not there)" in out
    )
    assert "patient002_frame01: (0 of 3 slices, 1 not there)" in out and "patient003_frame02: not there" in out
    assert (
        "2 the same, 0 the same except for the margin, 3 different, 1 not there; image values differ by up to 0.25"
        in out
    )
    assert run("ACDC", source, tmp_path / "a", "--check", tmp_path / "none") == 2
    assert run("ACDC", source, tmp_path / "a", "--check", tmp_path / "download") == 2


def test_check_reads_transunets_own_files(tmp_path, lists, capsys):
    lists(Synapse_train="case0002", Synapse_test="case0001")
    source, existing = synapse(tmp_path / "download"), tmp_path / "existing"
    assert run("Synapse", source, tmp_path / "home") == 0
    for path in (tmp_path / "home" / "Synapse" / "data").rglob("*.h5"):
        image, label = read_case(path, 2 if "slice" in path.name else 3, 9)
        if "slice" in path.name:
            write_case(
                existing / "train_npz" / path.name.replace("_slice_", "_slice").replace(".h5", ".npz"), image, label
            )
        else:
            write_case(existing / "test_vol_h5" / path.name.replace(".h5", ".npy.h5"), image, label)
    assert run("Synapse", source, tmp_path / "home", "--check", existing) == 0
    assert "2 the same, 0 the same except for the margin, 0 different, 0 not there" in capsys.readouterr().out


def test_check_looks_past_the_random_margin(tmp_path, lists, capsys):
    lists(LA_train="B", LA_test="A")
    source = la(tmp_path / "download")
    assert run("LA", source, tmp_path / "a") == 0 and run("LA", source, tmp_path / "b", "--seed", 2) == 0
    assert run("LA", source, tmp_path / "a", "--check", tmp_path / "b") == 0
    assert "0 the same, 2 the same except for the margin" in capsys.readouterr().out


def test_empty_and_missing_source(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run("ACDC", tmp_path / "empty", tmp_path / "home") == 2
    assert "nothing of ACDC in it, expected training/patient001" in capsys.readouterr().err
    assert run("ACDC", tmp_path / "none", tmp_path / "home") == 2
    assert not (tmp_path / "home").exists()


def living(group):
    """The processes of a group that run, from Linux' list of them."""
    stats = [path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
    return [stat for stat in stats if int(stat[2]) == group and stat[0] != "Z"]


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, root, kill_after):
    """With the real lists: a hundred small patients, two workers, SIGKILL, the same command again."""
    source = acdc(tmp_path / "download", [f"patient{number:03d}" for number in range(1, 101)], (2, 6, 6))
    command = ["--name", "ACDC", "--source", source, "--num_workers", "2", "--out"]
    command = [sys.executable, root / "scripts/prepare.py", *command]
    assert subprocess.run([*command, tmp_path / "whole"], capture_output=True).returncode == 0
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([*command, tmp_path / "killed"], stdout=quiet, stderr=quiet, start_new_session=True)
    kill_after(process, tmp_path / "killed/ACDC/data/slices")
    deadline = time.time() + 20
    while living(process.pid) and time.time() < deadline:
        time.sleep(0.05)
    assert not living(process.pid)  # the workers went with it
    for path in (tmp_path / "killed").rglob("[!.]*.h5"):
        read_case(path, 2 if "slice" in path.name else 3, 4)
    result = subprocess.run([*command, tmp_path / "killed"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert len(read_list(tmp_path / "whole/ACDC/train_slices.list")) == 280
