from dataloaders.checks.lists import CheckedList, summarise_entries


def test_names_in_one_line():
    assert summarise_entries(["b", "a"]) == "b, a"
    slices = [f"case0005_slice{number:03d}" for number in (7, 1, 2, 3)]
    assert summarise_entries([*slices, "case0006_slice_2"]) == "case0005 slices 1-3, 7; case0006 slice 2"


def test_slices_are_put_together_in_numeric_order(tmp_path):
    entries = ["p1_frame01_slice_10", "p1_frame02_slice_1", "p1_frame01_slice_9"]
    checked = CheckedList("train", tmp_path / "x.list", 2, 3, entries)
    assert checked.volumes() == {"p1_frame01": [entries[2], entries[0]], "p1_frame02": [entries[1]]}
    assert CheckedList("test", tmp_path / "x.list", 3, 1, ["v"]).volumes() == {"v": ["v"]}
