"""Clean phantoms are clean; every planted fault is named with its file; what cannot be checked ends with 2."""

import json
import re
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

from scripts.check_dataset import main
from scripts.make_phantom import make_phantom

SHAPE = (8, 40, 36)
SLICE = "data/slices/patient002_frame01_slice_4.h5"
VOLUME = "data/patient004_frame01.h5"  # validation; patient005 is the test patient


@pytest.fixture
def acdc(own_phantom):
    return own_phantom("ACDC", shape=SHAPE)


@pytest.fixture
def check(tmp_path, capsys):
    """check("ACDC", root, ...) -> exit code, the lines of its findings, all output."""

    def run(name, root, *flags):
        try:
            code = main(["--name", name, "--root_path", str(root), "--out", str(tmp_path / "page.html"), *flags])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        text = captured.out + captured.err
        return code, [line for line in text.splitlines() if line.startswith("finding: ")], text

    return run


def change(path, **arrays):
    """Replace arrays of an h5 file; None drops one."""
    with h5py.File(path, "a") as file:
        for key, value in arrays.items():
            del file[key]
            if value is not None:
                file[key] = value


def read(path, key="image"):
    with h5py.File(path, "r") as file:
        return file[key][()]


def edit_list(path, edit):
    path.write_text("".join(f"{entry}\n" for entry in edit(path.read_text().split())))


@pytest.mark.parametrize(
    "name, layout", [("ACDC", "h5"), ("Synapse", "h5"), ("Synapse", "transunet"), ("LA", "h5"), ("Pancreas", "h5"),
                     ("IAN", "h5")],
)  # fmt: skip
def test_a_clean_phantom_is_clean(tmp_path, check, name, layout):
    shape = (32, 32, 24) if name in ("LA", "Pancreas", "IAN") else SHAPE
    root = make_phantom(name, tmp_path, train=4, val=1, test=1, shape=shape, layout=layout)
    code, findings, text = check(name, root)
    assert (code, findings) == (0, []), text
    assert re.search(r"^clean: \d+ files of [23] lists; page: .*page.html$", text, re.M)


def fault_missing(root):
    (root / SLICE).unlink()


def fault_truncated(root):
    (root / SLICE).write_bytes((root / SLICE).read_bytes()[:900])


def fault_text(root):
    (root / VOLUME).write_text("not h5")


def fault_nan(root):
    image = read(root / SLICE)
    image[3, 3] = np.nan
    change(root / SLICE, image=image)


def fault_range(root):
    change(root / VOLUME, image=read(root / VOLUME) * 255)


def fault_scaled_twice(root):
    change(root / VOLUME, image=read(root / VOLUME) / 255)


def fault_constant(root):
    change(root / SLICE, image=np.full(SHAPE[1:], 0.5, np.float32))


def fault_shapes_differ(root):
    change(root / SLICE, label=read(root / SLICE, "label")[:-1])


def fault_odd_slice(root):
    change(root / SLICE, image=read(root / SLICE)[:-1], label=read(root / SLICE, "label")[:-1])


def fault_label_range(root):
    label = read(root / VOLUME, "label")
    label[0, 0, 0] = 13
    change(root / VOLUME, label=label)


def fault_label_fraction(root):
    change(root / SLICE, label=read(root / SLICE, "label") / 2)


def fault_label_text(root):
    change(root / SLICE, label=np.full(SHAPE[1:], b"a"))


def fault_no_image(root):
    change(root / SLICE, image=None)


def fault_no_label_in_test(root):
    change(root / "data/patient005_frame02.h5", label=None)


def fault_no_label_where_labelled(root):
    change(root / "data/slices/patient001_frame01_slice_1.h5", label=None)


def fault_empty_label(root):
    change(root / VOLUME, label=np.zeros(SHAPE, np.uint8))


def fault_class_lost(root):
    label = read(root / VOLUME, "label")
    change(root / VOLUME, label=np.where(label == 3, 0, label))


def fault_volume_for_slice(root):
    change(root / SLICE, image=read(root / VOLUME), label=read(root / VOLUME, "label"))


def fault_spacing(root):
    with h5py.File(root / VOLUME, "a") as file:
        file.attrs["spacing"] = [1.5, 0.0, 1.5]


def fault_entry_twice(root):
    edit_list(root / "train_slices.list", lambda entries: [*entries, entries[5]])


def fault_case_in_two_lists(root):
    edit_list(root / "test.list", lambda entries: [*entries, "patient004_frame01"])


def fault_patient_in_train_and_test(root):
    for frame in (1, 2):
        shutil.copy(root / VOLUME, root / f"data/patient002_frame0{frame}.h5")
    edit_list(root / "val.list", lambda entries: ["patient002_frame01"])


def fault_copied_slice(root):
    shutil.copy(root / SLICE, root / "data/slices/patient003_frame02_slice_2.h5")


def fault_train_slice_of_a_test_volume(root):
    """The very image, but stored otherwise: uncompressed, in double precision."""
    change(root / SLICE, image=read(root / "data/patient005_frame01.h5")[3].astype(np.float64))


def fault_copied_volume(root):
    shutil.copy(root / VOLUME, root / "data/patient005_frame02.h5")


def fault_gap(root):
    edit_list(root / "train_slices.list", lambda entries: [e for e in entries if not e.endswith("2_frame01_slice_4")])


def fault_first_slice_gone(root):
    edit_list(root / "train_slices.list", lambda entries: [e for e in entries if not e.endswith("2_frame01_slice_1")])


def fault_list_of_volumes(root):
    shutil.copy(root / "test.list", root / "train_slices.list")


def fault_empty_list(root):
    (root / "val.list").write_text("\n")


def fault_no_test_list(root):
    (root / "test.list").unlink()


CASE = "train_slices.list: patient002_frame01: "
FAULTS = {
    fault_missing: "train_slices.list: 1 of 48 entries have no file under .*: patient002_frame01 slice 4; copy",
    fault_truncated: f"{SLICE}: not a readable h5 file",
    fault_text: f"{VOLUME}: not a readable h5 file",
    fault_nan: f"{SLICE}: the image holds NaN",
    fault_range: rf"{VOLUME}: image values from 0 to 255, expected \[0, 1\]; scale",
    fault_scaled_twice: f"{VOLUME}: the values of the whole volume only reach from 0 to 0.0039",
    fault_constant: f"{SLICE}: the image is constant, 0.5 everywhere",
    fault_shapes_differ: rf"{SLICE}: image \(40, 36\) and label \(39, 36\) differ in shape",
    fault_odd_slice: rf"{CASE}its slices have different shapes: \(39, 36\), \(40, 36\)",
    fault_label_range: f"{VOLUME}: label 13 found, this dataset has the classes 0 to 3",
    fault_label_fraction: f"{SLICE}: labels must be whole numbers, got float64",
    fault_label_text: f"{SLICE}: labels must be whole numbers",
    fault_no_image: f"{SLICE}: no 'image' in this file",
    fault_no_label_in_test: "data/patient005_frame02.h5: no 'label' in this file",
    fault_no_label_where_labelled: "patient001_frame01_slice_1.h5: no 'label', but every --labelnum labels this case",
    fault_empty_label: f"{VOLUME}: the label is empty",
    fault_class_lost: f"{VOLUME}: no voxel of LV, which 9 of the other 9 cases have",
    fault_volume_for_slice: rf"{SLICE}: expected a slice \(H, W\), got an image of shape \(8, 40, 36\)",
    fault_spacing: f"{VOLUME}: the attribute 'spacing' must hold the voxel size in mm",
    fault_entry_twice: r"train_slices.list: entries that occur more than once \(1\): patient001",
    fault_case_in_two_lists: r"val.list: cases that are also in the test list .*test.list \(1\): patient004; take",
    fault_patient_in_train_and_test: r"cases that are also in the val list .*val.list \(1\): patient002",
    fault_copied_slice: f"patient003_frame02_slice_2.h5: the image is the same as .*{SLICE}; keep one",
    fault_train_slice_of_a_test_volume: f"patient005_frame01.h5: slice 4 of 8 along Z is the same as .*{SLICE}; what",
    fault_copied_volume: f"patient005_frame02.h5: slice 1 .* the same as slice 1 of 8 along Z .*{VOLUME}, and 7 more",
    fault_gap: f"{CASE}slices 4 are not in the list, which has others from 1 to 8",
    fault_first_slice_gone: f"{CASE}slices 1 are not in the list, which has others from 1 to 8",
    fault_list_of_volumes: "train_slices.list: lists volumes .patient005_frame01, ....*names slices",
    fault_empty_list: "val.list: the list is empty",
    fault_no_test_list: "ACDC: no test.list here; make one or name it with --test_list",
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__[len("fault_") :])
def test_each_planted_fault_is_named_with_its_file(acdc, check, fault):
    fault(acdc)
    code, findings, text = check("ACDC", acdc)
    assert code == 1, text
    assert any(re.search(FAULTS[fault], line) for line in findings), text
    follow = {  # what else is true after these, and no more
        fault_list_of_volumes: "also in the test list",
        fault_volume_for_slice: f"{VOLUME}: slice 1 .* and 7 more",
        fault_patient_in_train_and_test: "the image|slice 1 of",
    }.get(fault, FAULTS[fault])
    rest = [line for line in findings if not re.search(f"{FAULTS[fault]}|{follow}", line)]
    assert rest == []
    assert re.search(rf"^{len(findings)} findings?: \d+ files of [23] lists; page: ", text, re.M)


def test_all_faults_are_named_not_only_the_first(acdc, check):
    """Several in one file, in several files, and in the lists."""
    bad = read(acdc / VOLUME)
    bad[0, 0, 0] = np.inf
    change(acdc / VOLUME, image=bad, label=np.full((2, 2), 9, np.uint8))
    fault_truncated(acdc)
    fault_copied_volume(acdc)
    fault_gap(acdc)
    fault_entry_twice(acdc)
    change(acdc / "data/patient005_frame01.h5", label=None)
    code, findings, text = check("ACDC", acdc, "--num_workers", "2")
    assert code == 1
    for wanted in (
        f"{VOLUME}: the image holds NaN",
        f"{VOLUME}: image .* differ in shape",
        f"{VOLUME}: label 9 found",
        "patient005_frame02.h5: the image holds NaN",
        "more than once",
        "slices 4 are not in the list",
        "patient005_frame01.h5: no 'label'",
    ):
        assert any(re.search(wanted, line) for line in findings), (wanted, text)
    assert "the image is the same" not in text  # NaN is not compared


@pytest.mark.parametrize(
    "transform, message",
    [
        (lambda image: (image - image.min()) / np.ptp(image), "image values from 0 to 1, .*: not z-scored"),
        (lambda image: image * 300 - 200, ".*not z-scored; subtract"),
        (lambda image: image + 30, ".*not z-scored"),
        (lambda image: image * 0, "the image is constant, 0 everywhere"),
    ],
)
def test_volumes_must_be_z_scored(own_phantom, check, transform, message):
    root = own_phantom("LA", shape=(32, 32, 24))
    path = next((root / "2018LA_Seg_Training Set").glob("*/mri_norm2.h5"))
    change(path, image=transform(read(path)))
    code, findings, text = check("LA", root)
    assert code == 1 and len(findings) == 1 and re.search(f"{re.escape(str(path))}: {message}", findings[0]), text


def test_a_renamed_copy_of_a_test_volume(own_phantom, check):
    root = own_phantom("LA", train=3, test=2, shape=(32, 32, 24))
    folder = root / "2018LA_Seg_Training Set"
    train, test = ((root / f"{role}.list").read_text().split()[1] for role in ("train", "test"))
    shutil.copy(folder / test / "mri_norm2.h5", folder / train / "mri_norm2.h5")
    code, findings, _ = check("LA", root)
    assert code == 1 and len(findings) == 1
    assert f"{test}/mri_norm2.h5: the image is the same as {folder / train / 'mri_norm2.h5'}; what is" in findings[0]


def test_missing_scans_are_one_line_and_a_shorter_list_is_clean(own_phantom, check, tmp_path):
    root = own_phantom("LA", train=5, shape=(32, 32, 24))
    entries = (root / "train.list").read_text().split()
    for entry in entries[2:]:
        shutil.rmtree(root / "2018LA_Seg_Training Set" / entry)
    code, findings, _ = check("LA", root)
    assert code == 1 and len(findings) == 1 and "3 of 5 entries" in findings[0]
    assert all(entry in findings[0] for entry in entries[2:])
    (tmp_path / "two.list").write_text("\n".join(entries[:2]))
    assert check("LA", root, "--train_list", str(tmp_path / "two.list"))[:2] == (0, [])


def test_a_class_that_no_label_has_is_a_finding(acdc, check):
    for path in acdc.rglob("*.h5"):
        label = read(path, "label")
        change(path, label=np.where(label == 2, 0, label))
    code, findings, _ = check("ACDC", acdc)
    assert code == 1 and len(findings) == 1
    assert "train_slices.list: no label has a voxel of Myo (value 2); correct the classes, or the labels" in findings[0]


def test_a_class_that_no_training_label_has_is_one_finding(acdc, check):
    """Training then says the same: no labelled image shows it."""
    for path in (acdc / "data/slices").iterdir():
        change(path, label=np.where(read(path, "label") == 2, 0, read(path, "label")))
    code, findings, _ = check("ACDC", acdc)
    assert code == 1 and len(findings) == 1
    assert "train_slices.list: no labelled image shows Myo (value 2), though other lists do" in findings[0]


def test_a_label_without_background(acdc, check):
    change(acdc / VOLUME, label=np.full(SHAPE, 2, np.uint8))
    _, findings, _ = check("ACDC", acdc)
    assert any(f"{VOLUME}: the label has no background, every voxel is of a class" in line for line in findings)


def test_slices_with_a_leading_axis_and_a_list_from_windows_are_clean(acdc, check):
    for path in (acdc / "data/slices").iterdir():
        change(path, **{key: read(path, key)[None] for key in ("image", "label")})
    names = (acdc / "train_slices.list").read_text().split()
    lines = "\r\n".join(f"data\\slices\\{name}.h5" for name in names)
    (acdc / "train_slices.list").write_text(lines, encoding="utf-8-sig")
    assert check("ACDC", acdc)[:2] == (0, [])
    (acdc / "train_slices.list").write_text(lines + "\nD:\\else\\x.h5")
    _, findings, _ = check("ACDC", acdc)
    assert len(findings) == 1 and "1 of 49 entries have no file" in findings[0] and "paths out of this" in findings[0]


@pytest.fixture
def custom(tmp_path):
    """custom(patient=None) -> an empty custom dataset, and a function that writes its lists and files."""

    def make(lists, **keys):
        root = tmp_path / "Mine"
        described = {"name": "Mine", "dims": 3, "classes": ["a"], "patch_size": [16, 16, 16], "intensity": "min-max"}
        (root / "data").mkdir(parents=True, exist_ok=True)
        (root / "dataset.json").write_text(json.dumps({**described, **keys}))
        for role, names in lists.items():
            (root / f"{role}.list").write_text("\n".join(names))
            for name in names:
                image = np.random.default_rng([*name.encode()]).standard_normal((8, 8, 8)).astype(np.float32)
                with h5py.File(root / "data" / f"{name}.h5", "w") as file:
                    file["image"], file["label"] = image, (image > 1).astype(np.uint8)
        return root

    return make


def test_scans_of_one_patient_in_several_lists_are_a_leak(custom, check):
    names = [f"P{n}-{when}" for n in range(1, 9) for when in ("pre", "post")]
    root = custom({"train": names[:11], "test": names[11:]})
    code, findings, _ = check("Mine", root)
    assert code == 1 and len(findings) == 1
    assert "dataset.json: 16 names begin alike in 8 groups" in findings[0]
    assert "and 1 of the groups are in more than one list, a leak" in findings[0]
    assert 'P6 (P6-post test, P6-pre train); if they are, add "patient": "^(P\\\\d+)" to' in findings[0]
    custom({}, patient="^(P\\d+)")  # said otherwise
    assert check("Mine", root)[:2] == (0, [])
    custom({"train": names[:10], "test": names[10:]})
    code, findings, text = check("Mine", root)
    assert (code, findings) == (0, []) and "note: " in text and "16 names begin alike" in text


def test_plain_numbers_and_frames_of_one_patient_are_clean(custom, check):
    root = custom({"train": [f"scan{n}" for n in range(8)], "test": [f"scan{n}" for n in range(8, 12)]})
    code, findings, text = check("Mine", root)
    assert (code, findings) == (0, []) and "alike" not in text
    frames = [f"patient{n:03d}_frame{f:02d}" for n in range(6) for f in (1, 2)]
    assert "alike" not in check("Mine", custom({"train": frames[:8], "test": frames[8:]}))[2]


def test_a_custom_dataset_needs_no_test_list(custom, check):
    code, findings, text = check("Mine", custom({"train": [f"scan{n}" for n in range(8)]}))
    assert (code, findings) == (0, []) and "no test.list here; make one or name it with --test_list" in text


def test_cases_that_a_protocol_labels(own_phantom, check):
    root = own_phantom("Synapse", train=4, shape=SHAPE)
    edit_list(root / "train_slices.list", lambda entries: [e for e in entries if not e.startswith("case0023")])
    code, findings, text = check("Synapse", root)
    assert code == 1 and len(findings) == 1
    assert "train_slices.list: --labelnum 20: the training list lacks the labelled cases case0023" in findings[0]
    assert re.search(r"^5 per cent +1 +8 +153$", text, re.M) and re.search(r"^10 per cent +- +- +249$", text, re.M)


def test_a_list_in_another_order_labels_other_patients(acdc, check, monkeypatch):
    """Counted only where the list is as long as the published one."""
    from dataclasses import replace

    from dataloaders import registry

    published = {"expected": {"train": 48}, "labelled_slices": {1: 16, 5: 48}}
    monkeypatch.setitem(registry.DATASETS, "ACDC", replace(registry.DATASETS["ACDC"], **published))
    assert check("ACDC", acdc)[0] == 0
    published["labelled_slices"] = {1: 12, 5: 48}
    monkeypatch.setitem(registry.DATASETS, "ACDC", replace(registry.DATASETS["ACDC"], **published))
    code, findings, _ = check("ACDC", acdc)
    assert code == 1 and len(findings) == 1
    assert "train_slices.list: another order or other cases" in findings[0]
    assert "--labelnum 1 labels 16 slices (published 12); use the published list" in findings[0]


def test_what_need_not_be_mended_is_a_note(acdc, check, monkeypatch):
    from dataclasses import replace

    from dataloaders import registry

    known = replace(registry.DATASETS["ACDC"], known_copies=(("patient002", "patient003"),))
    monkeypatch.setitem(registry.DATASETS, "ACDC", known)
    fault_copied_slice(acdc)
    shutil.copy(acdc / SLICE, acdc / "data/slices/extra_slice_1.h5")
    change(acdc / "data/slices/patient003_frame01_slice_3.h5", label=None)
    label = read(acdc / VOLUME, "label").astype(np.int16)
    label[0, 0, 0] = -1
    change(acdc / VOLUME, label=label, image=read(acdc / VOLUME).astype(np.float64))
    code, findings, text = check("ACDC", acdc)
    assert (code, findings) == (0, [])
    for note in (
        "the published data has this too",
        "1 files are in none of these lists: data/slices/extra_slice_1.h5",
        "1 files have no 'label', fine for unlabelled cases: patient003_frame01 slice 3",
        "labels below 0 count as background in 1 files: patient004_frame01",
        "1 files hold images of type float64 and labels of type int16",
        "48 entries, the published list has 1312",
    ):
        assert re.search(f"^note: .*{note}", text, re.M), note


def test_a_known_copy_across_lists_is_a_finding(acdc, check, monkeypatch):
    from dataclasses import replace

    from dataloaders import registry

    known = replace(registry.DATASETS["ACDC"], known_copies=(("patient004", "patient005"),))
    monkeypatch.setitem(registry.DATASETS, "ACDC", known)
    fault_copied_volume(acdc)
    assert check("ACDC", acdc)[0] == 1


@pytest.mark.parametrize("case", ["no folder", "no list", "no file", "no home", "no such list", "not a page", "no out"])
def test_what_cannot_be_checked_ends_with_two(acdc, check, tmp_path, monkeypatch, case):
    flags, root = [], acdc
    if case == "no folder":
        root, message = tmp_path / "nowhere", "nowhere: no such folder"
    elif case == "no list":
        for path in acdc.glob("*.list"):
            path.unlink()
        message = "nothing to check: .*no train_slices.list or train.list here"
    elif case == "no file":
        shutil.rmtree(acdc / "data")
        message = "nothing to check: .*train_slices.list: none of its 48 entries has a file under"
    elif case == "no home":
        monkeypatch.delenv("DATASET_HOME", raising=False)
        with pytest.raises(SystemExit) as stop:
            main(["--name", "ACDC"])
        assert stop.value.code == 2
        return
    elif case == "no such list":
        flags, message = ["--val_list", str(tmp_path / "x.list")], "--val_list .*x.list: no such file"
    elif case == "not a page":
        flags, message = ["--out", str(acdc / "test.list")], "the page's name must end with .html"
    else:
        flags, message = ["--out", str(tmp_path / "none" / "page.html")], "no folder .*none, make it first"
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, findings, text = check("ACDC", root, *flags)
    assert code == 2 and findings == [] and re.search(f"^.*error: .*{message}", text, re.M), text
    assert len(text.strip().splitlines()) == 1
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_the_page_stands_alone_and_shows_what_was_found_first(acdc, check, tmp_path):
    fault_nan(acdc)
    fault_class_lost(acdc)
    check("ACDC", acdc)
    page = (tmp_path / "page.html").read_text()
    assert "color-scheme: light dark" in page and not re.search(r'(src|href)="(?!data:)', page)
    pattern = r'<figure class="card (found|clean)"><div class="pair">(.*?)</div><figcaption><b>(.*?)</b>(.*?)</figc'
    cards = re.findall(pattern, page, re.S)
    assert [card[2] for card in cards if card[0] == "found"] == ["patient002_frame01", "patient004_frame01"]
    assert len(cards) == 6 + 2 + 2 and cards[0][2] == "patient002_frame01" and "NaN" in cards[0][3]
    assert all(card[1].count("data:image/jpeg;base64,") == 2 for card in cards if card[2] != "patient002_frame01")
    assert page.index("finding: ") < page.index("note: ")
    captions = {card[2]: re.findall("<figcaption>(.*?)</figcaption>", card[1]) for card in cards}
    assert captions["patient001_frame01"] == ["slice_3", "slice_6"]  # a file each
    assert captions["patient005_frame01"] == ["slice 3 of 8 along Z", "slice 6 of 8 along Z"]
    assert 'alt="patient005_frame01, slice 3 of 8 along Z"' in page and page.count("<table>") == 2
    assert not list(tmp_path.glob("*.tmp"))


def test_without_torchvision_it_says_so_before_anything_is_read(acdc, check, monkeypatch):
    for name in ("torchvision", "torchvision.utils"):
        monkeypatch.setitem(sys.modules, name, None)
    code, _, text = check("ACDC", acdc)
    assert code == 2 and "needs torchvision" in text and len(text.strip().splitlines()) == 1


def test_as_a_command_from_another_folder(phantoms, root, tmp_path):
    """By default the page is written where the command is given; workers read the same."""
    home = phantoms("ACDC")
    command = [sys.executable, root / "scripts/check_dataset.py", "--name", "ACDC", "--root_path", home / "ACDC"]
    done = subprocess.run([*command, "--num_workers", "2"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "clean: 128 files of 3 lists; page: check_ACDC.html"
    assert (tmp_path / "check_ACDC.html").stat().st_size < 2e6
