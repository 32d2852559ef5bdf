import pytest

from dataloaders.files import InputError
from dataloaders.reading import read_list
from dataloaders.registry import DATASETS, case_of, find_root, get_dataset, labelled_cases, slice_number


def acdc_entries(root):
    patients = read_list(root / "dataloaders/lists/ACDC_train_patients.list")
    return [f"{patient}_frame{frame:02d}_slice_{z}" for patient in patients for frame in (1, 2) for z in (2, 1)]


@pytest.mark.parametrize(
    "labelnum, patients", [(1, 1), (5, 3), (10, 7), (20, 14), (30, 21), (40, 28), (50, 35), (100, 70)]
)
def test_acdc_protocols_count_patients_at_the_head(root, labelnum, patients):
    entries = acdc_entries(root)
    cases, rule = labelled_cases(DATASETS["ACDC"], entries, labelnum, None)
    assert cases == read_list(root / "dataloaders/lists/ACDC_train_patients.list")[:patients]
    assert rule == f"protocol {labelnum} per cent"
    assert cases[:3] == ["patient099", "patient038", "patient050"][: len(cases)]


@pytest.mark.parametrize(
    "labelnum, expected",
    [(5, {"case0030"}), (10, {"case0030", "case0023"}), (20, {"case0030", "case0023", "case0005", "case0033"})],
)
def test_synapse_protocols_go_by_name_wherever_they_stand(root, labelnum, expected):
    cases = read_list(root / "dataloaders/lists/Synapse_train.list")
    entries = [f"{case}_slice_{z:03d}" for case in cases for z in range(2)]
    assert set(labelled_cases(DATASETS["Synapse"], entries, labelnum, None)[0]) == expected
    with pytest.raises(InputError, match="the training list lacks the labelled cases case0030"):
        labelled_cases(DATASETS["Synapse"], [e for e in entries if "case0030" not in e], labelnum, None)


def test_3d_counts_volumes_and_takes_other_numbers(root):
    entries = read_list(root / "dataloaders/lists/LA_train.list")
    assert labelled_cases(DATASETS["LA"], entries, 8, None) == (entries[:8], "protocol 8 volumes")
    assert labelled_cases(DATASETS["LA"], entries, 5, None) == (entries[:5], "no published protocol")


def test_impossible_numbers_name_the_possible_ones(root):
    entries = acdc_entries(root)
    with pytest.raises(
        InputError, match=r"--labelnum 7: ACDC has 1, 5, 10, 20, 30, 40, 50, 100 \(per cent\).*--labeled_cases"
    ):
        labelled_cases(DATASETS["ACDC"], entries, 7, None)
    with pytest.raises(InputError, match=r"--labeled_cases 71 means 71 cases, the training list has 70"):
        labelled_cases(DATASETS["ACDC"], entries, 5, 71)
    assert labelled_cases(DATASETS["ACDC"], entries, 5, 2)[0] == ["patient099", "patient038"]


@pytest.mark.parametrize(
    "entry, case, number",
    [
        ("patient001_frame01_slice_3", "patient001", 3),
        ("case0005_slice_012", "case0005", 12),
        ("case0005_slice007", "case0005", 7),
        ("q0_base", "q0_base", -1),
    ],
)
def test_case_and_slice_number(entry, case, number):
    assert (case_of(entry), slice_number(entry)) == (case, number)


def test_list_counts_in_the_repository(root):
    lists = root / "dataloaders" / "lists"
    for name in ("LA", "Pancreas"):
        for role in ("train", "test"):
            assert len(read_list(lists / f"{name}_{role}.list")) == DATASETS[name].expected[role]
    assert len(read_list(lists / "ACDC_train_patients.list")) == 70
    assert len(read_list(lists / "Synapse_train.list")) == 18


def test_find_root_and_its_errors(tmp_path, monkeypatch):
    monkeypatch.delenv("DATASET_HOME", raising=False)
    with pytest.raises(InputError, match="DATASET_HOME is not set: export DATASET_HOME"):
        find_root(DATASETS["ACDC"])
    monkeypatch.setenv("DATASET_HOME", str(tmp_path))
    with pytest.raises(InputError, match="has no folder Synapse or Synapse_TransUNet"):
        find_root(DATASETS["Synapse"])
    (tmp_path / "Synapse_TransUNet").mkdir()
    assert find_root(DATASETS["Synapse"]) == tmp_path / "Synapse_TransUNet"
    assert find_root(DATASETS["ACDC"], str(tmp_path)) == tmp_path
    with pytest.raises(InputError, match="--root_path .*nowhere: no such folder"):
        find_root(DATASETS["ACDC"], str(tmp_path / "nowhere"))
    for place in (tmp_path / "Synapse_TransUNet", tmp_path):
        (place / "test.list").touch()
        with pytest.raises(
            InputError, match=f"DATASET_HOME={place} is a dataset's own folder: export .*{place.parent}$"
        ):
            monkeypatch.setenv("DATASET_HOME", str(place))
            find_root(DATASETS["ACDC"])
    assert find_root(DATASETS["Synapse"], str(tmp_path)) == tmp_path  # it has lists itself
    (tmp_path / "test.list").unlink()
    with pytest.raises(InputError, match="not the dataset's folder itself, use .*/Synapse_TransUNet$"):
        find_root(DATASETS["Synapse"], str(tmp_path))
    assert get_dataset("Nurves").name == "IAN"
    with pytest.raises(InputError, match=r"unknown dataset 'adcd' \(did you mean ACDC\?\): choose"):
        get_dataset("adcd")
    with pytest.raises(InputError, match="unknown dataset 'MNMs': choose one of ACDC, Synapse, LA, Pancreas, IAN"):
        get_dataset("MNMs")
