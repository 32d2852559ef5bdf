"""The phases that run without a GPU, and the page."""

import json

import pytest
import torch

from scripts.measure_gpu import main

TINY = "--patch_size 16 16 --batch_size 4 --labeled_bs 2 --labeled_cases 2"


def test_a_speed_phase_and_its_page(phantoms, tmp_path, monkeypatch):
    pytest.importorskip("torch.utils.flop_counter")  # PyTorch 2.1
    monkeypatch.setenv("DATASET_HOME", str(phantoms("ACDC")))
    out, page = tmp_path / "a card", tmp_path / "page.md"
    chosen = ["float32", "bf16, channels last", "the same, CUDA graphs"]
    assert main(["speed-mt", "--out", str(out), "--steps", "3", "--only", *chosen, "--flags", TINY]) == 0
    record = json.loads((out / "speed-mt.json").read_text())
    assert list(record["settings"]) == chosen and record["settings"]["float32"]["tflop"] > 0
    if not torch.cuda.is_available():
        assert record["settings"].pop(chosen[2]) == {
            "error": "--cuda_graphs needs a CUDA device; --compile alone runs on a CPU too"
        }
    assert all(found["step_ms"] > 0 and found["size"] == [16, 16] for found in record["settings"].values())
    assert main(["report", "--out", str(tmp_path), "--page", str(page)]) == 0
    lines = page.read_text().splitlines()
    (header,) = (line for line in lines if line.startswith("| setting | step, ms |"))
    (row,) = (line for line in lines if line.startswith("| bf16, channels last |"))
    assert header.count("|") == row.count("|") and header.endswith("| minutes for 30,000 steps |")


def test_the_page_has_every_card_and_settings_that_failed(tmp_path, capsys):
    about = {"device": "a card (cuda)", "driver": "1", "torch": "2", "cudnn": 9, "iterations": 100}
    found = {"step_ms": 60.0, "data_ms": 1.0, "first_step_s": 2.0, "images": 4, "size": [8, 8]}
    for card, settings in (("a", {"float32": found}), ("b", {"float32": {"error": "out of memory"}})):
        (tmp_path / card).mkdir()
        (tmp_path / card / "speed-mt.json").write_text(json.dumps({**about, "settings": settings}))
    (tmp_path / "a" / "tests.json").write_text(json.dumps({"result": "13 passed"}))
    page = tmp_path / "page.md"
    assert main(["report", "--out", str(tmp_path), "--page", str(page)]) == 0
    text = page.read_text()
    assert "result: 13 passed" in text and "float32: out of memory" in text and text.count("## speed-mt") == 1
    assert "| float32 | 60.0 | 67 |  | 1.0 |" in text and "| 0.1 |" in text
    with pytest.raises(SystemExit):
        main(["report", "--out", str(tmp_path / "nothing"), "--page", str(page)])
    assert "no records in it; run a phase first" in capsys.readouterr().err
