import numpy as np

from dataloaders.scans.comparison import compare_case


def case(label, seed=0):
    return {"image": np.random.default_rng(seed).random(label.shape, np.float32), "label": label}


LABEL = np.zeros((20, 18, 4), np.uint8)
LABEL[6:12, 5:9] = 1


def test_values_and_labels():
    ours, theirs = case(LABEL), case(LABEL.copy())
    assert compare_case(ours, theirs, cropped=False) == (0, 0, None, False)
    theirs["image"][3, 3, 3] += 0.5
    theirs["label"][0, 0, :2] = 1
    difference = compare_case(ours, theirs, cropped=False)
    assert abs(difference.image - 0.5) < 1e-6 and difference.labels == 2
    assert difference.line() == f"image differs by up to {difference.image:g}, 2 voxels have another label"


def test_two_crops_of_one_scan_are_laid_over_each_other():
    whole = case(LABEL)
    ours = {key: array[2:19, 1:] for key, array in whole.items()}
    theirs = {key: array[4:20, :14].copy() for key, array in whole.items()}
    same = compare_case(ours, theirs, cropped=True)
    assert same.image == 0 and same.labels == 0 and same.recropped
    theirs["image"][5, 5, 0] += 1
    assert compare_case(ours, theirs, cropped=True).image > 0.99
    assert "shape (17, 17, 4), there (16, 14, 4) in the part that both hold: image" in same.line()


def test_other_shapes_that_are_no_crops_of_one_scan():
    other = np.zeros((20, 18, 5), np.uint8)
    other[6:12, 5:9] = 1
    for label, cropped in ((other, True), (np.zeros((9, 9, 4), np.uint8), True), (LABEL[1:], False)):
        difference = compare_case(case(LABEL), case(label), cropped)
        assert np.isnan(difference.image) and not difference.recropped
        assert difference.line() == f"shape (20, 18, 4), there {label.shape}"
