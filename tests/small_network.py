"""Ten steps of a method with a network of three convolutions, for tests of what surrounds the network."""

import torch

from networks.net_factory import NETWORKS
from utils.runs.folder import read_metrics


class Small(torch.nn.Module):
    """As little as the three methods ask for: logits at four scales or one, features, a projection head."""

    def __init__(self, in_channels, num_classes, scales):
        super().__init__()
        self.body, self.scales = torch.nn.Conv2d(in_channels, 16, 3, padding=1), scales
        self.out, self.proj_head = torch.nn.Conv2d(16, num_classes, 1), torch.nn.Conv2d(16, 16, 1)

    def forward(self, x):
        feats = [torch.nn.functional.avg_pool2d(self.body(x).relu(), 2**scale) for scale in range(self.scales)]
        logits = [self.out(feat) for feat in reversed(feats)]
        return (logits, feats) if self.scales > 1 else (logits[0], feats[0])


def totals_of_ten_steps(script, flags, folder, monkeypatch):
    """The totals of ten steps at 32x32 on the phantom of $DATASET_HOME; the ramp moves at every step.

    DuCiSC's total is the same at every step, as each term is divided by itself: there the sum before the division.
    """
    scales = 4 if script.METHOD == "DuCiSC" else 1
    monkeypatch.setitem(NETWORKS, "small", lambda in_channels, classes: Small(in_channels, classes, scales))
    monkeypatch.setattr(script, "consistency_ramp", lambda step, rampup: step / 10, raising=False)
    stages = {"Ours_BCP": "--pretrain_iterations 3", "DuCiSC": "--warmup_iterations 5"}.get(script.METHOD, "")
    argv = f"--name ACDC --labeled_cases 1 --patch_size 32 32 --batch_size 4 --labeled_bs 2 --num_workers 0 {stages}"
    argv += f" --net small --max_iterations 10 --log_interval 1 --val_interval 100 {flags}"
    assert script.main([*argv.split(), "--output_dir", str(folder)]) == 0
    rows = [row for path in sorted(folder.rglob("metrics.jsonl")) for row in read_metrics(path)]
    return [row.get("monitor/weighted_sum", row["loss/total"]) for row in rows if "loss/total" in row]
