import re

import pytest

from scripts.benchmark import main


@pytest.mark.parametrize("part", ["step", "component", "ducisc"])
def test_each_part_prints_its_ratios(part, capsys):
    main(
        [
            "--only",
            part,
            "--patch_size",
            "32",
            "32",
            "--batch_size",
            "4",
            "--repeats",
            "1",
            "--volume_size",
            "16",
            "16",
            "16",
        ]
    )
    out = capsys.readouterr().out
    expected = {"step": r"a whole step", "component": r"of a BCP step", "ducisc": r"foretold for 112x112x80"}[part]
    assert re.search(expected, out) and re.search(r"\d\.\d\d|\d times", out)
