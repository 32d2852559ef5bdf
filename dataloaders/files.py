"""Files: each exists completely or not at all, and the same content gives the same bytes."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Iterable, Iterator, Mapping, Optional, Sequence

import h5py
import numpy as np


class InputError(ValueError):
    """Bad input. The message is one line that names the file or flag and the fix; scripts print it and exit with 2."""


class WriteError(InputError):
    """A file that cannot be written: a full disk, a folder without the right to write. The next one will fail too."""


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """A question in brackets for a name that is close to a known one, otherwise ""."""
    lower = {name.lower(): name for name in known}
    close = get_close_matches(text.lower(), lower, n=1)
    return f" (did you mean {lower[close[0]]}?)" if close else ""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name next to `path`, with its suffix; flushed and renamed when the block ends, removed when it fails.

    Raises WriteError for what the system (OSError), PyTorch or SimpleITK (RuntimeError) has against it.
    """
    path = Path(path)
    temporary = path.with_name(".part-" + path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        chain: list[BaseException] = [error]  # PyTorch hides the system's error behind its own
        while chain[-1].__context__:
            chain.append(chain[-1].__context__)
        for cause in chain:
            if str(cause).startswith("DataLoader worker"):
                raise cause from None  # no write: a child process ended, which is reported wherever its parent is
        system = next((cause for cause in chain if isinstance(cause, OSError)), None)
        reason = getattr(system, "strerror", None) or (str(error) or type(error).__name__).splitlines()[-1]
        full = system is not None and system.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None))
        advice = "make room" if full else f"check {path.parent}"
        raise WriteError(f"{path}: cannot be written ({reason}); {advice}, then run the same command again") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """A whole text file."""
    with whole_file(path) as temporary:
        temporary.write_text(text)


def csv_text(rows: Iterable[Sequence]) -> str:
    """Rows as the text of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def write_json(path: Path, data: dict) -> None:
    """A whole JSON file."""
    write_text(path, json.dumps(data, indent=2) + "\n")


def write_h5(path: Path, image: np.ndarray, label: Optional[np.ndarray], attributes: Optional[Mapping] = None) -> None:
    """One case as h5: `image`, `label` where there is one, and the file's attributes."""
    write_arrays(path, {"image": image} if label is None else {"image": image, "label": label}, attributes)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], attributes: Optional[Mapping] = None) -> None:
    """A whole h5 file of these arrays, gzip, and the file's attributes.

    Made in memory first: HDF5 does not survive a full disk, Python's own write reports it.
    """
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        for key, array in arrays.items():
            file.create_dataset(key, data=array, compression="gzip", track_times=False)
        file.attrs.update(attributes or {})
        file.flush()
        content = file.id.get_file_image()
    with whole_file(path) as temporary:
        temporary.write_bytes(content)
