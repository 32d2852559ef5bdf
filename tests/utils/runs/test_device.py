import pytest
import torch

import train_Ours_MT
from utils.runs.device import crowded


@pytest.mark.parametrize(
    "threads, load, warns", [(1, 8.0, False), (2, 0.3, False), (2, 1.5, True), (4, 0.1, False), (4, 1.0, True)]
)
def test_more_threads_than_free_cores_are_warned_of(threads, load, warns, monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0, 0), raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: max(threads, 2))
    warning = crowded(torch.device("cpu"))
    assert bool(warning) is warns and (not warns or f"{threads} threads, but {load:.0f} of" in warning)
    assert crowded(torch.device("cuda")) is None


@pytest.mark.parametrize("cores, workers", [({0}, 1), ({0, 1}, 2), (set(range(9)), 2)])
def test_there_are_no_more_workers_by_default_than_cores(cores, workers, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: cores, raising=False)
    assert train_Ours_MT.parse_args([]).num_workers == workers
    assert train_Ours_MT.parse_args(["--num_workers", "5"]).num_workers == 5
