"""--predict of the test scripts: files in, files out, and what is refused."""

import csv
import errno
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import h5py
import numpy as np
import pytest
import torch
from scan_files import write_dicom, write_frames, write_itk, write_slices

import test_2d
import test_3d
from dataloaders.files import write_h5
from dataloaders.geometry import Geometry
from dataloaders.registry import DATASETS, PREPARATIONS
from dataloaders.scans.files import read_scan, write_scan
from dataloaders.scans.preparation import attributes, prepare
from dataloaders.scans.scan import flip
from networks import net_factory
from utils.prediction.colour_tables import ITK_SNAP, SLICER

sitk = pytest.importorskip("SimpleITK", reason="scans are read and resampled by SimpleITK")
nibabel = pytest.importorskip("nibabel", reason="NIfTI is read and written by nibabel")

STRAIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
TURNED = (0.6, -0.8, 0.0, 0.8, 0.6, 0.0, 0.0, 0.0, -1.0)
SPACING = (1.5, 1.25, 8.0)


def run(script, *flags):
    """The exit code of a call in this process."""
    try:
        return script.main([str(flag) for flag in flags])
    except SystemExit as stop:
        return stop.code


@pytest.fixture
def acdc_weights(tmp_path, fill):
    """A file as training writes it, of a network that was not trained: its masks are wild, all classes in them."""
    info = DATASETS["ACDC"]
    dataset = {"name": "ACDC", "dims": 2, "classes": list(info.classes), "patch_size": [32, 32], "stride": None}
    path = tmp_path / "runs" / "best.pth"
    path.parent.mkdir()
    dataset["preparation"] = asdict(PREPARATIONS["ACDC"])
    torch.save({"net": fill(net_factory("unet", 1, 4), 3).state_dict(), "dataset": dataset}, path)
    return path


def scan(path, seed=0, shape=(3, 37, 40), direction=STRAIGHT):
    """A smooth random int16 scan, in HU or so."""
    field = np.random.default_rng(seed).standard_normal((shape[0], 8, 8)).repeat(8, 1).repeat(8, 2)
    array = (200 * field[:, : shape[1], : shape[2]]).astype(np.int16)
    write_scan(path, array, Geometry(shape[::-1], SPACING, (3.0, -4.0, 5.0), direction))
    return path


def predict(weights, source, *flags, script=test_2d):
    return run(script, "--predict", source, "--weights", weights, *flags)


def array(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_label_maps_are_those_of_the_test(tmp_path, acdc_weights, fill):
    """The test reads h5 files made of the same scans."""
    root, scans = tmp_path / "ACDC", tmp_path / "scans"
    names = []
    for seed, (shape, direction) in enumerate((((3, 37, 40), STRAIGHT), ((2, 48, 32), TURNED), ((1, 33, 63), TURNED))):
        name = f"patient{seed:03d}_frame01"
        source = read_scan(scan(scans / f"{name}.nii.gz", seed, shape, direction))
        prepared = prepare(source, PREPARATIONS["ACDC"])
        write_h5(
            root / "data" / f"{name}.h5",
            prepared.image,
            np.zeros(shape, np.uint8),
            attributes(prepared, PREPARATIONS["ACDC"]),
        )
        names.append(name)
    (root / "test.list").write_text("\n".join(names))
    for flags in ((), ("--nms",)):
        assert run(test_2d, "--output_dir", acdc_weights.parent, "--root_path", root, *flags) == 0
        out = tmp_path / f"out{len(flags)}"
        assert predict(acdc_weights, scans, "--out", out, "--batch_size", "2", *flags) == 0
        for name in names:
            with h5py.File(acdc_weights.parent / f"test_best/predictions/{name}.h5") as file:
                expected = file["prediction"][()]
            assert np.array_equal(array(out / f"{name}.nii.gz"), expected) and len(np.unique(expected)) > 2


def test_volumes_on_screen_and_in_the_table(tmp_path, acdc_weights, capsys):
    source, out = scan(tmp_path / "a.nii.gz"), tmp_path / "out"
    assert predict(acdc_weights, source, "--out", out) == 0
    said = capsys.readouterr().out
    label = array(out / "a.nii.gz")
    with open(out / "volumes.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["file"] == str(source)
    for index, name in enumerate(("RV", "Myo", "LV"), 1):
        millilitres = (label == index).sum() * 1.5 * 1.25 * 8 / 1000
        assert float(row[f"{name} ml"]) == pytest.approx(millilitres, rel=1e-5)
        assert f"{name} {millilitres:.4g} ml" in said
    assert "preparation as in training: min_max True, axes zyx" in said and "device: " in said
    assert "axes: scans are used as stored" in said
    about = json.loads((out / "prediction.json").read_text())
    assert about["decides"]["dataset"] == "ACDC" and about["weights"] == str(acdc_weights)


def test_probabilities_lie_where_the_scan_lies(tmp_path, acdc_weights):
    source, out = scan(tmp_path / "a.nii.gz", direction=TURNED), tmp_path / "out"
    assert predict(acdc_weights, source, "--out", out, "--save_probabilities") == 0
    images = [sitk.ReadImage(str(out / f"a_probability_{index}.nii.gz")) for index in range(4)]
    label = sitk.ReadImage(str(out / "a.nii.gz"))
    given = sitk.ReadImage(str(source))
    for image in (label, *images):
        assert (image.GetDirection(), image.GetOrigin()) == (given.GetDirection(), given.GetOrigin())
    scores = np.stack([sitk.GetArrayFromImage(image) for image in images])
    assert scores.dtype == np.float32 and np.allclose(scores.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(scores.argmax(axis=0), sitk.GetArrayFromImage(label)) and label.GetPixelID() == sitk.sitkUInt8


def test_a_dicom_series_its_nifti_and_its_nrrd_give_the_same(tmp_path, acdc_weights):
    hu = array(scan(tmp_path / "made.nii.gz"))
    series = write_slices(tmp_path / "in" / "series", hu, spacing=SPACING)
    read = read_scan(series)
    write_scan(tmp_path / "in" / "b.nii.gz", read.array, read.geometry)
    for name in ("c.NRRD", "d.mha"):
        write_itk(tmp_path / "in" / name, read.array, read.geometry)
    assert predict(acdc_weights, tmp_path / "in", "--out", tmp_path / "out") == 0
    assert predict(acdc_weights, series, "--out", tmp_path / "alone") == 0
    one = array(tmp_path / "alone" / "series.nii.gz")
    assert len(np.unique(one)) == 4
    for name in ("series", "b", "c", "d"):
        assert np.array_equal(array(tmp_path / "out" / f"{name}.nii.gz"), one)
        found = read_scan(tmp_path / "out" / f"{name}.nii.gz").geometry
        assert found.distance(read.geometry) < 1e-4


def test_every_form_of_a_nifti_scan_gets_the_plain_ones_label_map(tmp_path, acdc_weights, capsys):
    """Sheared a little, of a tilted gantry, NIfTI-2, a pair: voxel for voxel, on their own grids, in millilitres."""
    hu, folder, out = array(scan(tmp_path / "in" / "plain.nii.gz")), tmp_path / "in", tmp_path / "out"
    straight = nibabel.load(folder / "plain.nii.gz").affine
    affines = {"plain": straight, "second": straight, "pair": straight}
    for name, degrees in (("sheared", 0.1), ("tilted", 20)):
        affines[name] = straight.copy()
        affines[name][1, 2] += 8 * np.tan(np.radians(degrees))
    nibabel.save(nibabel.Nifti2Image(hu.T, straight), folder / "second.nii")
    nibabel.save(nibabel.Nifti1Pair(hu.T, straight), folder / "pair.hdr")
    for name in ("sheared", "tilted"):
        nibabel.save(nibabel.Nifti1Image(hu.T, affines[name]), folder / f"{name}.nii.gz")
    assert predict(acdc_weights, folder, "--out", out) == 0
    said = capsys.readouterr().out
    assert said.count("WARNING") == 1 and "tilted.nii.gz: its axes are 20.0 degrees off the right angle" in said
    with open(out / "volumes.csv", newline="") as file:
        rows = {row["file"].split("/")[-1].split(".")[0]: row for row in csv.DictReader(file)}
    assert rows.keys() == affines.keys()
    plain = nibabel.load(out / "plain.nii.gz").get_fdata()
    assert len(np.unique(plain)) == 4
    for name, affine in affines.items():
        written = nibabel.load(out / f"{name}.nii.gz")
        assert np.array_equal(written.get_fdata(), plain) and np.allclose(written.affine, affine, atol=1e-4)
        millilitres = (plain == 1).sum() * abs(np.linalg.det(affine[:3, :3])) / 1000
        assert float(rows[name]["RV ml"]) == pytest.approx(millilitres, rel=1e-5)


def test_an_enhanced_dicom_file_gets_the_label_map_of_its_series(tmp_path, acdc_weights):
    hu = array(scan(tmp_path / "made.nii.gz"))
    series = write_slices(tmp_path / "in" / "series", hu)
    write_frames(tmp_path / "in" / "frames.dcm", hu, [(-10, -20, 2 * z) for z in range(len(hu))])
    assert predict(acdc_weights, tmp_path / "in", "--out", tmp_path / "out") == 0
    assert predict(acdc_weights, series, "--out", tmp_path / "alone") == 0
    one, *others = (
        nibabel.load(tmp_path / name) for name in ("alone/series.nii.gz", "out/series.nii.gz", "out/frames.nii.gz")
    )
    for other in others:
        assert np.array_equal(one.get_fdata(), other.get_fdata()) and np.allclose(one.affine, other.affine)


@pytest.mark.parametrize("axes", ["y", "xz", "xyz"])
def test_a_converter_that_stores_a_series_the_other_way_round_changes_nothing(tmp_path, acdc_weights, axes, capsys):
    stated = torch.load(acdc_weights, weights_only=True)
    stated["dataset"]["orientation"] = "LPS"
    torch.save(stated, acdc_weights)
    series = write_slices(tmp_path / "in" / "series", array(scan(tmp_path / "made.nii.gz")), spacing=SPACING)
    converted = flip(read_scan(series), axes)
    write_scan(tmp_path / "in" / "converted.nii.gz", converted.array, converted.geometry)
    assert predict(acdc_weights, tmp_path / "in", "--out", tmp_path / "out", "--save_probabilities") == 0
    assert "axes: the training scans were stored as LPS" in capsys.readouterr().out
    for name in ("", "_probability_1"):
        one, other = (read_scan(tmp_path / "out" / f"{what}{name}.nii.gz") for what in ("series", "converted"))
        assert len(np.unique(one.array)) >= 4 and np.array_equal(flip(other, axes).array, one.array)


def test_a_faulty_scan_is_one_line_and_the_others_are_done(tmp_path, acdc_weights, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    for index, name in enumerate("abc"):
        scan(folder / f"{name}.nii.gz", index)
    (folder / "b.nii.gz").write_bytes((folder / "b.nii.gz").read_bytes()[:300])
    (folder / "notes.txt").write_text("not a scan")
    assert predict(acdc_weights, folder, "--out", out) == 1
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1 and "b.nii.gz: damaged or cut short" in said.err
    names = ["a.nii.gz", "c.nii.gz", ITK_SNAP, SLICER, "prediction.json", "volumes.csv"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert '"Myo"' in (out / ITK_SNAP).read_text() and " LV " in (out / SLICER).read_text()
    assert "[3/3]" in said.out and "2 of 3 scans predicted" in said.out

    before = (out / "a.nii.gz").stat().st_mtime_ns  # fixed, and once more: what exists stays
    scan(folder / "b.nii.gz", 1)
    assert predict(acdc_weights, folder, "--out", out) == 0
    assert (out / "a.nii.gz").stat().st_mtime_ns == before and capsys.readouterr().out.count("skipped, exists: ") == 2
    assert len((out / "volumes.csv").read_text().splitlines()) == 4


DAMAGED = {
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:200]), "damaged or cut short"),
    "no scan": (lambda path: path.write_bytes(b"nothing"), "not a NIfTI file"),
    "4-D": (lambda path: sitk.WriteImage(sitk.Image([4, 4, 4, 2], sitk.sitkInt16), str(path)), "4 axes"),
    "constant": (lambda path: sitk.WriteImage(sitk.Image([4, 4, 4], sitk.sitkInt16), str(path)), "every voxel is 0"),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_a_damaged_scan_alone_leaves_nothing(tmp_path, acdc_weights, capsys, fault):
    damage, message = DAMAGED[fault]
    path = scan(tmp_path / "a.nii.gz")
    damage(path)
    assert predict(acdc_weights, path, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and message in error and "a.nii.gz" in error
    assert not (tmp_path / "out").exists()


def test_a_full_disk_ends_it_in_one_line(tmp_path, acdc_weights, capsys, monkeypatch):
    scan(tmp_path / "in" / "a.nii.gz")
    scan(tmp_path / "in" / "b.nii.gz")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert predict(acdc_weights, tmp_path / "in", "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "cannot be written (No space left on device); make room" in error


def test_nothing_is_overwritten(tmp_path, acdc_weights, capsys):
    source, out = scan(tmp_path / "a.nii.gz"), tmp_path / "out"

    def refused(message, *flags, source=source):
        before = sorted((path.name, path.read_bytes()) for path in out.iterdir())
        assert predict(acdc_weights, source, "--out", out, *flags) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and message in error
        assert sorted((path.name, path.read_bytes()) for path in out.iterdir()) == before

    out.mkdir()
    (out / "a.nii.gz").write_text("mine")
    refused("holds other files, name a new or an empty folder")
    (out / "a.nii.gz").unlink()
    assert predict(acdc_weights, source, "--out", out) == 0
    capsys.readouterr()
    refused("holds predictions with other --nms; use another --out", "--nms")
    refused("holds predictions with other --save_probabilities", "--save_probabilities")
    refused(f"a.nii.gz exists already, for {source}", source=scan(tmp_path / "other" / "a.nii.gz", 5))


def test_a_scan_that_was_replaced_is_predicted_again(tmp_path, acdc_weights, capsys):
    source, out = scan(tmp_path / "a.nii.gz"), tmp_path / "out"
    for seed, again in ((0, False), (0, True), (5, False)):
        scan(source, seed)
        assert predict(acdc_weights, source, "--out", out) == 0
        assert ("skipped, exists: " in capsys.readouterr().out) is again
    assert predict(acdc_weights, scan(tmp_path / "b.nii.gz", 5), "--out", tmp_path / "new") == 0
    assert np.array_equal(array(out / "a.nii.gz"), array(tmp_path / "new" / "b.nii.gz"))


def test_a_series_deep_in_an_export_is_found_and_two_are_not_guessed_at(tmp_path, acdc_weights, capsys):
    hu = array(scan(tmp_path / "made.nii.gz"))
    for number, series in enumerate(("pat1/study/series", "pat2/study/one", "pat2/study/two")):
        write_slices(tmp_path / "in" / series, hu + number, spacing=SPACING)
    assert predict(acdc_weights, tmp_path / "in", "--out", tmp_path / "out") == 1
    assert "pat2: 2 folders in it hold DICOM slices" in capsys.readouterr().err
    assert predict(acdc_weights, tmp_path / "in/pat1/study/series", "--out", tmp_path / "alone") == 0
    assert np.array_equal(array(tmp_path / "out/pat1.nii.gz"), array(tmp_path / "alone/series.nii.gz"))


def test_sources_that_are_none_or_ambiguous(tmp_path, acdc_weights, capsys):
    def refused(source, message):
        assert predict(acdc_weights, source, "--out", tmp_path / "out") == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and message in error

    refused(tmp_path / "none", "no such file or folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no scan in this folder")
    write_dicom(tmp_path / "plan" / "a.dcm", "1.2.840.10008.5.1.4.1.1.481.5", {})
    refused(tmp_path / "plan", "a.dcm: a DICOM object without pixels")
    scan(tmp_path / "two" / "a.nii.gz")
    (tmp_path / "two" / "a.nrrd").touch()
    refused(tmp_path / "two", "its label map would have the name of a.nii.gz's")
    write_slices(tmp_path / "mixed", np.zeros((2, 8, 8), np.int16))
    scan(tmp_path / "mixed" / "a.nii.gz")
    refused(tmp_path / "mixed", "DICOM slices next to a.nii.gz")


def test_flags_belong_to_one_mode(tmp_path, capsys):
    for flags, message in (
        (("--predict", "x", "--weights", "w", "--figures", "--unit", "mm"), "--unit --figures: for a test, not with"),
        (("--predict", "x", "--weights", "w", "--output_dir", "o"), "--output_dir: for a test, not with --predict"),
        (("--output_dir", "o", "--weights", "w"), "--weights: only with --predict"),
        (
            ("--predict", "x", "--weights", "w", "--patch_size", "32", "40"),
            "--patch_size 32 40: each must be divisible",
        ),
        (("--predict", "x"), "--predict needs --weights FILE"),
    ):
        assert run(test_2d, *flags) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and message in error


def test_foreign_weights_need_the_datasets_name(tmp_path, acdc_weights, fill, capsys):
    source, bare = scan(tmp_path / "a.nii.gz"), tmp_path / "unet_best_model.pth"
    torch.save(fill(net_factory("unet", 1, 4), 3).state_dict(), bare)
    flags = ("--patch_size", "32", "32", "--out", tmp_path / "bare")
    assert predict(bare, source, *flags) == 2
    assert "does not record its dataset; name it with --name" in capsys.readouterr().err
    assert predict(bare, source, *flags, "--name", "ACDC") == 0
    assert predict(acdc_weights, source, "--out", tmp_path / "own") == 0
    assert np.array_equal(array(tmp_path / "bare" / "a.nii.gz"), array(tmp_path / "own" / "a.nii.gz"))
    capsys.readouterr()
    for weights, script, name, message in (
        (bare, test_2d, "Synapse", "parameters do not fit this network"),
        (bare, test_3d, "LA", "weights of a 2-D network, LA is 3-D"),
        (acdc_weights, test_2d, "Synapse", "weights of ACDC, not of Synapse"),
        (acdc_weights, test_3d, None, "ACDC is a 2-D dataset; use test_2d.py"),
    ):
        named = () if name is None else ("--name", name)
        assert predict(weights, source, "--out", tmp_path / "no", *named, script=script) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and message in error


def test_foreign_weights_of_an_own_dataset_take_its_description(tmp_path, fill, capsys, monkeypatch):
    monkeypatch.delenv("DATASET_HOME", raising=False)
    described = {"name": "Mine", "dims": 2, "classes": ["a"], "patch_size": [32, 32], "intensity": [-50, 200]}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    torch.save(fill(net_factory("unet", 1, 2), 3).state_dict(), tmp_path / "bare.pth")
    flags = ("--name", "Mine", "--root_path", tmp_path, "--out", tmp_path / "out")
    assert predict(tmp_path / "bare.pth", scan(tmp_path / "a.nii.gz"), *flags) == 0
    assert "preparation as in training: orientation LPS, window (-50.0, 200.0)" in capsys.readouterr().out


@pytest.fixture
def pancreas_weights(tmp_path, fill):
    """A 3-D network that was not trained, on crops of its own size; stride as a run states it."""
    preparation = replace(PREPARATIONS["Pancreas"], spacing=4.0, least=(16, 16), margin=(2, 2))
    dataset = {"name": "Pancreas", "dims": 3, "classes": ["pancreas"], "patch_size": [16] * 3, "stride": [8, 8]}
    path = tmp_path / "last.pth"
    dataset["preparation"] = asdict(preparation)
    torch.save({"net": fill(net_factory("vnet", 1, 2, 3), 2).state_dict(), "dataset": dataset}, path)
    return path


def test_3d_as_a_command(tmp_path, root, pancreas_weights, monkeypatch):
    """In processes of their own; the CT is turned to DICOM's axes and back, so that its orientation does not matter."""
    source = scan(tmp_path / "in" / "ct.nii.gz", shape=(12, 64, 64))
    turned = sitk.DICOMOrient(sitk.ReadImage(str(source)), "PSR")
    sitk.WriteImage(turned, str(tmp_path / "in" / "turned.nii.gz"))
    command = [sys.executable, root / "test_3d.py", "--predict", tmp_path / "in", "--weights", pancreas_weights]
    result = subprocess.run([*command, "--out", tmp_path / "out"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "coverage: training saw crops around the ground truth; here a first pass" in result.stdout
    label = sitk.ReadImage(str(tmp_path / "out" / "ct.nii.gz"))
    back = sitk.DICOMOrient(sitk.ReadImage(str(tmp_path / "out" / "turned.nii.gz")), "LPS")
    one, other = sitk.GetArrayFromImage(label), sitk.GetArrayFromImage(back)
    assert 0 < one.mean() < 1 and (one != other).mean() < 1e-3
    monkeypatch.chdir(tmp_path)
    assert predict(pancreas_weights, source, "--one_pass", "--stride", "16", "16", script=test_3d) == 0
    assert (tmp_path / "predictions" / "ct.nii.gz").exists()


def test_two_calls_into_one_folder_are_kept_apart(tmp_path, acdc_weights, occupied, capsys):
    source, out = scan(tmp_path / "a.nii.gz"), tmp_path / "masks"
    holder = occupied(out)
    assert predict(acdc_weights, source, "--out", out) == 2
    assert f"{out}: in use by process {holder.pid} on" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == [".lock"]
    holder.kill()  # which leaves its file behind
    holder.wait()
    assert predict(acdc_weights, source, "--out", out) == 0
    assert predict(acdc_weights, source, "--out", out) == 0 and "skipped, exists: " in capsys.readouterr().out
