import argparse
import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest

from dataloaders.files import InputError
from dataloaders.geometry import Geometry
from dataloaders.registry import PREPARATIONS
from dataloaders.training_data import load_training_data

DEFAULTS = argparse.Namespace(
    name="ACDC", train_list=None, val_list=None, test_list=None, labelnum=5, labeled_cases=2, protocol="paper",
    holdout_cases=2, patch_size=(32, 32), seed=3,
)  # fmt: skip


def load(root, strong=True, **flags):
    return load_training_data(argparse.Namespace(**{**vars(DEFAULTS), "root_path": str(root), **flags}), strong)


def test_labelled_and_unlabelled_slices(phantoms):
    data = load(phantoms("ACDC") / "ACDC")
    assert data.labelled_names == ["patient001", "patient002"]
    assert len(data.labelled) == 40 and len(data.unlabelled) == 80 and len(data.train) == 120
    assert data.selection.names[0] == "patient007_frame01" and len(data.selection) == 4
    assert data.selection_rule == "mean Dice on val.list (4 volumes)"
    text = "\n".join(data.summary)
    assert "6 cases, 120 slices (the published list has 1312 slices)" in text
    assert "2 cases (--labeled_cases 2), 40 slices (33.3%): patient001, patient002" in text
    assert "WARNING" not in text


def test_the_preparation_is_the_first_files_else_the_published_one(own_phantom):
    root = own_phantom("ACDC", train=3, shape=(2, 32, 32))
    assert load(root).preparation == PREPARATIONS["ACDC"]
    first = root / "data" / "slices" / f"{(root / 'train_slices.list').read_text().split()[0]}.h5"
    own = replace(PREPARATIONS["Synapse"], window=(0.0, 80.0), axes="zyX")
    with h5py.File(first, "a") as file:
        file.attrs["preparation"] = own.to_json()
    assert load(root).preparation == own
    with h5py.File(first, "a") as file:
        file.attrs["preparation"] = "by hand"
    with pytest.raises(InputError, match=f"{first}: its attribute 'preparation' is not the description"):
        load(root)


def test_the_orientation_is_known_where_all_cases_state_the_same(own_phantom):
    root = own_phantom("ACDC", train=3, shape=(2, 32, 32))
    assert load(root).orientation is None
    entries = (root / "train_slices.list").read_text().split()
    lying = Geometry((32, 32, 2), (1.0, 1.0, 5.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
    for entry in entries:
        with h5py.File(root / "data" / "slices" / f"{entry}.h5", "a") as file:
            file.attrs.update(lying.attributes("scan"))
    assert load(root).orientation == "LAS"
    for entry in entries[-4:]:  # the last patient
        with h5py.File(root / "data" / "slices" / f"{entry}.h5", "a") as file:
            file.attrs.update(lying.flipped("x").attributes("scan"))
    assert load(root).orientation is None


def test_a_run_without_unlabelled_cases_is_told_what_it_is(phantoms):
    root, warning = phantoms("ACDC") / "ACDC", "WARNING: no case is unlabelled: only the supervised loss is trained"
    every = {"labeled_cases": 6}
    for flags, warned in (({}, False), (every, True), ({**every, "unlabelled": "off"}, False)):
        assert any(warning in line for line in load(root, **flags).summary) is warned


def test_a_batch_is_a_function_of_seed_iteration_and_position(phantoms):
    data = load(phantoms("ACDC") / "ACDC")
    batch = data.train[(7, [0, 5, 5, 60])]
    assert batch["image_w"].shape == batch["image_s"].shape == (4, 1, 32, 32)
    assert batch["label"].shape == (4, 32, 32) and batch["has_label"].all()
    assert 0 <= batch["image_s"].min() and batch["image_s"].max() <= 1
    again = load(phantoms("ACDC") / "ACDC").train[(7, [0, 5, 5, 60])]
    assert all((batch[key] == again[key]).all() for key in batch)
    assert (batch["image_w"][1] != batch["image_w"][2]).any()  # one slice at two positions
    other = load(phantoms("ACDC") / "ACDC", seed=4).train[(7, [0, 5, 5, 60])]
    assert any((batch["image_s"][i] != other["image_s"][i]).any() for i in range(4))
    assert "image_s" not in load(phantoms("ACDC") / "ACDC", strong=False).train[(0, [1])]


def test_unlabelled_slices_may_lack_a_label_and_labelled_ones_may_not(own_phantom):
    root = own_phantom("ACDC")
    with h5py.File(root / "data/slices/patient003_frame01_slice_1.h5", "a") as file:
        del file["label"]
    data = load(root)
    index = (root / "train_slices.list").read_text().split().index("patient003_frame01_slice_1")
    batch = data.train[(0, [0, index])]
    assert batch["has_label"].tolist() == [True, False] and batch["label"][1].max() == 0
    with pytest.raises(InputError, match="slice_1.h5: no 'label' in this file, but case .*--labeled_cases 1..2"):
        load(root, labeled_cases=3)


def test_volumes_and_slices_together_in_data(own_phantom):
    root = own_phantom("ACDC")
    for path in (root / "data/slices").iterdir():
        path.rename(root / "data" / path.name)
    assert len(load(root).train) == 60


def test_a_list_of_volumes_is_no_list_of_slices(own_phantom):
    """SSL4MIS' folder holds train_slices.list and train.list, the latter of whole frames."""
    root = own_phantom("ACDC")
    (root / "train.list").write_text((root / "val.list").read_text())
    assert len(load(root).train) == 60
    (root / "train_slices.list").rename(root / "elsewhere.list")
    with pytest.raises(
        InputError, match="train.list: lists volumes .patient004_frame01., training needs a list of slices"
    ):
        load(root)
    assert len(load(root, train_list=str(root / "elsewhere.list")).train) == 60
    (root / "elsewhere.list").rename(root / "train.list")
    assert len(load(root).train) == 60


def test_overlapping_lists_warn(own_phantom):
    root = own_phantom("ACDC")
    (root / "test.list").write_text((root / "val.list").read_text())
    assert any("WARNING: 1 cases are in the validation and the test list" in line for line in load(root).summary)
    with h5py.File(root / "data/patient001_frame01.h5", "w") as file:
        file["image"], file["label"] = np.zeros((2, 8, 8)), np.zeros((2, 8, 8))
    (root / "val.list").write_text("patient001_frame01\n")
    assert any("WARNING: 1 cases train and select: patient001" in line for line in load(root).summary)
    (root / "test.list").write_text("patient001_frame01\n")
    assert any("WARNING: 1 cases train and are in the test list: patient001" in line for line in load(root).summary)


def test_synapse_selects_on_the_test_list_or_on_held_out_cases(phantoms):
    root = phantoms("Synapse", shape=(6, 32, 48)) / "Synapse"
    data = load(root, name="Synapse", labeled_cases=None, labelnum=10)
    assert data.labelled_names == ["case0030", "case0023"]
    assert "TEST list" in data.selection_rule and len(data.selection) == 2
    held = load(root, name="Synapse", labeled_cases=None, labelnum=10, protocol="holdout")
    assert len(held.train) == 4 * 6 and len(held.selection) == 2
    assert set(held.selection.names).isdisjoint(held.labelled_names)
    case = held.selection[0]
    assert case.image.shape == case.label.shape == (6, 32, 48)
    # stacked in numeric order: the very slices, as they stand in their files
    for z in range(6):
        with h5py.File(root / f"data/slices/{case.name}_slice_{z:03d}.h5") as file:
            assert np.array_equal(file["image"][()], case.image[z])
    with pytest.raises(InputError, match="--protocol holdout takes 4 unlabelled cases out of training, the list has 4"):
        load(root, name="Synapse", labeled_cases=None, labelnum=10, protocol="holdout", holdout_cases=4)


@pytest.fixture(params=[2, 3])
def custom(request, own_phantom, tmp_path):
    """A custom dataset with two scans of each of six training patients, the last two without labels; no lists else."""
    dims = request.param
    root = own_phantom("ACDC" if dims == 2 else "LA", train=6, shape=(2, 32, 32) if dims == 2 else (16, 16, 16))
    described = {"name": "Mine", "dims": dims, "classes": ["a", "b", "c"], "patch_size": [16] * dims}
    (root / "dataset.json").write_text(json.dumps({**described, "intensity": "min-max"}))
    if dims == 3:
        (root / "data").mkdir()
        sources = [
            root / f"2018LA_Seg_Training Set/{name}/mri_norm2.h5" for name in (root / "train.list").read_text().split()
        ]
        names = [f"patient{n:03d}_frame{frame:02d}" for n in range(1, 7) for frame in (1, 2)]
        for index, name in enumerate(names):
            shutil.copy(sources[index // 2], root / "data" / f"{name}.h5")
        (root / "train.list").write_text("\n".join(names))
    files = root.glob("data/slices/*.h5") if dims == 2 else root.glob("data/*.h5")
    for path in files:
        if path.name.startswith(("patient005", "patient006")):
            with h5py.File(path, "a") as file:
                del file["label"]
    for role in ("val", "test"):
        (root / f"{role}.list").unlink(missing_ok=True)
    return root


def load_custom(root, **flags):
    """The data and the protocol in use."""
    args = argparse.Namespace(**{**vars(DEFAULTS), "root_path": str(root), "name": "Mine", **flags})
    return load_training_data(args), args.protocol


def test_a_custom_dataset_selects_on_held_out_cases_with_labels(custom):
    """Never on those without, which follow; both scans of a patient, each a volume of its own."""
    data, protocol = load_custom(custom, protocol=None)
    assert protocol == "holdout" and data.selection_rule.endswith("held out of training: patient003, patient004")
    assert data.selection.names == [f"patient00{n}_frame0{frame}" for n in (3, 4) for frame in (1, 2)]
    assert len(data.train) == 4 * 2 * (2 if data.info.dims == 2 else 1)
    path = (
        custom / "data" / ("slices/patient003_frame02_slice_2.h5" if data.info.dims == 2 else "patient003_frame02.h5")
    )
    with h5py.File(path) as file:
        image = data.selection[1].image
        assert np.array_equal(file["image"][()], image[1] if data.info.dims == 2 else image)


def test_a_custom_dataset_keeps_the_last_weights_where_too_few_cases_have_labels(custom):
    for flags in ({"holdout_cases": 3}, {"labeled_cases": 4}, {"protocol": "last"}):
        data, protocol = load_custom(custom, **{"protocol": None, **flags})
        assert (
            protocol == "last"
            and len(data.selection) == 0
            and len(data.train) == 12 * (2 if data.info.dims == 2 else 1)
        )
        assert data.selection_rule.startswith("not chosen: no validation, best.pth holds the last weights (--protocol ")
    fix = "takes 3 unlabelled cases .* the list has 4, 2 of them with labels: lower --holdout_cases .* --protocol last"
    with pytest.raises(InputError, match=fix):
        load_custom(custom, protocol="holdout", holdout_cases=3)


def test_a_custom_dataset_selects_on_the_test_list_only_where_it_is_asked_for(custom):
    names = [f"patient00{n}_frame01" for n in (3, 4)]
    for name in names:
        with h5py.File(custom / f"data/{name}.h5", "a") as file:  # in 2-D there are only slices of them
            if "image" not in file:
                file["image"] = file["label"] = np.zeros((2, 32, 32), np.float32)
    (custom / "test.list").write_text("\n".join(names))
    assert load_custom(custom, protocol=None)[1] == "holdout"
    assert load_custom(custom, protocol=None, labeled_cases=4)[1] == "last"
    data, _ = load_custom(custom, protocol="paper")
    assert data.selection.names == names and "TEST list" in data.selection_rule
    assert "released programs" not in data.selection_rule
    (custom / "test.list").rename(custom / "val.list")
    data, protocol = load_custom(custom, protocol=None)
    assert protocol == "paper" and data.selection_rule == "mean Dice on val.list (2 volumes)"  # as old runs have it
    assert not any("no effect" in line for line in data.summary)
    for typed in ("holdout", "last"):
        data, _ = load_custom(custom, protocol=typed)
        assert f"WARNING: --protocol {typed} has no effect, val.list is a validation list" in data.summary


def relabel(root, pattern, change):
    for path in root.glob(pattern):
        with h5py.File(path, "a") as file:
            file["label"][...] = change(file["label"][()])


def test_labelled_cases_that_show_nothing_or_lack_a_class_are_named(own_phantom):
    root = own_phantom("ACDC", shape=(4, 32, 32))
    assert not any("WARNING" in line for line in load(root).summary)
    relabel(root, "data/slices/patient002*.h5", lambda label: 0 * label)
    assert "WARNING: the labels of 1 labelled cases are all background: patient002" in load(root).summary
    relabel(root, "data/slices/*.h5", lambda label: np.where(label == 2, 0, label))
    summary = load(root).summary
    assert "WARNING: no labelled image shows Myo" in summary and not any("shows RV" in line for line in summary)
    relabel(
        root,
        "data/slices/patient001_frame01_slice_2.h5",
        lambda label: 2 * (np.arange(label.size) < 3).reshape(label.shape),
    )
    assert "WARNING: all labelled images together show only 3 voxels of Myo" in load(root).summary
    relabel(root, "data/slices/*.h5", lambda label: label * 0 + 3)
    summary = load(root).summary
    for name in ("background", "RV", "Myo"):
        assert f"WARNING: no labelled image shows {name}" in summary


def test_unlabelled_cases_may_show_nothing(own_phantom):
    root = own_phantom("ACDC", shape=(4, 32, 32))
    relabel(root, "data/slices/patient003*.h5", lambda label: 0 * label)
    assert not any("WARNING: the labels" in line or "shows" in line for line in load(root).summary)


def test_slices_with_a_leading_axis_and_lists_from_windows_train_just_so(own_phantom):
    root = own_phantom("ACDC", shape=(4, 32, 32))
    expected = load(root)
    names = (root / "train_slices.list").read_text().split()
    (root / "train_slices.list").write_text("\r\n".join(f"data\\slices\\{n}.h5" for n in names), encoding="utf-8-sig")
    for path in root.glob("data/slices/*.h5"):
        with h5py.File(path, "a") as file:
            for key in ("image", "label"):
                array = file[key][()]
                del file[key]
                file[key] = array[None]
    data = load(root)
    assert (data.lists, data.hashes) == (expected.lists, expected.hashes)


def test_missing_lists_and_files(own_phantom):
    root = own_phantom("ACDC")
    with pytest.raises(InputError, match="--val_list nowhere: no such file"):
        load(root, val_list="nowhere")
    (root / "data/patient004_frame02.h5").unlink()
    with pytest.raises(InputError, match="val.list: 1 of 2 entries have no file .*patient004_frame02"):
        load(root)
    (root / "val.list").unlink()
    (root / "test.list").unlink()
    with pytest.raises(InputError, match="no test.list here; name a list with --test_list"):
        load(root)
    (root / "train_slices.list").unlink()
    with pytest.raises(InputError, match="no train_slices.list or train.list here; name a list with --train_list"):
        load(root)


def test_a_fault_in_a_validation_volume_is_found_at_the_start(own_phantom):
    root = own_phantom("ACDC")
    with h5py.File(root / "data/patient004_frame01.h5", "a") as file:
        file["image"][0, 0, 0] = np.nan
    with pytest.raises(InputError, match="patient004_frame01.h5: the image holds NaN"):
        load(root)
