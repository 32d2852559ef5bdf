"""The loop that every method shares: backward, step, EMA, records, validation, best and last weights, resume."""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Callable, Iterable, Mapping, Optional, Sequence

import torch
from torch import nn
from torch.utils._pytree import tree_map_only
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from dataloaders.files import InputError
from dataloaders.sampler import TwoStreamBatches
from dataloaders.training_data import TrainingData
from networks import net_factory
from utils.deep_supervision import outputs
from utils.evaluation.evaluate import validator
from utils.evaluation.inference import evaluating, make_predictor
from utils.pictures import can_draw, make_panel
from utils.runs.checkpoints import load_checkpoint, load_tensors, save_checkpoint, save_tensors
from utils.runs.device import crowded, pick_device, set_seed, step_seed
from utils.runs.folder import RunFolder, folder_size, open_run
from utils.runs.stopping import (
    INTERRUPTED,
    STOP,
    TIME_LIMIT_REACHED,
    blocked_in_children,
    ignore_signals,
    kill_children,
)
from utils.training.speed import place, resolve_speed
from utils.training.stopwatch import Stopwatch

# (batch on the device, step counted from 0) -> (loss, terms). Terms are scalars by TensorBoard name, loss/... exactly
# what is summed and monitor/... the rest, and label maps label/... of the last images of the batch, for the record.
Objective = Callable[[dict, int], "tuple[torch.Tensor, dict]"]


@dataclass
class Method:
    """What one method brings to the shared loop."""

    name: str  # of its runs' folders: "Ours_MT"
    student: nn.Module  # it is validated, its weights become best.pth and last.pth
    optimizer: torch.optim.Optimizer
    objective: Objective
    unlabelled_bs: int  # images of a batch from the unlabelled stream
    after_step: Callable[[int], None] = lambda step: None  # the teacher's update, after the optimiser's step
    state: Mapping[str, nn.Module] = field(default_factory=dict)  # what else a checkpoint holds: teacher, memories
    keep_optimizer: bool = False  # weights files hold the optimiser's state, for a stage that follows
    note: str = ""  # said in the log and below every table of this run
    greetings: Sequence[str] = ()  # lines for the log, "" for none


ADVICE = "earlier checkpoints are kept. Try a smaller --base_lr, or --amp off or bf16"


class NonFiniteLoss(FloatingPointError):
    """The total became NaN or infinite: names step and term. The last good checkpoint is kept."""


def make_loader(dataset: Dataset, batches: Iterable, num_workers: int, device: torch.device) -> Iterable[dict]:
    """Whole batches: dataset[key] for each key that `batches` yields, made by workers or, on a GPU, there and then."""
    if dataset.device.type == "cuda":
        return (dataset[key] for key in batches)
    return DataLoader(
        dataset,
        sampler=batches,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=ignore_signals,
        prefetch_factor=4 if num_workers else None,
    )


def start(args: argparse.Namespace) -> torch.device:
    """The device that the flags ask for, everything seeded; what --fast stands for is put into `args`."""
    device = pick_device(args.gpu, args.amp)
    resolve_speed(args, device)
    set_seed(args.seed, args.deterministic)
    return device


def build_networks(
    count: int, data: TrainingData, args: argparse.Namespace, device: torch.device, scales: int = 1
) -> list[nn.Module]:
    """`count` networks --net on the device, each with its own initial weights.

    Raises InputError for a network that does not fit the data, or whose forward gives something else than (logits,
    features): the logits (B, C, *size), or at `scales` scales a list of them, coarse to fine.
    """
    info, size = data.info, (1, 1, *data.patch_size)
    try:
        nets = [place(net_factory(args.net, 1, info.num_classes, info.dims), device, args) for _ in range(count)]
        with evaluating(nets[0]):
            logits, _ = outputs(nets[0], torch.zeros(size, device=device))
        wanted = (1, info.num_classes, *data.patch_size)
        if logits[-1].shape != wanted:
            raise ValueError(f"the finest logits of an image {size} must be {wanted}, not {tuple(logits[-1].shape)}")
        if scales not in (1, len(logits)):
            raise ValueError(
                f"it gives logits at {len(logits)} of {scales} scales; --preset supervised takes any number"
            )
    except (ValueError, TypeError, IndexError, AttributeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"--net {args.net} cannot be trained on {info.name}: {reason} (forward must give (logits, features))"
        ) from error
    return nets


def student_and_teacher(
    data: TrainingData, args: argparse.Namespace, device: torch.device, scales: int = 1
) -> tuple[nn.Module, nn.Module]:
    """Two networks as `build_networks` makes them; the teacher without gradients."""
    student, teacher = build_networks(2, data, args, device, scales)
    return student, teacher.requires_grad_(False)


def two_stream_loader(data, args: argparse.Namespace, unlabelled_bs: int, device: torch.device):
    """loader(start, stop) for a Trainer: batches of --labeled_bs labelled, then `unlabelled_bs` unlabelled images.

    Moves the training data to the GPU where --data_on says so.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    if args.data_on == "gpu" or (args.data_on == "auto" and data.train.num_bytes <= free / 4):
        data.train.to(device)

    def loader(start: int, stop: int) -> Iterable[dict]:
        streams = data.labelled, data.unlabelled, args.labeled_bs, unlabelled_bs
        return make_loader(data.train, TwoStreamBatches(*streams, args.seed, start, stop), args.num_workers, device)

    return loader


class Trainer:
    """One training run in one folder. `description` (plain values) goes into the weights files with the tensors."""

    def __init__(
        self,
        run: RunFolder,
        method: Method,
        data: TrainingData,
        args: argparse.Namespace,
        description: dict,
    ):
        self.run, self.method, self.args, self.description = run, method, args, description
        self.modules, self.optimizer = {"student": method.student, **method.state}, method.optimizer
        self.device, self.classes = next(method.student.parameters()).device, data.info.classes
        self.loader = two_stream_loader(data, args, method.unlabelled_bs, self.device)
        predict = make_predictor(method.student, data.info, data.patch_size, getattr(args, "val_stride", None))
        self.validate, self.val_start = validator(predict, data.selection), getattr(args, "val_start", 0)
        self.scaler = _grad_scaler() if args.amp == "fp16" else None
        self.done = 0  # iterations
        self.best: dict = {}  # the weights file of the best validation so far
        self.pending: list = []  # the terms of the steps since the last look, still on the device
        self.validation_due = False  # of the iterations done: it was interrupted
        self.watch = Stopwatch(self.device if args.profile else None)

    def fit(self) -> int:
        """Train up to --max_iterations, from the checkpoint if there is one. Returns the script's exit code.

        0: finished; INTERRUPTED or TIME_LIMIT_REACHED: a checkpoint is saved.
        """
        with STOP.deferring(True):
            self._resume()
            if self.done >= self.args.max_iterations and not self.validation_due:
                self._ensure_best()
                self._ensure_last()
                self.run.say(f"finished: {self.run.path} has its {self.done} iterations; nothing to do")
                return 0
            self.run.record_start(self.done)
            self._warn_of_no_validation()
            self._train()
            if self.args.profile:
                self.run.say(self.watch.report())
            if STOP.signalled or self.done < self.args.max_iterations:
                return self._stop_early()
            self._ensure_best()
            chosen = "not validated"
            if self.best:
                chosen = f"best validation Dice {self.best['val_dice']:.4f} at iteration {self.best['iteration']}"
            where = f"weights in {self.run.path} ({folder_size(self.run.path)})"
            self.run.say(f"finished: {self.done} iterations, {chosen}; {where}")
            return 0

    def _train(self) -> None:
        """Steps until the end, a signal or the time limit; at least one, so that repeated calls finish some day."""
        start, stop = self.done, self.args.max_iterations
        self.writer = SummaryWriter(str(self.run.path), purge_step=start + 1)
        bar = tqdm(total=stop, initial=start, unit="it", disable=None, smoothing=0.05)
        self.clock, self.clock_done = time.perf_counter(), start
        try:
            if self.validation_due:
                self._validate({}, {})
                self._save()
            with blocked_in_children():
                batches = iter(self.loader(start, stop))
            while self.done < stop and not STOP.signalled:
                if self.done > start and STOP.is_late(self.args.time_limit):
                    break
                with self.watch("data"):
                    batch = next(batches)
                self._step(batch, bar)
        except BaseException as error:
            kill_children()
            if not str(error).startswith("DataLoader worker"):
                raise
            raise InputError(
                f"{self.run.path}: a process that loads data was killed, likely for lack of memory: use fewer "
                "--num_workers; rerun the same command to resume"
            ) from error
        finally:
            bar.close()
            self.writer.close()

    def _stop_early(self) -> int:
        self._save()
        reason = "interrupted" if STOP.signalled else "time limit reached"
        self.run.say(f"{reason} at iteration {self.done}; rerun the same command to resume")
        return INTERRUPTED if STOP.signalled else TIME_LIMIT_REACHED

    def _warn_of_no_validation(self) -> None:
        stop, interval = self.args.max_iterations, self.args.val_interval
        first = max(-(-self.val_start // interval), self.done // interval + 1) * interval
        if self.validate and first > stop and not self.best:
            start = f", --val_start {self.val_start}" if self.val_start else ""
            self.run.say(
                f"WARNING: no validation in {stop} iterations, the first would come at {first} "
                f"(--val_interval {interval}{start})"
            )

    def _ensure_best(self) -> None:
        """A run without any validation has its last weights as the best."""
        if not self.best:
            save_tensors(self._weights(), self.run.path / "best.pth")
            self.run.say("no validation was run: best.pth is a copy of the last weights")

    def _ensure_last(self) -> None:
        """A finished run has its last weights, also where they were deleted or a kill came before they were written."""
        path = self.run.path / "last.pth"
        if not path.exists() or load_tensors(path)["iteration"] != self.done:
            save_tensors(self._weights(), path)

    def _step(self, batch: dict, bar: tqdm) -> None:
        with self.watch("step"):
            batch = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
            loss, terms = self._update(batch)
            self.done += 1
            self._note(loss, terms)

        last = self.done == self.args.max_iterations
        logs = last or self.done % self.args.log_interval == 0
        saves = last or self.done % self.args.save_interval == 0
        validates = self.validate and self.done % self.args.val_interval == 0 and self.done >= self.val_start
        if logs or validates or saves:
            with self.watch("records"):
                row = self._fetch()
                if logs:
                    self._log(row, batch, terms, bar)
        if validates:
            with self.watch("validation"):
                self._validate(batch, terms)
        if saves and not self.validation_due:
            with self.watch("checkpoints"):
                self._save()
        bar.update()

    def _update(self, batch: dict) -> tuple[torch.Tensor, dict]:
        """Objective, backward pass, optimiser, teacher: what runs without waiting for the device."""
        torch.manual_seed(step_seed(self.args.seed, self.done))  # dropout: the same in a resumed run
        self.optimizer.zero_grad(set_to_none=True)
        loss, terms = self.method.objective(batch, self.done)
        if self.scaler is None:
            loss.backward()
            self.optimizer.step()
        else:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.method.after_step(self.done)
        return loss, terms

    def _note(self, loss: torch.Tensor, terms: dict) -> None:
        """Keep this step's scalars on the device until someone looks."""
        scalars = {
            "loss/total": loss,
            **{name: value for name, value in terms.items() if not name.startswith("label/")},
        }
        plain = {name: value for name, value in scalars.items() if not isinstance(value, torch.Tensor)}
        on_device = {name: value.detach() for name, value in scalars.items() if name not in plain}
        self.pending.append((self.done, plain, list(on_device), torch.stack([v.double() for v in on_device.values()])))

    def _fetch(self) -> dict:
        """The newest step's scalars; raises NonFiniteLoss if a total since the last look was not finite."""
        fetched = iter(torch.cat([values for *_, values in self.pending]).tolist())
        for iteration, _, names, _ in self.pending:
            values = list(islice(fetched, len(names)))  # the number of terms may change, where a warm-up ends
            if not math.isfinite(values[0]):
                bad = [
                    name for name, value in zip(names, values) if name.startswith("loss/") and not math.isfinite(value)
                ]
                raise NonFiniteLoss(
                    f"{self.run.path}: the loss is not finite at iteration {iteration} ({', '.join(bad)}); {ADVICE}"
                )
        _, plain, names, _ = self.pending[-1]
        row = {**dict(zip(names, values)), **plain}
        self.pending = []
        return row

    def _log(self, row: dict, batch: dict, terms: dict, bar: tqdm) -> None:
        now = time.perf_counter()
        rate = (self.done - self.clock_done) / (now - self.clock)
        row = {**row, **self._pseudo_label_dice(batch, terms), "monitor/lr": self.optimizer.param_groups[0]["lr"]}
        row["monitor/iterations_per_s"], row["monitor/images_per_s"] = rate, rate * len(batch["image_w"])
        if self.clock_done == 0:
            self.run.say("terms: " + ", ".join(row))
        self.run.record({"iteration": self.done, **row})
        for name, value in row.items():
            self.writer.add_scalar(name, value, self.done)
        loss = f"loss {row['loss/total']:.4f}"
        bar.set_postfix_str(loss, refresh=False)
        if self.done % (10 * self.args.log_interval) == 0:
            of = f"iteration {self.done} of {self.args.max_iterations}"
            self.run.say(f"{of}: {loss}, {rate:.2f} iterations/s", printed=bar.disable)  # the bar shows it, where it is
        self.clock, self.clock_done = now, self.done

    def _pseudo_label_dice(self, batch: dict, terms: dict) -> dict:
        """Dice of the label maps against the batch's labels where they exist; for the record only."""
        scores = {}
        for name, pred in terms.items():
            if name.startswith("label/"):
                known = batch["has_label"][-len(pred) :]
                truth = batch["label"][-len(pred) :]
                score = mean_label_dice(pred[known], truth[known], len(self.classes) + 1)
                scores[f"monitor/dice_{name[len('label/') :]}"] = score
        return scores

    def _validate(self, batch: dict, terms: dict) -> None:
        started = time.perf_counter()
        self.validation_due = True
        try:
            with STOP.deferring(False):  # it may take minutes, and nothing is lost that the resumed run cannot repeat
                scores = self.validate()
        except KeyboardInterrupt:
            if not STOP.signalled:
                raise
            return
        self.validation_due = False
        seconds = time.perf_counter() - started
        self.clock += seconds  # images/s count training alone
        values = {f"val/{name}": value for name, value in scores.items()}
        self.run.record({"iteration": self.done, **values, "val/seconds": seconds})
        for name, value in scores.items():
            self.writer.add_scalar(f"val/{name}", value, self.done)
        labels = {name[len("label/") :]: value for name, value in terms.items() if name.startswith("label/")}
        if labels and can_draw():
            self.writer.add_image("panel/image_labels_truth", make_panel(batch, labels), self.done)
        is_best = not self.best or scores["dice"] > self.best["val_dice"]
        if is_best:
            self.best = self._weights(val_dice=scores["dice"])
            save_tensors(self.best, self.run.path / "best.pth")
        by_class = " ".join(f"{name} {scores[f'dice/{name}']:.4f}" for name in self.classes)
        self.run.say(
            f"iteration {self.done}: validation Dice {scores['dice']:.4f} ({by_class}) in {seconds:.1f} s"
            + (", best so far" if is_best else "")
        )

    def _weights(self, **more) -> dict:
        """What a weights file holds: the student's tensors and the run's description."""
        net = _to_cpu(dict(self.modules["student"].state_dict()))
        optimizer = {"opt": _to_cpu(self.optimizer.state_dict())} if self.method.keep_optimizer else {}
        return {"net": net, **optimizer, "iteration": self.done, **self.description, **more}

    def _save(self) -> None:
        if not all(bool(torch.isfinite(value).all()) for value in self.modules["student"].parameters()):
            raise NonFiniteLoss(f"{self.run.path}: weights are not finite at iteration {self.done}; {ADVICE}")
        state = {name: module.state_dict() for name, module in self.modules.items()}
        state.update(iteration=self.done, optimizer=self.optimizer.state_dict(), best=self.best)
        if self.scaler is not None:
            state["scaler"] = self.scaler.state_dict()
        if self.validation_due:
            state["validation_due"] = True
        save_checkpoint(state, self.run.path)
        if not self.validation_due:  # with all iterations last.pth says that the run is complete
            save_tensors(self._weights(), self.run.path / "last.pth")

    def _resume(self) -> None:
        state = load_checkpoint(self.run.path, self.run.say)
        self.run.cut_back(state["iteration"] if state else 0)
        if state is None:
            return
        for name, module in self.modules.items():
            module.load_state_dict(state[name])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        self.done, self.best = state["iteration"], state["best"]
        self.validation_due = state.get("validation_due", False)
        best_path = self.run.path / "best.pth"
        if self.best and not (best_path.exists() and load_tensors(best_path)["iteration"] == self.best["iteration"]):
            save_tensors(self.best, best_path)  # the one there came after the checkpoint
        if self.done < self.args.max_iterations or self.validation_due:
            self.run.say(f"resuming at iteration {self.done}")


def fit(method: Method, data: TrainingData, args: argparse.Namespace, path: Optional[Path] = None) -> int:
    """Train in the run's folder, or in `path`; returns the script's exit code, see `Trainer.fit`."""
    run, description = open_run(args, method.name, data, method.student, path)
    device = next(method.student.parameters()).device
    for line in filter(None, (method.note, *method.greetings, crowded(device))):
        run.say(line)
    if method.note:
        description["note"] = method.note
    return Trainer(run, method, data, args, description).fit()


def mean_label_dice(pred: torch.Tensor, truth: torch.Tensor, num_classes: int) -> float:
    """Mean Dice over the foreground classes that either label map holds, pooled over the batch; NaN if none does."""
    pairs = [(pred == label, truth == label) for label in range(1, num_classes)]
    counts = torch.stack([torch.stack([(a & b).sum(), a.sum() + b.sum()]) for a, b in pairs]).tolist()
    scores = [2 * common / size for common, size in counts if size]
    return sum(scores) / len(scores) if scores else float("nan")


def _grad_scaler():
    """fp16's loss scaler, by its name in torch 2.0 and after."""
    return torch.amp.GradScaler("cuda") if hasattr(torch.amp, "GradScaler") else torch.cuda.amp.GradScaler()


def _to_cpu(state):
    """A copy of a nested state with its tensors on the CPU."""
    return tree_map_only(torch.Tensor, lambda value: value.detach().cpu().clone(), state)
