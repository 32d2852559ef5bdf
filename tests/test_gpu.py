"""What only a CUDA device can show."""

import json

import pytest
import torch
from small_network import totals_of_ten_steps

import train_DuCiSC
import train_Ours_BCP
import train_Ours_MT
from scripts.make_phantom import make_phantom
from utils.training.loop import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("amp", ["off", "fp16", "bf16"])
@pytest.mark.parametrize("script", [train_Ours_MT, train_Ours_BCP, train_DuCiSC])
def test_training_on_the_device_in_each_precision(tmp_path, monkeypatch, script, amp):
    make_phantom("ACDC", tmp_path, train=3, val=1, test=1, shape=(4, 48, 48))
    monkeypatch.setenv("DATASET_HOME", str(tmp_path))
    flags = "--name ACDC --labeled_cases 1 --patch_size 32 32 --batch_size 4 --labeled_bs 2 --gpu 0".split()
    flags += ["--amp", amp, "--max_iterations", "6", "--val_interval", "3", "--log_interval", "1"]
    if script is train_Ours_BCP:
        flags += ["--pretrain_iterations", "2"]
    if script is train_DuCiSC:
        flags += ["--val_start", "1"]
    assert script.main([*flags, "--output_dir", str(tmp_path / "runs")]) == 0
    (rows,) = list((tmp_path / "runs").rglob("self/metrics.jsonl")) or list((tmp_path / "runs").rglob("metrics.jsonl"))
    losses = [json.loads(line).get("loss/total", 0.0) for line in rows.read_text().splitlines()]
    assert len(losses) == 8 and all(torch.isfinite(torch.tensor(losses)))


@pytest.mark.parametrize("script", [train_Ours_MT, train_Ours_BCP, train_DuCiSC])
def test_a_step_never_waits_for_the_device(tmp_path, monkeypatch, script):
    """CUDA's own check raises at any host round trip in objective, backward pass, optimiser and EMA."""
    make_phantom("ACDC", tmp_path, train=3, val=1, test=1, shape=(4, 48, 48))
    monkeypatch.setenv("DATASET_HOME", str(tmp_path))
    update, steps = Trainer._update, []

    def watched(self, batch):
        torch.cuda.set_sync_debug_mode("error" if steps else "default")  # the first step may set things up
        try:
            return update(self, batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
            steps.append(self.done)

    monkeypatch.setattr(Trainer, "_update", watched)
    flags = "--name ACDC --labeled_cases 1 --patch_size 32 32 --batch_size 4 --labeled_bs 2 --gpu 0".split()
    flags += ["--max_iterations", "4", "--output_dir", str(tmp_path / "runs")]
    flags += {train_Ours_BCP: ["--pretrain_iterations", "2"], train_DuCiSC: ["--warmup_iterations", "1"]}.get(
        script, []
    )
    assert script.main(flags) == 0
    assert len(steps) == (6 if script is train_Ours_BCP else 4)


@pytest.mark.parametrize(
    "script, flags",
    [
        (train_Ours_MT, "--cuda_graphs"),
        (train_Ours_MT, "--compile --cuda_graphs"),
        (train_Ours_BCP, "--cuda_graphs"),
        (train_DuCiSC, "--cuda_graphs"),
    ],
)
def test_steps_replayed_from_graphs_are_the_same(script, flags, phantoms, tmp_path, monkeypatch):
    """Memories, thresholds and the ramp move as they do without graphs."""
    monkeypatch.setenv("DATASET_HOME", str(phantoms("ACDC")))
    totals = [totals_of_ten_steps(script, more, tmp_path / f"is{more}", monkeypatch) for more in ("", flags)]
    assert totals[1] == pytest.approx(totals[0], rel=1e-3)


def test_float32_objective_equals_the_cpus(numbers, build):
    ref = {key: torch.from_numpy(value) for key, value in numbers("mt_steps_f64").items() if value.ndim}
    ref.update({key: torch.tensor(int(value)) for key, value in numbers("mt_steps_f64").items() if value.ndim == 0})
    losses = []
    for device in ("cpu", "cuda"):
        student, teacher, memories, _ = build(ref, torch.float64)
        for module in (student, teacher, *memories):
            module.to(device)
        arguments = [ref[f"{name}_0"].to(device) for name in ("image_w", "image_s", "label", "lam", "perm")]
        image_w, image_s, label, lam, perm = arguments
        loss, _ = train_Ours_MT.compute_losses(
            student, teacher, *memories, image_w.double(), image_s.double(), label[:4].long(), lam, perm, 0.5
        )
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-8)
