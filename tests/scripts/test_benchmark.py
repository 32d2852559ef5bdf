import re
import sys

import pytest

from scripts.benchmark import PARTS, main

SMALL = "--patch_size 32 32 --batch_size 4 --repeats 1 --volume_size 32 32 32".split()


@pytest.mark.parametrize("part", ["validation", "component", "steps", "memory", "top"])
def test_each_part_prints_its_ratios_and_its_results_are_equal(part, capsys):
    assert part in PARTS
    if part == "validation":
        pytest.importorskip("medpy", reason="MedPy is the reference implementation")
    main(["--only", part, *SMALL])
    out = capsys.readouterr().out
    ratios = re.findall(r"([\d.]+) times as fast, largest difference (\S+)", out)
    assert len(ratios) == {"validation": 1, "component": 2, "steps": 3, "memory": 0, "top": 0}[part]
    assert all(float(ratio) > 0 and float(difference) < 1e-4 for ratio, difference in ratios)
    if part == "memory":
        assert re.search(r"predicted for 112x112x80, batch 2 \+ 2: [\d.]+ GiB", out)
    if part == "top":
        assert re.search(r"MT step: .*aten::\w+ [\d.]+%", out) and len(out.splitlines()) == 1 + 5


def test_a_part_whose_package_is_missing_is_named_and_the_others_are_measured(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "medpy", None)
    assert main(["--only", "metrics", "component", "--repeats", "1"]) == 0
    out = capsys.readouterr().out
    assert "metrics: not measured, it needs medpy" in out and "2 % speckles: plain" in out


def test_augmentation_equals_the_plain_way(capsys):
    pytest.importorskip("torchvision", reason="torchvision is the reference implementation of the colour jitter")
    main(["--only", "augmentation", "--repeats", "1"])
    out = capsys.readouterr().out
    assert "weak image and label equal" in out
    assert float(re.search(r"largest difference (\S+)", out).group(1)) <= 1.001  # grey levels
