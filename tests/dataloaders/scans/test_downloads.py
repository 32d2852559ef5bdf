"""The official downloads in the ways they unpack; empty files stand for scans."""

import pytest

from dataloaders.files import InputError
from dataloaders.scans.downloads import find_cases, published_cases

BTCV, TCIA = "Abdomen/RawData/Training", "TCIA_pancreas_labels-02-05-2017"


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


@pytest.mark.parametrize(
    "name, files, case",
    [
        ("Synapse", (f"{BTCV}/img/img0001.nii.gz", f"{BTCV}/label/label0001.nii.gz"), "case0001"),
        ("Synapse", ("imagesTr/img0040.nii", "labelsTr/label0040.nii"), "case0040"),
        ("LA", ("2018LA_Seg_Training Set/AB1/lgemri.nrrd", "2018LA_Seg_Training Set/AB1/laendo.nrrd"), "AB1"),
        ("LA", ("Training Set/AB1/lgemri.nrrd", "Training Set/AB1/laendo.nrrd", "Training Set/AB1/desktop.ini"), "AB1"),
        ("Pancreas", ("Pancreas-CT/PANCREAS_0001/a.b/c.d/1-001.dcm", f"{TCIA}/label0001.nii.gz"), "image0001"),
        ("Pancreas", ("PANCREAS_0082/1.dcm", "label/label0082.nii.gz"), "image0082"),
        ("Pancreas", ("image/image0003.nii.gz", "label/label0003.nii.gz"), "image0003"),
    ],
)  # fmt: skip
def test_one_case_of_each_layout(tmp_path, name, files, case):
    whole, faults = find_cases(name, touch(tmp_path, *files))
    image = tmp_path / files[0]
    assert whole == {case: (image.parent if image.suffix == ".dcm" else image, tmp_path / files[1])} and faults == {}


@pytest.mark.parametrize(
    "folder, suffix", [("ACDC/training", ".nii.gz"), ("database/training", ".nii"), (".", ".nii.gz")]
)
def test_acdc_takes_the_two_annotated_frames_in_order_of_time(tmp_path, folder, suffix):
    frames = ("_frame01", "_frame01_gt", "_frame12", "_frame12_gt", "_4d", "_frame02")
    touch(tmp_path, *(f"{folder}/patient001/patient001{frame}{suffix}" for frame in frames))
    touch(tmp_path, f"{folder}/patient001/Info.cfg", f"{folder}/patient001/MANDATORY_CITATION.md")
    whole, faults = find_cases("ACDC", tmp_path)
    assert faults == {} and {case: source.label.name for case, source in whole.items()} == {
        "patient001_frame01": f"patient001_frame01_gt{suffix}",
        "patient001_frame02": f"patient001_frame12_gt{suffix}",
    }


def test_what_is_incomplete_is_named(tmp_path):
    frames = ("frame01", "frame01_gt", "frame12", "frame12_gt")
    touch(tmp_path, *(f"patient001/patient001_{frame}.nii.gz" for frame in frames[:3]))
    touch(tmp_path, *(f"patient002/patient002_{frame}.nii.gz" for frame in (*frames[:2], frames[3])))
    touch(tmp_path, "patient003/patient003_frame01.nii.gz")
    touch(tmp_path, *(f"patient004/patient004_{frame}.nii.gz" for frame in frames), "copy/patient004_frame12.nii.gz")
    whole, faults = find_cases("ACDC", tmp_path)
    assert whole == {} and {case: fault.replace(str(tmp_path), "") for case, fault in faults.items()} == {
        "patient001": "/patient001: 1 of 2 annotated frames (patient001_frame01_gt.nii.gz)",
        "patient002": "/patient002/patient002_frame12_gt.nii.gz: no image next to it for patient002_frame12",
        "patient003": "/patient003: 0 of 2 annotated frames (no _gt file)",
        "patient004": "/copy/patient004_frame12.nii.gz: patient004_frame12 exists twice, also as "
        "/patient004/patient004_frame12.nii.gz; leave one of them",
    }


def test_a_dicom_series_goes_before_a_converted_copy_and_two_series_are_named(tmp_path):
    touch(tmp_path, "PANCREAS_0001/a/1.dcm", "image/image0001.nii.gz", "label/label0001.nii.gz")
    touch(tmp_path, "PANCREAS_0002/a/1.dcm", "PANCREAS_0002/b/1.dcm", "label/label0002.nii.gz", "PANCREAS_0003/1.dcm")
    whole, faults = find_cases("Pancreas", tmp_path)
    assert whole == {"image0001": (tmp_path / "PANCREAS_0001/a", tmp_path / "label/label0001.nii.gz")}
    assert "image0002 exists twice" in faults["image0002"] and "no label next to it" in faults["image0003"]


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="nothing of LA in it, expected <ID>/lgemri.nrrd"):
        find_cases("LA", touch(tmp_path, "a/lgemri.nii.gz"))
    with pytest.raises(InputError, match="--source .*none: no such folder"):
        find_cases("LA", tmp_path / "none")


def test_published_cases():
    sizes = {
        name: {role: len(cases) for role, cases in published_cases(name).items()} for name in ("ACDC", "LA", "Synapse")
    }
    assert sizes == {
        "ACDC": {"train": 140, "val": 20, "test": 40},
        "LA": {"train": 80, "test": 20},
        "Synapse": {"train": 18, "test": 12},
    }
    assert published_cases("ACDC")["train"][:2] == ["patient099_frame01", "patient099_frame02"]
