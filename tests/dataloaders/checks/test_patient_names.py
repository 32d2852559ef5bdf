"""Scans of one patient are found by their names, whatever the names' form; numbering and hospitals are not."""

import json
import re

import numpy as np
import pytest

from dataloaders.checks.patient_names import describe_suspects, suspect_patients

PATIENTS = range(1, 11)


def pairs(pattern, *endings):
    """The names of ten patients with a scan for each ending, and the groups that are right."""
    groups = {pattern.format(n): [pattern.format(n) + ending for ending in endings] for n in PATIENTS}
    return groups, [name for names in groups.values() for name in names]


@pytest.mark.parametrize(
    "pattern, endings, expression",
    [
        ("ID{:02d}", ("_t1", "_t2"), r"^(ID\d+)"),
        ("case_{:03d}", ("_ED", "_ES"), r"^(case_\d+)"),
        ("{}", ("-pre", "-post"), r"^(\d+)"),
        ("P{}", ("-1", "-2"), r"^(P\d+)"),
        ("P{}", (".1", ".2", ".3"), r"^(P\d+)"),
        ("P{}", ("_20210304", "_20211130"), r"^(P\d+)"),
        ("P{}", ("_2021-03-04", "_2021-03-09"), r"^(P\d+)"),
        ("P{}", ("_04.03.2021", "_09.03.2021"), r"^(P\d+)"),
        ("P{}", ("visit2", "visit3"), r"^(P\d+)"),
        ("P{}", ("a", "b"), r"^(P\d+)"),
        ("P{}", (" (1)", " (2)"), r"^(P\d+)"),
        ("P{}", ("", "_2"), r"^(P\d+)"),
        ("sub-{:02d}", ("_ses-1_T1w", "_ses-2_T1w"), r"^(sub-\d+)"),
    ],
)
def test_scans_of_one_patient(pattern, endings, expression):
    groups, names = pairs(pattern, *endings)
    assert suspect_patients(names) == ({key: sorted(of_key) for key, of_key in groups.items()}, expression)
    for name in names:  # as prepare.py applies it
        assert name in groups[re.search(expression, name)[1]]


def test_any_number_of_dates_a_few_follow_ups_and_names_of_several_forms():
    rng = np.random.default_rng(0)
    dated = [f"P{n}_20{rng.integers(10, 25)}{rng.integers(1, 13):02d}11" for n in PATIENTS for _ in range(4)]
    assert suspect_patients(dated).expression == r"^(P\d+)"
    few = suspect_patients([*(f"case_{n:02d}" for n in range(60)), "case_07_2"])
    assert few == ({"case_07": ["case_07", "case_07_2"]}, r"^(case_\d+)")
    both = [f"{name}_{ending}" for name in ("HN1", "LU22", "anna", "bo") for ending in "ab"]
    assert suspect_patients(both).expression == r"^([^\W_]+)"
    hospitals = [f"site{site}_P{n}_t{t}" for site in "AB" for n in range(20) for t in (1, 2)]
    found = suspect_patients(hospitals)
    assert len(found.groups) == 40 and found.groups["siteA_P7"] == ["siteA_P7_t1", "siteA_P7_t2"]


@pytest.mark.parametrize(
    "names",
    [
        [f"case_{n:03d}" for n in range(60)],
        [f"scan{n}" for n in range(1, 61)],
        [f"patient{n:03d}" for n in range(1, 61)],
        [f"sub-{n:02d}_ses-01" for n in range(30)],  # one session each
        [f"site{site}_{n:03d}" for site in "AB" for n in range(30)],
        [f"{site}{n}" for site in ("HN", "LU") for n in range(30)],
        [f"{year}_{n:04d}" for year in (2019, 2020, 2021) for n in range(20)],
        [f"TCGA-{number % 7:02d}-{1000 + 37 * number}" for number in range(40)],  # hospital, then patient
        ["smith_john", "smith_ann", "li_wei", "li_an", "wu_jun", "king_tim", "king_joe", "chen_yu", "miller_bob"],
        ["0RZDK210BSMWAA6467LU", "1D7CUD1955YZPGK8XHJX", "2XI41Y7FTVCP7EXDIJWL", "38IJZOPHKN0W2HD5EXDX"],
        [*(f"scan_{n}" for n in range(8)), "p1", "p2", "p3", "p4"],
        ["a", "b"],
        ["a_1", "a_2"],  # one beginning
        [],
    ],
)
def test_no_false_alarm(names):
    assert suspect_patients(names) is None


def test_random_identifiers_are_not_grouped():
    rng = np.random.default_rng(1)
    for width in (4, 6, 8):
        for number in (10, 40, 100):
            assert suspect_patients(f"{rng.integers(16**width):0{width}x}" for _ in range(number)) is None


def test_the_line_names_groups_across_lists_and_an_expression_to_paste():
    _, names = pairs("P{:02d}", "_t1", "_t2")
    same = {name: ["train"] for name in names}
    text, spread = describe_suspects(suspect_patients(names), same)
    assert spread == [] and "P01 (P01_t1 train, P01_t2 train), P02 (" in text and "and 7 more" in text
    text, spread = describe_suspects(suspect_patients(names), {**same, "P09_t2": ["test"]})
    assert spread == ["P09_t1", "P09_t2"]
    assert "1 of the groups are in more than one list" in text and "P09 (P09_t1 train, P09_t2 test);" in text
    pasted = json.loads("{" + re.search(r'"patient": "\^.*?"(?= to)', text)[0] + "}")
    assert pasted == {"patient": r"^(P\d+)"}
