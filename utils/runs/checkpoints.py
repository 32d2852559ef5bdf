"""Weights and checkpoints, whole or not there at all, also after a kill. Loading never runs pickled code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Callable, Optional

import torch

from dataloaders.files import InputError, whole_file

CHECKPOINT, PREVIOUS = "checkpoint.pth", "checkpoint_prev.pth"


def save_tensors(data: dict, path: Path) -> None:
    """Write a dictionary of tensors and plain values; the old file stays until the new one is whole on the disk."""
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        torch.save(data, file)


def load_tensors(path: Path) -> dict:
    """Read what `save_tensors` wrote, onto the CPU; raises InputError for a damaged file or one with code in it."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder; name a weights file in it (best.pth in a run's folder)") from error
    except MemoryError:
        raise
    except Exception as error:  # a file of anything else can end the reader in any way
        advice = isinstance(error, pickle.UnpicklingError)  # PyTorch's, to load it unsafely
        reason = "" if advice or not str(error) else f" ({str(error).splitlines()[0]})"
        raise InputError(f"{path}: damaged or not a file of plain tensors{reason}") from error


def save_checkpoint(data: dict, folder: Path) -> None:
    """Write checkpoint.pth and keep the one before it as checkpoint_prev.pth."""
    temporary = folder / (CHECKPOINT + ".new")
    save_tensors(data, temporary)
    if (folder / CHECKPOINT).exists():
        os.replace(folder / CHECKPOINT, folder / PREVIOUS)
    os.replace(temporary, folder / CHECKPOINT)


def load_checkpoint(folder: Path, say: Callable[[str], None] = print) -> Optional[dict]:
    """The newest whole checkpoint of a run's folder, None where there is none.

    A damaged one is named, set aside as *.damaged, and the one before it is used. Raises InputError where all are, and
    where the folder shows that there was one: a run that cannot be resumed is not overwritten either.
    """
    names = [name for name in (CHECKPOINT, PREVIOUS) if (folder / name).exists()]
    for name in names:
        try:
            return load_tensors(folder / name)
        except InputError as error:
            say(f"WARNING: {error}")
            os.replace(folder / name, folder / (name + ".damaged"))
            say(f"WARNING: set aside as {name}.damaged")
    if names or (folder / "last.pth").exists() or any(folder.glob("*.damaged")):
        raise InputError(
            f"{folder}: no intact checkpoint is left to resume this run; move the folder elsewhere to start again, or "
            "name another --exp"
        )
    return None
