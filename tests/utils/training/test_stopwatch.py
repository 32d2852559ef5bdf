import re
import time

import torch

from utils.training.stopwatch import Stopwatch


def test_parts_add_up_and_the_largest_comes_first():
    watch = Stopwatch(torch.device("cpu"))
    for _ in range(2):
        with watch("short"):
            time.sleep(0.01)
    with watch("long"):
        time.sleep(0.08)
    assert watch.count == {"short": 2, "long": 1} and 0.02 <= watch.seconds["short"] < watch.seconds["long"]
    line = watch.report()
    shares = [float(share) for share in re.findall(r"([\d.]+)%", line)]
    assert re.match(r"where 0\.\d s went: long .* ms each\), short ", line) and abs(sum(shares) - 100) < 0.2


def test_switched_off_it_keeps_nothing():
    watch = Stopwatch(None)
    with watch("step"):
        pass
    assert watch.seconds == {}
