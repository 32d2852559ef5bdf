"""Runs are found from any folder on the way to them."""

import json

import pytest

from dataloaders.files import InputError
from dataloaders.registry import DATASETS
from utils.reports.results import find_tests
from utils.reports.runs import find_records, find_runs

ACDC = DATASETS["ACDC"]


@pytest.fixture
def runs(tmp_path):
    """Runs of one stage on two datasets and of two stages, as their folders look."""
    for place in (
        "LA/DuCiSC_8/seed_1",
        "ACDC/Ours_MT_5/seed_1",
        "ACDC/Ours_MT_5/seed_2",
        "ACDC/Ours_BCP_5/seed_1/pretrain",
        "ACDC/Ours_BCP_5/seed_1/self",
    ):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        dataset, method = place.split("/")[:2]
        flags = {"labelnum": 5, "max_iterations": 4, "batch_size": 8, "seed": 1}
        config = {"method": method, "flags": flags, "labelled_cases": [], "commit": "c" * 40}
        (folder / "config.json").write_text(
            json.dumps({**config, "dataset": {"name": dataset, "dims": DATASETS[dataset].dims, "patch_size": [32, 32]}})
        )
        for name in ("best.pth", "last.pth", "metrics.jsonl"):
            (folder / name).touch()
    return tmp_path


def test_tests_of_any_weights_are_found_and_half_written_ones_are_not(tmp_path):
    weights = "iter_30000_dice_0.8921"  # as bare files of this family are called
    for name in ("test_best", f"test_{weights}", "test_last.new", "test_last.old", f"test_{weights}.new"):
        (tmp_path / "run" / name).mkdir(parents=True)
        (tmp_path / "run" / name / "summary.json").touch()
    (tmp_path / "run" / "test_empty").mkdir()
    assert [test.name for test in find_tests(tmp_path)] == ["test_best", f"test_{weights}"]
    assert find_records(tmp_path) == [tmp_path / "run"]


@pytest.mark.parametrize(
    "place, names",
    [
        ("", ["Ours_BCP_5 seed_1", "Ours_MT_5 seed_1", "Ours_MT_5 seed_2"]),
        ("ACDC", ["Ours_BCP_5 seed_1", "Ours_MT_5 seed_1", "Ours_MT_5 seed_2"]),
        ("ACDC/Ours_MT_5", ["Ours_MT_5 seed_1", "Ours_MT_5 seed_2"]),
        ("ACDC/Ours_MT_5/seed_2", ["Ours_MT_5 seed_2"]),
        ("ACDC/Ours_BCP_5", ["Ours_BCP_5 seed_1"]),
        ("ACDC/Ours_BCP_5/seed_1", ["Ours_BCP_5 seed_1"]),
        ("ACDC/Ours_BCP_5/seed_1/self", ["Ours_BCP_5 seed_1"]),
        ("ACDC/Ours_BCP_5/seed_1/pretrain", ["Ours_BCP_5 seed_1 pretrain"]),
    ],
)
def test_any_folder_on_the_way(runs, place, names):
    assert [run.name for run in find_runs(runs / place, ACDC)] == names
    drawn = find_records(runs / place)
    assert drawn and all(str(folder).startswith(str(runs / place)) for folder in drawn)


def test_both_stages_are_drawn_and_a_test_counts_as_a_record(runs):
    (runs / "bare" / "test_unet").mkdir(parents=True)
    (runs / "bare" / "test_unet" / "summary.json").touch()
    (runs / "bare" / "test_unet.old").mkdir()
    (runs / "bare" / "test_unet.old" / "summary.json").touch()
    assert [folder.name for folder in find_records(runs / "ACDC/Ours_BCP_5")] == ["pretrain", "self"]
    assert find_records(runs / "bare") == [runs / "bare"]


def test_runs_of_other_datasets_are_named(runs):
    with pytest.raises(InputError, match="LA: weights of LA, not of ACDC: use test_3d.py --name LA"):
        find_runs(runs / "LA", ACDC)
