"""dataset.json: what it says, nnU-Net's way of saying it, and every fault as one line with file, key and fix."""

import json
import pickle

import pytest

from dataloaders.custom_datasets import read_custom_dataset
from dataloaders.files import InputError
from dataloaders.info import Preparation
from dataloaders.registry import DATASETS, custom_info, get_dataset, labelled_cases

HEART = {"name": "Heart", "dims": 2, "classes": ["RV", "Myo"], "patch_size": [64, 32], "intensity": "min-max"}
LIVER = {"name": "Liver", "dims": 3, "classes": ["liver"], "patch_size": [64, 48, 32], "intensity": [-100, 200]}


@pytest.fixture
def describe(tmp_path):
    """describe(HEART, spacing=2) -> the path of a dataset.json; a key that is ... is left out."""

    def write(base, **changes):
        values = {key: value for key, value in {**base, **changes}.items() if value is not ...}
        path = tmp_path / "dataset.json"
        path.write_text(json.dumps(values))
        return path

    return write


def test_a_2d_description_and_the_dataset_it_makes(describe):
    own = read_custom_dataset(describe(HEART))
    assert own.preparation == Preparation("Heart", ((0, 0), (1, 1), (2, 2)), orientation="LPS", min_max=True)
    info = custom_info(own)
    assert (info.dims, info.classes, info.num_classes, info.patch_size) == (2, ("RV", "Myo"), 3, (64, 32))
    assert (info.train_lists, info.stride, info.rot_flip) == (("train_slices.list",), (0, 0), False)
    assert pickle.loads(pickle.dumps(info)) == info  # it goes to worker processes


def test_a_3d_description_and_its_defaults(describe):
    own = read_custom_dataset(describe(LIVER))
    expected = Preparation(
        "Liver", ((0, 0), (1, 1)), orientation="LPS", window=(-100.0, 200.0), axes="xyz", z_score="scan"
    )
    assert own.preparation == expected and Preparation.from_json(expected.to_json()) == expected
    assert own.stride == (12, 8)  # a quarter of the patch
    own = read_custom_dataset(describe(LIVER, stride=[48, 16], rot_flip=True, spacing=[1, 1.5, 3], orientation=None))
    assert (own.stride, own.rot_flip) == ((48, 16), True)
    assert (own.preparation.spacing, own.preparation.orientation) == ((1.0, 1.5, 3.0), None)
    assert Preparation.from_json(own.preparation.to_json()) == own.preparation


@pytest.mark.parametrize(
    "intensity, fields",
    [
        ("min-max", {"min_max": True, "z_score": "scan"}),
        ("z-score", {"z_score": "scan"}),
        ({"window": [0, 1.5]}, {"window": (0.0, 1.5), "z_score": "scan"}),
    ],
)
def test_intensities_in_3d(describe, intensity, fields):
    preparation = read_custom_dataset(describe(LIVER, intensity=intensity)).preparation
    assert {key: getattr(preparation, key) for key in fields} == fields


@pytest.mark.parametrize(
    "labels", [{"background": 0, "Myo": 2, "RV": 1}, {"0": "background", "1": "RV", "2": "Myo"}], ids=["v2", "v1"]
)
def test_nnunets_keys(describe, labels):
    its_own = {"channel_names": {"0": "MR"}, "numTraining": 3, "numTest": 1, "description": "", "training": []}
    its_own.update(test=[], release="1", reference="", licence="", license="", tensorImageSize="3D")
    its_own.update(overwrite_image_reader_writer="SimpleITKIO", regions_class_order=[1])
    own = read_custom_dataset(describe(HEART, classes=..., labels=labels, file_ending=".nrrd", **its_own))
    assert own.classes == ("RV", "Myo") and own.suffixes == (".nrrd",)


FAULTS = {
    "no name": (HEART, {"name": ...}, "no 'name', add it: a folder's name"),
    "no dims": (HEART, {"dims": ...}, "no 'dims', add it: 2"),
    "no classes": (HEART, {"classes": ...}, "no 'classes', add them: .*nnU-Net's 'labels'"),
    "no patch_size": (HEART, {"patch_size": ...}, "no 'patch_size', add it"),
    "no intensity": (HEART, {"intensity": ...}, 'no \'intensity\', add it: "min-max"'),
    "CT alone": (HEART, {"intensity": ..., "channel_names": {"0": "CT"}}, "'channel_names' does not choose it"),
    "name with a slash": (HEART, {"name": "../x"}, "'name' is \"../x\"; it must be a folder's name"),
    "name with a blank": (HEART, {"name": "My Heart"}, "'name' is"),
    "name no text": (HEART, {"name": 3}, "'name' is 3"),
    "dims 4": (HEART, {"dims": 4}, "'dims' is 4; it must be 2"),
    "dims text": (HEART, {"dims": "2"}, "'dims' is"),
    "dims true": (HEART, {"dims": True}, "'dims' is true"),
    "classes empty": (HEART, {"classes": []}, "'classes' is"),
    "classes twice": (HEART, {"classes": ["RV", "RV"]}, "'classes' is .*all different"),
    "classes text": (HEART, {"classes": "RV"}, "'classes' is"),
    "class blank": (HEART, {"classes": [" "]}, "'classes' is"),
    "labels with a gap": (HEART, {"classes": ..., "labels": {"background": 0, "RV": 2}}, "'labels' is .*without a gap"),
    "labels without 0": (HEART, {"classes": ..., "labels": {"RV": 1}}, "'labels' is"),
    "regions": (HEART, {"classes": ..., "labels": {"background": 0, "all": [1, 2], "x": 3}}, "'labels' is"),
    "labels of another order": (
        HEART, {"labels": {"background": 0, "Myo": 1, "RV": 2}}, "'classes' and 'labels' name other classes"),
    "patch of 3 numbers": (HEART, {"patch_size": [64, 64, 64]}, "'patch_size' is .*divisible by 16"),
    "patch one number": (HEART, {"patch_size": 64}, "'patch_size' is 64"),
    "patch not by 16": (HEART, {"patch_size": [64, 40]}, "'patch_size' is"),
    "patch 0": (HEART, {"patch_size": [64, 0]}, "'patch_size' is"),
    "z-score in 2-D": (HEART, {"intensity": "z-score"}, "'intensity' is \"z-score\"; it must be .*in 3-D also"),
    "unknown intensity": (HEART, {"intensity": "CT"}, "'intensity' is"),
    "window reversed": (HEART, {"intensity": [200, -100]}, "'intensity' is"),
    "window of three": (HEART, {"intensity": {"window": [0, 1, 2]}}, "'intensity' is"),
    "window of texts": (HEART, {"intensity": ["0", "1"]}, "'intensity' is"),
    "window NaN": (HEART, {"intensity": [0, float("nan")]}, "'intensity' is"),
    "spacing 0": (HEART, {"spacing": 0}, "'spacing' is 0; it must be the size in mm"),
    "spacing of two": (HEART, {"spacing": [1, 1]}, "'spacing' is"),
    "spacing text": (HEART, {"spacing": "1mm"}, "'spacing' is"),
    "orientation": (HEART, {"orientation": "RAS"}, "'orientation' is"),
    "stride in 2-D": (HEART, {"stride": [8, 8]}, "'stride' is .*3-D"),
    "stride beyond the patch": (LIVER, {"stride": [50, 8]}, "'stride' is .*at most the patch"),
    "stride of three": (LIVER, {"stride": [8, 8, 8]}, "'stride' is"),
    "rot_flip in 2-D": (HEART, {"rot_flip": True}, "'rot_flip' is true"),
    "rot_flip text": (LIVER, {"rot_flip": "yes"}, "'rot_flip' is"),
    "patient without a group": (HEART, {"patient": "P\\d+"}, "'patient' is .*one group"),
    "patient no expression": (HEART, {"patient": "("}, "'patient' is"),
    "file_ending": (HEART, {"file_ending": ".png"}, "'file_ending' is .*.nii.gz"),
    "two channels": (HEART, {"channel_names": {"0": "T1", "1": "T2"}}, "'channel_names' must name one channel"),
    "two modalities": (HEART, {"modality": {"0": "T1", "1": "T2"}}, "'modality' must name one channel"),
    "misspelt": (HEART, {"patchsize": [1, 1]}, "unknown key 'patchsize', is it 'patch_size'\\? The keys are name"),
    "misspelt too": (HEART, {"Spacing": 1}, "unknown key 'Spacing', is it 'spacing'"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_one_line_with_file_and_mend(describe, fault):
    base, changes, message = FAULTS[fault]
    path = describe(base, **changes)
    with pytest.raises(InputError, match=message) as found:
        read_custom_dataset(path)
    assert str(found.value).startswith(f"{path}: ") and "\n" not in str(found.value)


def test_a_byte_order_mark_is_read_over(describe):
    path = describe(HEART)
    expected = read_custom_dataset(path)
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert read_custom_dataset(path) == expected


@pytest.mark.parametrize("text, message", [("{", "not readable as JSON"), ("[1]", "not a JSON object")])
def test_no_json(tmp_path, text, message):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_custom_dataset(tmp_path / "dataset.json")


def test_get_dataset_finds_it_by_home_or_root_path(describe, tmp_path, monkeypatch):
    path = describe(HEART)
    monkeypatch.delenv("DATASET_HOME", raising=False)
    assert get_dataset("Heart", str(tmp_path)).classes == ("RV", "Myo")
    with pytest.raises(InputError, match="unknown dataset 'Heart': .*IAN, or .*\\$DATASET_HOME is not set"):
        get_dataset("Heart")
    monkeypatch.setenv("DATASET_HOME", str(tmp_path))
    with pytest.raises(InputError, match="unknown dataset 'Heart': .*there is no .*Heart/dataset.json"):
        get_dataset("Heart")
    (tmp_path / "Heart").mkdir()
    path.rename(tmp_path / "Heart" / "dataset.json")
    assert get_dataset("Heart").name == "Heart"
    with pytest.raises(InputError, match="describes Heart, not Liver: give --name Heart"):
        get_dataset("Liver", str(tmp_path / "Heart"))
    assert get_dataset("ACDC", str(tmp_path / "Heart")) is DATASETS["ACDC"]


def test_a_published_name_is_refused(describe):
    for name in ("ACDC", "Nurves"):
        with pytest.raises(InputError, match=f"'name' is {name}, which is a published dataset; choose another"):
            custom_info(read_custom_dataset(describe(HEART, name=name)))


def test_labelnum_is_not_for_own_datasets(describe):
    info = custom_info(read_custom_dataset(describe(HEART)))
    with pytest.raises(InputError, match="Heart has no protocol for --labelnum: say with --labeled_cases N .* 2 "):
        labelled_cases(info, ["a_slice_000", "b_slice_000"], 5, None)
    assert labelled_cases(info, ["a_slice_000", "b_slice_000"], 5, 1)[0] == ["a"]
