import h5py
import numpy as np
import pytest

from dataloaders.custom_datasets import read_custom_dataset
from dataloaders.reading import stated_kind
from dataloaders.registry import DATASETS
from dataloaders.seeding import generator
from scripts.make_phantom import draw_case, draw_style, main, make_phantom


def contents(root):
    found = {}
    for path in sorted(root.rglob("*")):
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                found[path.relative_to(root)] = file["image"][()].tobytes() + file["label"][()].tobytes()
        elif path.is_file():
            found[path.relative_to(root)] = path.read_bytes()
    return found


@pytest.mark.parametrize("layout", ["h5", "transunet", "nifti"])
def test_phantoms_state_that_they_are_phantoms(tmp_path, layout):
    """In dataset.json and, where there are h5 files, in their attributes; other folders state nothing."""
    main(f"--name Synapse --out {tmp_path} --train 2 --test 1 --shape 4 32 32 --layout {layout}".split())
    root = tmp_path if layout == "nifti" else tmp_path / "Synapse"
    files = sorted(root.rglob("*.h5"))
    assert stated_kind(root, []) == "phantoms" and len(files) == {"h5": 9, "transunet": 1, "nifti": 0}[layout]
    assert stated_kind(tmp_path / "elsewhere", files) == ("phantoms" if files else "")
    if layout == "nifti":
        assert read_custom_dataset(root / "dataset.json").notes == ()
    (root / "dataset.json").write_text("[1]")
    assert stated_kind(root, []) == ""


def test_deterministic_from_the_seed(tmp_path):
    first, again, other = (
        contents(make_phantom("ACDC", tmp_path / name, train=1, val=1, test=1, shape=(2, 24, 24), seed=seed))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == again and first.keys() == other.keys() and first != other


@pytest.mark.parametrize("name, shape", [("ACDC", (8, 64, 64)), ("Synapse", (12, 96, 96)), ("LA", (40, 40, 32))])
def test_every_class_is_there_and_cases_differ(name, shape):
    info = DATASETS[name]
    cases = [
        draw_case(rng, info, shape, draw_style(rng, True)) for rng in (generator(0, "phantom", 0, i) for i in range(4))
    ]
    for image, label in cases:
        assert image.dtype == np.float32 and label.dtype == np.uint8 and image.shape == label.shape == shape
        assert set(np.unique(label)) == set(range(info.num_classes))
        if info.dims == 2:
            assert image.min() == 0 and image.max() == 1
        else:
            assert abs(image.mean()) < 1e-3 and image.std() == pytest.approx(1, abs=1e-3)
    assert any((cases[0][1] != label).any() for _, label in cases[1:])


def test_heart_is_a_ring_beside_a_crescent_and_end_slices_lack_classes():
    rng = generator(3, "phantom", 0, 0)
    _, label = draw_case(rng, DATASETS["ACDC"], (10, 96, 96), draw_style(rng, False))
    middle = label[4]
    centres = {c: np.argwhere(middle == c).mean(axis=0) for c in (1, 2, 3)}
    assert np.abs(centres[2] - centres[3]).max() < 3  # the ring goes round the pool
    assert np.linalg.norm(centres[1] - centres[3]) > 10  # the RV is next to it
    assert 1 not in label[-1]  # no RV at the apex


def test_the_few_cases_have_another_style_than_the_rest(tmp_path):
    """Heart muscle and blood are elsewhere on the grey scale: a shift of mean and deviation, the papers' problem."""
    root = make_phantom("ACDC", tmp_path, train=8, val=1, test=1, shape=(4, 48, 48), few=2)
    means = {True: [], False: []}
    for path in (root / "data/slices").iterdir():
        with h5py.File(path) as file:
            image, label = file["image"][()], file["label"][()]
        if (label == 3).sum() > 20:
            means[path.name < "patient003"].append(image[label == 3].mean())
    assert np.mean(means[True]) - np.mean(means[False]) > 2 * np.std(means[True])


def test_command_line(tmp_path, capsys):
    main(["--name", "Pancreas", "--out", str(tmp_path), "--train", "1", "--test", "1", "--shape", "20", "20", "16"])
    assert f"export DATASET_HOME={tmp_path}" in capsys.readouterr().out
    assert len(list((tmp_path / "Pancreas" / "Pancreas_h5").glob("*.h5"))) == 2
    with pytest.raises(SystemExit):
        main(["--name", "LA", "--out", str(tmp_path), "--layout", "transunet"])
