import importlib.util
import re
import sys

import numpy as np
import pytest

from scripts import plain
from scripts.benchmark import PARTS, main, our_metrics
from scripts.make_phantom import write_case

SMALL = "--patch_size 32 32 --batch_size 4 --repeats 1 --volume_size 32 32 16".split()
RATIOS = r"([\d.]+) times as fast, largest difference (\S+)"
needs_medpy = pytest.mark.skipif(not importlib.util.find_spec("medpy"), reason="MedPy is the reference implementation")


@pytest.mark.parametrize(
    "part, lines", [("component", 2), ("steps", 3), pytest.param("validation", 1, marks=needs_medpy)]
)
def test_each_part_prints_its_ratios_and_its_results_are_equal(part, lines, capsys):
    main(["--only", part, *SMALL])
    out = capsys.readouterr().out
    ratios = re.findall(RATIOS, out)
    assert len(ratios) == lines
    assert all(float(ratio) > 0 and float(difference) < 1e-4 for ratio, difference in ratios)
    if part == "steps":
        shares = re.findall(r"with losses ([\d.]+), a whole step ([\d.]+) of the networks' passes alone", out)
        assert len(shares) == 3 and all(float(share) > 0 for pair in shares for share in pair)


@pytest.mark.parametrize(
    "part, printed",
    [
        (
            "end_to_end",
            r"batch 4, 32x32: plain [\d.]+ ms \([\d.]+\), without --fast [\d.]+ ms \([\d.]+\), ours [\d.]+ ms; "
            r"[\d.]+ times as fast\n",
        ),
        ("memory", r"block_\w+: \d+ MiB, \d+%\n(.*\n)*  predicted for 112x112x80, batch 2 \+ 2: [1-9][\d.]* GiB"),
        ("loader", r"0 workers: \d+ slices/s(.*\n)*  2 workers: \d+ slices/s(.*\n)*  training data in memory: \d+ MiB"),
        ("top", r"MT step: (\S+ [\d.]+%, ){9}.*\nBCP step: (.*\n)*test of a 3-D volume: aten::\w+"),
    ],
    ids=["end_to_end", "memory", "loader", "top"],
)
def test_the_parts_without_equal_results_print_what_they_find(part, printed, capsys):
    assert part in PARTS
    main(["--only", part, *SMALL])
    assert re.search(printed, capsys.readouterr().out)


def test_the_memory_held_by_a_step_is_predicted_in_proportion_to_the_patch(capsys):
    found = []
    for size in ("32", "48"):
        main(["--only", "memory", *SMALL, "--volume_size", size, size, size])
        held, predicted = re.search(r"pass (\d+) MiB(?:.*\n)*.*: ([\d.]+) GiB", capsys.readouterr().out).groups()
        found.append((int(held), float(predicted)))
    assert found[1][0] / found[0][0] == pytest.approx(1.5**3, rel=0.05)
    assert found[0][1] == pytest.approx(found[1][1], rel=0.05)


@pytest.fixture
def small_mask(tmp_path):
    label = np.zeros((28, 24, 20), np.uint8)
    label[6:20, 5:18, 4:15] = 1
    write_case(tmp_path / "mask.h5", label.astype(np.float32), label)
    return str(tmp_path / "mask.h5")


@needs_medpy
def test_metrics_are_timed_next_to_every_package_that_is_installed(small_mask, monkeypatch, capsys):
    """MedPy and one that defines 95HD as the larger direction's, as MONAI does."""
    monkeypatch.setitem(
        plain.PEERS, "MONAI", ("numpy", lambda *given: {"hd95": our_metrics(*given, "max")["hd95"][0]}, "max")
    )
    monkeypatch.setitem(plain.PEERS, "surface-distance", ("not_installed", None, "pooled"))
    main(["--only", "metrics", "--volumes", small_mask])
    out = capsys.readouterr().out
    assert "not installed: surface-distance\n" in out
    kinds = "fair", "satellites", "salt", "shifted by a fifth", "wholly elsewhere"
    for kind in [f"{kind}, {unit}" for kind in kinds for unit in ("voxels", "mm")]:
        line = re.search(rf"  {kind}: MedPy .* ms \(.*\), MONAI .* ms \(.*\), ours .* ms; {RATIOS}\n", out)
        assert float(line.group(2)) < 1e-9


@needs_medpy
@pytest.mark.parametrize("name", ["dice", "hd95"])
def test_a_package_that_finds_another_value_is_an_error(small_mask, name, monkeypatch):
    wrong = lambda *given: {name: our_metrics(*given)[name][0] + 0.01}  # noqa: E731
    monkeypatch.setitem(plain.PEERS, "MONAI", ("numpy", wrong, "pooled"))
    with pytest.raises(AssertionError, match=f"{name} of MONAI"):
        main(["--only", "metrics", "--volumes", small_mask])


@pytest.mark.parametrize("spacing", [None, (2.0, 0.5, 1.0)])
@pytest.mark.parametrize("peer", plain.PEERS)
def test_a_package_agrees_with_our_metrics_where_its_definition_is_ours(peer, spacing):
    module, function, hd95 = plain.PEERS[peer]
    pytest.importorskip(module, reason="an optional package")
    rng = np.random.default_rng(0)
    pred, label = np.zeros((2, 20, 22, 18), bool)
    pred[3:12, 4:15, 2:9], label[4:14, 6:15, 3:12] = True, True
    pred |= rng.random(pred.shape) < 0.01
    ours, theirs = our_metrics(pred, label, spacing, hd95), function(pred, label, spacing)
    shared = ours.keys() & theirs.keys()
    assert shared == ({"dice"} if peer == "surface-distance" else {"dice", "jaccard", "hd95", "asd"})
    assert all(theirs[name] == pytest.approx(ours[name][0], rel=1e-5) for name in shared)


def test_a_part_whose_package_is_missing_is_named_and_the_others_are_measured(small_mask, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "medpy", None)
    assert main(["--only", "metrics", "component", "--volumes", small_mask, "--repeats", "1"]) == 0
    out = capsys.readouterr().out
    assert "metrics: not measured, medpy is not installed" in out and "2 % speckles: plain" in out


def test_augmentation_equals_the_plain_way(capsys):
    pytest.importorskip("torchvision", reason="torchvision is the reference implementation of the colour jitter")
    main(["--only", "augmentation", "--repeats", "1"])
    out = capsys.readouterr().out
    assert "weak image and label equal" in out
    assert float(re.search(r"largest difference (\S+)", out).group(1)) <= 1.001  # grey levels
