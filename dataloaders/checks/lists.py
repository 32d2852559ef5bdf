"""The lists of a dataset as they are checked: their entries, the files these lead to, and what is wrong with that."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, Mapping, NamedTuple, Optional, Sequence

from dataloaders.checks.inspection import Facts
from dataloaders.files import InputError
from dataloaders.reading import missing_hint, read_list, resolve
from dataloaders.registry import DATASETS, DatasetInfo, slice_number, volume_of
from dataloaders.training_data import find_list

ROLES = ("train", "val", "test")


class Finding(NamedTuple):
    """A line of the report: the file, then what is wrong and what to do. A note says what needs no fix."""

    where: object
    what: str
    volumes: tuple = ()  # (role, volume) concerned, for the page
    note: bool = False

    def __str__(self) -> str:
        return f"{'note' if self.note else 'finding'}: {self.where}: {self.what}"


@dataclass
class CheckedList:
    """One list, the files that its entries lead to and, once they are read, the facts of each."""

    role: str
    path: Path
    dims: int  # of its files: 2 slices, 3 volumes
    lines: int  # entries, repetitions included
    entries: list[str]  # each once
    files: dict[str, Path] = field(default_factory=dict)  # entry -> file, in the list's order
    facts: dict[str, Facts] = field(default_factory=dict)

    def volume_of(self, entry: str) -> str:
        """The volume that an entry is a slice of, or is."""
        return volume_of(entry) if self.dims == 2 else entry

    def volumes(self) -> dict[str, list[str]]:
        """Volume -> its entries: itself, or its slices in numeric order."""
        volumes = defaultdict(list)
        for entry in self.entries:
            volumes[self.volume_of(entry)].append(entry)
        return {name: sorted(entries, key=slice_number) for name, entries in volumes.items()}

    def place(self, volume: str) -> str:
        """What to call a volume: its file, or the list and its name."""
        return str(self.files[volume]) if self.dims == 3 else f"{self.path}: {volume}"


def read_lists(
    info: DatasetInfo, root: Path, given: Mapping[str, Optional[str]]
) -> tuple[list[CheckedList], list[Finding]]:
    """The existing lists, with their files, and what is wrong with them before any file is read.

    given: role -> the list that the user names, or None. Raises InputError where no list leads to any file.
    """
    lists, findings = [], []
    for role in ROLES:
        path = find_list(info, root, role, given[role])
        if path is None:
            if role in ("train", "test") or role in info.expected:
                names = " or ".join(getattr(info, f"{role}_lists"))
                what = f"no {names} here; make one or name it with --{role}_list"
                custom = info.name not in DATASETS
                what += "" if custom else " (the splits: dataloaders/lists/)"
                findings.append(Finding(root, what, note=custom and role == "test"))  # --split 80 20 0 asks for that
            continue
        dims = 2 if info.dims == 2 and role == "train" else 3
        templates = info.slice_paths if dims == 2 else info.volume_paths
        try:
            lines = read_list(path, root, templates)
        except InputError as error:
            findings.append(Finding(path, str(error)[len(f"{path}: ") :]))
            continue
        checked = CheckedList(role, path, dims, len(lines), list(dict.fromkeys(lines)))
        found = {entry: resolve(root, templates, entry) for entry in checked.entries}
        checked.files = {entry: file for entry, file in found.items() if file is not None}
        lists.append(checked)
        findings += _entry_findings(checked, lines, root, templates)
    if not any(checked.files for checked in lists):
        raise InputError("nothing to check: " + "; ".join(f"{finding.where}: {finding.what}" for finding in findings))
    return lists, findings


def _entry_findings(checked: CheckedList, lines: Sequence[str], root: Path, templates) -> Iterator[Finding]:
    repeated = [entry for entry, count in Counter(lines).items() if count > 1]
    if repeated:
        what = f"entries that occur more than once ({len(repeated)}): {', '.join(repeated)}; keep one of each"
        yield Finding(checked.path, what)
    missing = [entry for entry in checked.entries if entry not in checked.files]
    if missing:
        number = f"{len(missing)} of {len(checked.entries)} entries have no file"
        names = summarise_entries(missing)
        if not checked.files:
            number, names = f"none of its {len(missing)} entries has a file", f"{missing[0]}, ..."
        yield Finding(
            checked.path,
            f"{number} under {root} (as {' or '.join(templates)}): {names}; "
            f"copy or prepare them, or name a list without them with --{checked.role}_list{missing_hint(missing)}",
        )


def summarise_entries(entries: Sequence[str]) -> str:
    """Names in one line, the slices of a volume together: "case0005 slices 1-3, 7; case0006 slice 2"."""
    parts = []
    for volume in dict.fromkeys(map(volume_of, entries)):
        numbers = sorted(slice_number(entry) for entry in entries if volume_of(entry) == volume)
        runs: list[list[int]] = []
        for number in numbers:
            if runs and number == runs[-1][-1] + 1:
                runs[-1][1:] = [number]
            else:
                runs.append([number])
        text = ", ".join("-".join(map(str, run)) for run in runs)
        parts.append(volume if numbers == [-1] else f"{volume} slice{'s' if len(numbers) > 1 else ''} {text}")
    return ("; " if any(" slice" in part for part in parts) else ", ").join(parts)
