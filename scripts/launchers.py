"""Where jobs run: some at a time on this machine, or on a cluster through submitit (https://pypi.org/project/submitit)."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Iterator, Optional, Sequence

import torch

from dataloaders.files import InputError
from scripts.jobs import ROOT, TIME_IS_UP, Job, Outcome, Stopper, last_lines, run_job
from utils.runs.stopping import heeded_signals

TIMEOUT, MARGIN = 24 * 60, 5  # minutes of a cluster job, and how long before its end a training saves and ends


def run_local(jobs: Sequence[Job], gpus: int) -> Iterator[tuple[Job, Outcome]]:
    """Run `gpus` jobs at a time, one on each of the CUDA devices 0 .. gpus - 1; 0: one at a time, without --gpu.

    Yields each as it ends. A signal to stop is passed on to the commands, which save what they have; then the
    remaining outcomes are "interrupted".
    """
    if gpus > torch.cuda.device_count():
        raise InputError(
            f"--gpus {gpus}: PyTorch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices here; "
            "--gpus 0 runs one row at a time on the device that the train scripts pick"
        )
    free: queue.Queue = queue.Queue()
    for gpu in range(gpus) if gpus else [None]:
        free.put(gpu)
    stopper = Stopper()

    def run(job: Job) -> Outcome:
        gpu = free.get()
        try:
            if stopper.stopped.is_set():
                return Outcome("interrupted", 0.0)
            print(f"{job.name}: {job.state}; log: {job.log}\n", end="", flush=True)
            return run_job(job, gpu, stopper)
        finally:
            free.put(gpu)

    handlers = {number: signal.signal(number, stopper.stop) for number in heeded_signals()}
    try:
        with ThreadPoolExecutor(max_workers=max(gpus, 1)) as pool:
            running = {pool.submit(run, job): job for job in jobs}
            for future in as_completed(running):
                yield running[future], future.result()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def run_cluster(
    jobs: Sequence[Job], folder: Path, gpus: int, options: dict, cluster: str = "slurm", poll_seconds: float = 10
) -> Iterator[tuple[Job, Outcome]]:
    """Submit the jobs as one array of which `gpus` run at a time, with a GPU each (0: all at once, without one).

    A job of an earlier call that is still queued or running is waited for, not submitted again. A job whose training
    reached the time limit is submitted again, to resume it. `options`: further parameters of submitit's executor, e.g.
    slurm_partition. Yields each as it ends; KeyboardInterrupt leaves the jobs where they are.
    """
    try:
        import submitit
        from submitit.core.utils import DelayedSubmission, FailedJobError, UncompletedJobError
    except ImportError as error:
        raise InputError("--launcher slurm needs submitit: pip install submitit") from error
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(
            **{"name": "reproduce", "timeout_min": TIMEOUT, "cpus_per_task": 4, "gpus_per_node": min(gpus, 1)},
            **({"slurm_array_parallelism": gpus or len(jobs)} if cluster == "slurm" else {}),
        )
        executor.update_parameters(**options)
    except (RuntimeError, NameError, TypeError, AssertionError) as error:
        raise InputError(f"--launcher slurm: {str(error).splitlines()[0]}") from error

    job_class = submitit.SlurmJob if cluster == "slurm" else submitit.LocalJob
    waiting = {}
    for path in sorted(folder.glob("*_submitted.pkl")):
        submitted = job_class(folder, path.name[: -len("_submitted.pkl")])
        job = DelayedSubmission.load(path).args[0]
        if job in jobs and job not in waiting.values() and not has_ended(submitted):
            print(f"{job.name}: cluster job {submitted.job_id} of an earlier call: waiting for it", flush=True)
            waiting[submitted] = job
    new = [job for job in jobs if job not in waiting.values()]
    how = (0 if gpus else None), None, time_limit(options)
    if new:
        submissions = executor.map_array(run_job, new, *([value] * len(new) for value in how))
        for submitted, job in zip(submissions, new):
            print(f"{job.name}: {job.state}; cluster job {submitted.job_id}; log: {job.log}", flush=True)
            waiting[submitted] = job
    while waiting:
        for submitted in [submitted for submitted in waiting if has_ended(submitted)]:
            job = waiting.pop(submitted)
            try:
                outcome = submitted.result() if submitted.done() else None
            except (FailedJobError, UncompletedJobError):
                outcome = None
            if outcome is None:
                lines = f"\n{last_lines(job.log)}" if job.log.exists() else ""
                text = f"cluster job {submitted.job_id} ended without a result ({submitted.state}){lines}"
                outcome = Outcome(text, float("nan"))
            if outcome.failure == TIME_IS_UP:
                submitted = executor.submit(run_job, job, *how)
                print(f"{job.name}: {job.state}, {TIME_IS_UP}; cluster job {submitted.job_id} resumes it", flush=True)
                waiting[submitted] = job
                continue
            yield job, outcome
        if waiting:
            time.sleep(poll_seconds)


def time_limit(options: dict) -> Optional[int]:
    """The minutes of training in a cluster job with these options; None where Slurm's own form says them."""
    timeout = options.get("slurm_time", options.get("timeout_min", TIMEOUT))
    return max(timeout - MARGIN, (timeout + 1) // 2) if isinstance(timeout, int) else None


def has_ended(submitted) -> bool:
    """Whether a cluster job is over; asks Slurm's queue where there is no accounting that knows its state."""
    if submitted.done():
        return True
    if submitted.state != "UNKNOWN" or shutil.which("squeue") is None:
        return False
    queued = subprocess.run(["squeue", "--noheader", "--jobs", submitted.job_id], capture_output=True, text=True)
    return submitted.done() or not queued.stdout.strip()
