"""The scans of a custom dataset in the layouts that people have, their patients, and the split. No file is read."""

import json

import pytest

from dataloaders.custom_datasets import read_custom_dataset
from dataloaders.files import InputError
from dataloaders.scans.custom_scans import CustomScan, find_scans, labelled_patients, scan_table, split_scans


@pytest.fixture
def find(tmp_path):
    """find("images/a.nii.gz labels/a.nii.gz", patient=...) -> what is found among these (empty) files."""

    def make(files, **keys):
        described = {"name": "A", "dims": 3, "classes": ["x"], "patch_size": [16, 16, 16], "intensity": "min-max"}
        (tmp_path / "dataset.json").write_text(json.dumps({**described, **keys}))
        for file in files.split():
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return find_scans(read_custom_dataset(tmp_path / "dataset.json"), tmp_path)

    return make


def short(found):
    return {scan.volume: (scan.image.name, scan.label and scan.label.name) for scan in found.scans}


def test_plain_folders_with_any_format(find):
    found = find(
        "images/a.nii.gz labels/a.nrrd images/b.NRRD images/c/1.dcm labels/c.mha images/d.mhd images/d.raw "
        "labels/d.nii images/.hidden.nii.gz images/notes.txt"
    )
    assert short(found) == {
        "a": ("a.nii.gz", "a.nrrd"),
        "b": ("b.NRRD", None),
        "c": ("c", "c.mha"),
        "d": ("d.mhd", "d.nii"),
    }
    assert found.faults == [] and found.notes == []


def test_nnunets_folders(find):
    found = find(
        "imagesTr/p1_0000.nii.gz labelsTr/p1.nii.gz imagesTr/p2.nii.gz imagesTs/p3_0000.nii.gz labelsTs/p3.nii.gz "
        "imagesTs/p4_0000.nii.gz"
    )
    assert short(found) == {
        "p1": ("p1_0000.nii.gz", "p1.nii.gz"),
        "p2": ("p2.nii.gz", None),
        "p3": ("p3_0000.nii.gz", "p3.nii.gz"),
    }
    assert [scan.for_test for scan in found.scans] == [False, False, True]
    assert found.notes == ["imagesTs: 1 scans without a label are left out, a test needs one: p4, ..."]
    with pytest.raises(InputError, match="p1_0001.nii.gz: a second channel"):
        find("imagesTr/p1_0001.nii.gz")


def test_file_ending_leaves_other_files_alone(find):
    assert short(find("images/a.nrrd images/a.nii.gz", file_ending=".nrrd")) == {"a": ("a.nrrd", None)}


@pytest.mark.parametrize(
    "files, fault",
    [
        ("labels/z.nii.gz", "z.nii.gz: no image z in "),
        ("images/a.nrrd", "a.nii.gz: a exists twice, also as "),
        ("labels/a.nrrd labels/a.nii.gz", "a.nii.gz: a exists twice, also as "),
        ("images/a_slice_3.nii.gz", "a_slice_3.nii.gz: its name ends like that of a slice"),
    ],
)
def test_faults_are_named_and_the_rest_is_found(find, files, fault):
    found = find(f"images/a.nii.gz images/b.nii.gz {files}")
    assert len(found.faults) == 1 and fault in found.faults[0]
    assert "b" in short(found)


def test_folders_that_are_not_there(find):
    for files, message in (
        ("other/a.nii.gz", "no images/ \\(or nnU-Net's imagesTr/\\) in it"),
        ("images/readme.txt", "no scan in images/"),
        ("imagesTr/a.nii.gz", "both images/ and imagesTr/"),
    ):
        with pytest.raises(InputError, match=message):
            find(files)


def test_patients_by_name_or_by_expression(find):
    files = "images/S1_a.nii.gz images/S2_a.nii.gz images/S1_b.nii.gz images/x_frame07.nii.gz"
    assert [(scan.volume, scan.patient) for scan in find(files).scans][-1] == ("x_frame07", "x")
    found = find(files, patient="^(S\\d)_")
    assert [(scan.volume, scan.patient, scan.image.name) for scan in found.scans] == [
        ("S1_frame01", "S1", "S1_a.nii.gz"),
        ("S1_frame02", "S1", "S1_b.nii.gz"),
        ("S2_frame01", "S2", "S2_a.nii.gz"),
    ]
    assert len(found.faults) == 1 and "x_frame07.nii.gz: 'patient' of dataset.json" in found.faults[0]


def test_a_patient_is_in_training_or_in_the_test(find):
    found = find("imagesTr/p1_frame01.nii.gz imagesTs/p1_frame02.nii.gz labelsTs/p1_frame02.nii.gz")
    assert "patient p1 is in imagesTr too" in found.faults[0]


def scans(labelled, unlabelled=0, for_test=0):
    """Two scans a patient, `labelled` patients with labels."""
    numbers = range(labelled + unlabelled + for_test)
    return [
        CustomScan(
            f"p{n}_frame0{f}",
            f"p{n}",
            f"p{n}_{f}",
            f"l{n}_{f}" if n < labelled or n >= labelled + unlabelled else None,
            n >= labelled + unlabelled,
        )
        for n in numbers
        for f in (1, 2)
    ]


def counts(roles):
    return [len({scan.patient for scan in of_role}) for of_role in roles.values()]


def test_split_is_by_patient_labelled_first_and_repeats():
    split = split_scans(scans(10, 4), (70, 10, 20), 1)
    assert counts(split) == [7 + 4, 1, 2]
    patients = {role: {scan.patient for scan in of_role} for role, of_role in split.items()}
    assert not any(patients[a] & patients[b] for a, b in (("train", "val"), ("train", "test"), ("val", "test")))
    assert [scan.label is None for scan in split["train"]] == [False] * 14 + [True] * 8
    assert all(scan.label for role in ("val", "test") for scan in split[role])
    assert [scan.volume for scan in split["train"]][:2] in ([f"p{n}_frame01", f"p{n}_frame02"] for n in range(10))
    assert split == split_scans(scans(10, 4), (70, 10, 20), 1) != split_scans(scans(10, 4), (70, 10, 20), 2)
    assert labelled_patients(split["train"]) == list(dict.fromkeys(s.patient for s in split["train"]))[:7]


def test_shares_and_their_limits():
    assert counts(split_scans(scans(3), (70, 10, 20), 1)) == [1, 1, 1]
    assert counts(split_scans(scans(10), (80, 20, 0), 1)) == [8, 2, 0]
    assert counts(split_scans(scans(6), (1, 9, 9), 1)) == [1, 2, 3]  # one is left for the training
    assert counts(split_scans(scans(9, 1, for_test=5), (70, 10, 20), 1)) == [8 + 1, 1, 5]
    with pytest.raises(InputError, match="2 patients have labels, too few .*: label 3 at least"):
        split_scans(scans(2, 9), (70, 10, 20), 1)


def test_a_patient_with_some_labels_is_not_for_the_test():
    some = [*scans(3), CustomScan("q_frame01", "q", "q1", "l", False), CustomScan("q_frame02", "q", "q2", None, False)]
    split = split_scans(some, (70, 10, 20), 1)
    assert [scan.volume for scan in split["train"]][-2:] == ["q_frame01", "q_frame02"]


def test_a_new_patient_moves_few_others():
    before, after = (split_scans(scans(number), (70, 10, 20), 1) for number in (20, 21))
    moved = sum(scan not in after[role] for role, of_role in before.items() for scan in of_role) // 2
    assert moved <= 4


def test_the_table_of_scans(find):
    split = split_scans(
        find(" ".join(f"images/{n}.nii labels/{n}.nii" for n in "abc") + " images/d.nii").scans, (1, 1, 1), 0
    )
    lines = scan_table(split).splitlines()
    assert lines[0] == "scan,patient,list,image,label" and "d,d,train,d.nii," in lines
    assert {line.split(",")[2] for line in lines[1:]} == {"train", "val", "test"}
