"""Signals and the time limit as the loop sees them; as a user sees them: tests/test_train_Ours_MT.py."""

import multiprocessing
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor

import pytest

from utils.runs import stopping
from utils.runs.stopping import (
    SIGNALS,
    STOP,
    Stopping,
    blocked_in_children,
    leave_interrupts_to_parent,
    stoppable,
)


@pytest.fixture(autouse=True)
def handlers():
    """Handles what nohup ignores; puts back what an interrupted main leaves ignored."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_worker_leaves_interrupts_to_its_parent_from_its_first_moment_on():
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, leave_interrupts_to_parent) as pool:
        with blocked_in_children():
            future = pool.submit(os.getpid)
        (worker,) = pool._processes.values()
        for _ in range(5):  # while it starts
            os.kill(worker.pid, signal.SIGINT)
            time.sleep(0.05)
        assert future.result(timeout=60) == worker.pid
        os.kill(worker.pid, signal.SIGINT)
        assert pool.submit(os.getpid).result(timeout=60) == worker.pid


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0.001)  # a bytecode or two, until the handler has run


@pytest.mark.parametrize("first", SIGNALS)
def test_the_first_signal_interrupts_and_more_of_them_change_nothing(first):
    @stoppable
    def main(_argv):
        try:
            send(first)
        except KeyboardInterrupt:
            for number in SIGNALS:
                send(number)
            return "ended in order"

    assert main() == "ended in order"
    for number in SIGNALS:
        send(number)  # on the way out


def test_a_deferred_signal_is_kept_until_the_block_that_may_be_interrupted():
    stop = Stopping()
    with stop.deferring(True):
        stop.catch(signal.SIGTERM, None)
        assert stop.signalled
        with pytest.raises(KeyboardInterrupt), stop.deferring(False):
            pytest.fail("not reached")
        stop.catch(signal.SIGTERM, None)


def test_one_that_comes_long_after_the_first_ends_the_process(monkeypatch, capfd):
    stop, codes = Stopping(), []
    monkeypatch.setattr(os, "_exit", codes.append)
    with stop.deferring(True):
        stop.catch(signal.SIGINT, None)
        monkeypatch.setattr(stopping, "GRACE", -1.0)
        stop.catch(signal.SIGINT, None)
    assert codes == [130] and capfd.readouterr().err.count("\n") == 1


def test_handlers_are_put_back_and_what_nohup_ignores_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    before = [signal.getsignal(number) for number in SIGNALS]

    @stoppable
    def main(_argv):
        send(signal.SIGHUP)
        return STOP.signalled, signal.getsignal(signal.SIGINT) == STOP.catch

    assert main() == (False, True) and [signal.getsignal(number) for number in SIGNALS] == before


def test_the_time_limit_counts_from_the_start():
    stop = Stopping()
    assert not stop.is_late(None) and not stop.is_late(1) and stop.is_late(1e-9)
