"""One process at a time writes a folder: a lock that the system drops when its holder ends, however it ends."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two processes out of one folder there
    fcntl = None

from dataloaders.files import InputError

LOCK = ".lock"
_held: dict[Path, tuple] = {}  # lock file -> its descriptor, the folders made for it


def hold(folder: Path, part: str = "") -> None:
    """Keep other processes out of `folder`, made if need be, until `release` or the end of this process.

    part: only out of this part of it, such as one file's name. Raises InputError that names the process and the host
    which hold it. Does nothing where the system has no locks or the folder cannot be made: the first write reports it.
    """
    folder = Path(os.path.abspath(folder))
    path = folder / (f".{part}{LOCK}" if part else LOCK)
    if fcntl is None or path in _held:
        return
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a record lock: forked workers do not share it
        removed = not (path.exists() and os.path.samestat(os.fstat(descriptor), os.stat(path)))
    except OSError as error:
        holder = os.read(descriptor, 1000).decode(errors="replace").strip() or "another process"
        os.close(descriptor)
        if error.errno in (errno.EACCES, errno.EAGAIN):
            what = folder / part if part else folder
            raise InputError(f"{what}: in use by {holder}; wait for it to finish, or stop it first") from None
        return
    if removed:  # by the one that held it until now
        os.close(descriptor)
        return hold(folder, part)
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    _held[path] = descriptor, made


def release() -> None:
    """Give up all that `hold` took; folders that it made and that are still empty are removed with it."""
    while _held:
        path, (descriptor, made) = _held.popitem()
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)
        with suppress(OSError):
            for folder in made:
                folder.rmdir()
