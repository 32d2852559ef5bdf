"""What is wrong in a dataset's files and between them: all of it, a line each, once every file has been read."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path
from typing import Iterator, NamedTuple, Sequence

from dataloaders.checks.lists import CheckedList, Finding, summarise_entries
from dataloaders.checks.patient_names import describe_suspects, suspect_patients
from dataloaders.custom_datasets import DESCRIPTION
from dataloaders.datasets import slice_name
from dataloaders.files import InputError
from dataloaders.reading import hardly_shown
from dataloaders.registry import DATASETS, DatasetInfo, case_of, labelled_cases, slice_number

# A case without a class is a finding if at least this share of the other cases has it, else a note: anatomy varies.
NEARLY_ALL, ENOUGH_CASES = 0.95, 3


def all_findings(info: DatasetInfo, root: Path, lists: Sequence[CheckedList]) -> list[Finding]:
    """What is wrong in the files and between them, and notes; `facts` of all lists exist."""
    findings = []
    for checked in lists:
        findings += _file_findings(info, checked)
        findings += _volume_findings(info, checked)
        if checked.role == "train":
            findings += _label_findings(info, checked)
    findings += _lacking_classes(info, lists)
    findings += _shared_cases(lists)
    findings += _patients_by_name(info, root, lists)
    findings += _copies(info, lists)
    findings += _notes(info, root, lists)
    return findings


def _file_findings(info: DatasetInfo, checked: CheckedList) -> Iterator[Finding]:
    """The problems of each file; one line where a list's files are all of the other kind."""
    shapes = [fact.shape for fact in checked.facts.values()]
    if len(shapes) > 1 and all(len(shape) == 5 - checked.dims for shape in shapes):  # 3 for 2, or 2 for 3
        wanted, other = ("slices", "volumes") if checked.dims == 2 else ("volumes", "slices")
        what = f"lists {other} ({checked.entries[0]}, ...), a {checked.role} list of {info.name} names {wanted}"
        yield Finding(checked.path, f"{what}; name another with --{checked.role}_list")
        return
    for entry, facts in checked.facts.items():
        for problem in facts.problems:
            yield Finding(checked.files[entry], problem, ((checked.role, checked.volume_of(entry)),))


def _volume_findings(info: DatasetInfo, checked: CheckedList) -> Iterator[Finding]:
    """Each volume as a whole: gaps between its slices, their shapes, its range, an empty label."""
    volumes = {name: entries for name, entries in checked.volumes().items() if any(e in checked.files for e in entries)}
    starts = Counter(slice_number(entries[0]) for entries in volumes.values())
    usual = starts.most_common(1)[0][0] if starts else 0
    for name, entries in volumes.items():
        where, volume = checked.place(name), ((checked.role, name),)
        numbers = [slice_number(entry) for entry in entries]
        before = [min(usual, numbers[0]) - 1, *numbers]
        gaps = [(last + 1, number - 1) for last, number in zip(before, numbers) if number > last + 1]
        if checked.dims == 2 and gaps:
            lacks = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in gaps)
            what = (
                f"slices {lacks} are not in the list, which has others from {before[0] + 1} to {numbers[-1]}; add them"
            )
            yield Finding(where, what, volume)
        facts = [checked.facts[entry] for entry in entries if entry in checked.facts]
        shapes = sorted({fact.shape for fact in facts if len(fact.shape) == checked.dims})
        if len(shapes) > 1:
            yield Finding(where, f"its slices have different shapes: {', '.join(map(str, shapes))}", volume)
        ranges = [(fact.low, fact.high) for fact in facts if fact.low is not None]
        low, high = min((low for low, _ in ranges), default=0), max((high for _, high in ranges), default=1)
        if info.dims == 2 and len(ranges) == len(entries) and 0 <= low < high < 0.5:
            what = f"the values of the whole volume only reach from {low:g} to {high:g}, expected 0 to 1"
            yield Finding(where, f"{what}; scale it by its minimum and maximum, once", volume)
        voxels = [fact.voxels for fact in facts if fact.voxels is not None]
        if voxels and not any(map(any, voxels)):
            yield Finding(where, "the label is empty, no voxel of any class; look at it, or delete 'label'", volume)
        elif voxels and sum(map(sum, voxels)) == sum(math.prod(fact.shape) for fact in facts):
            yield Finding(where, "the label has no background, every voxel is of a class; look at it", volume)


def _label_findings(info: DatasetInfo, train: CheckedList) -> Iterator[Finding]:
    """Training cases without a label, and whether --labelnum finds the published cases."""
    bare = [entry for entry, fact in train.facts.items() if not fact.has_label and fact.shape]
    protocols = labelled_by_protocol(info, train)
    # protocols that name their cases; the others take so many at the list's head, which a short list may not have
    named = [number for number, cases in info.protocols.items() if isinstance(cases, tuple)]
    lacking = [protocols[number] for number in named if isinstance(protocols[number], str)]
    if lacking:  # the last names the most cases
        yield Finding(train.path, f"{lacking[-1]}; add them, or train with --labeled_cases")
    labelled = {labelnum: cases for labelnum, cases in protocols.items() if not isinstance(cases, str)}
    if len(train.entries) == info.expected.get("train"):
        slices = {number: sum(case_of(e) in cases for e in train.entries) for number, cases in labelled.items()}
        other = [number for number in slices if slices[number] != info.labelled_slices.get(number, slices[number])]
        if other:
            counts = ", ".join(f"{n} labels {slices[n]} slices (published {info.labelled_slices[n]})" for n in other)
            what = f"another order or other cases than the published list: --labelnum {counts}"
            yield Finding(train.path, f"{what}; use the published list, or report this with your numbers")
    needed = set(next(iter(labelled.values()), ()))  # of the smallest protocol
    for entry in bare:
        if case_of(entry) in needed:
            yield Finding(train.files[entry], "no 'label', but every --labelnum labels this case")
    rest = [entry for entry in bare if case_of(entry) not in needed]
    if rest:
        what = f"{len(rest)} files have no 'label', fine for unlabelled cases: {summarise_entries(rest)}"
        yield Finding(train.path, what, note=True)


def labelled_by_protocol(info: DatasetInfo, train: CheckedList) -> dict[int, object]:
    """--labelnum -> its labelled cases, or why the list does not have them (text)."""
    found: dict[int, object] = {}
    for labelnum in info.protocols:
        try:
            found[labelnum] = labelled_cases(info, train.entries, labelnum, None)[0]
        except InputError as error:
            found[labelnum] = str(error)
    return found


def _lacking_classes(info: DatasetInfo, lists: Sequence[CheckedList]) -> Iterator[Finding]:
    """Volumes without a class that most others have; wholly empty labels are another finding."""
    labelled = []
    for checked in lists:
        for name, entries in checked.volumes().items():
            voxels = [checked.facts[entry].voxels for entry in entries if entry in checked.facts]
            counts = [sum(column) for column in zip(*(part for part in voxels if part is not None))]
            if any(counts):
                labelled.append((checked, name, counts))
    train = [(checked, counts) for checked, _, counts in labelled if checked.role == "train"]
    others = len(labelled) - 1
    for index, label in enumerate(info.classes):
        lacking = [(checked, name) for checked, name, counts in labelled if not counts[index]]
        share = (len(labelled) - len(lacking)) / max(others, 1)
        if len(lacking) == len(labelled) > 0:
            what = f"no label has a voxel of {label} (value {index + 1}); correct the classes, or the labels"
            yield Finding(lists[0].path, what)
            continue
        for what in hardly_shown([counts[index : index + 1] for _, counts in train], [label]):
            yield Finding(train[0][0].path, f"{what} (value {index + 1}), though other lists do; correct the labels")
            lacking = [case for case in lacking if case[0].role != "train"]
        for checked, name in lacking if others >= ENOUGH_CASES and share > 0.5 else ():
            what = f"no voxel of {label}, which {len(labelled) - len(lacking)} of the other {others} cases have"
            what += "; look at it: a patient may lack it, a label may be cut or numbered otherwise"
            yield Finding(checked.place(name), what, ((checked.role, name),), note=share < NEARLY_ALL)


def _shared_cases(lists: Sequence[CheckedList]) -> Iterator[Finding]:
    for one, other in combinations(lists, 2):
        theirs = set(map(case_of, other.entries))
        shared = [case for case in dict.fromkeys(map(case_of, one.entries)) if case in theirs]
        if shared:
            what = f"cases that are also in the {other.role} list {other.path} ({len(shared)}): {', '.join(shared)}"
            yield Finding(one.path, f"{what}; take them out of one of the two")


def _patients_by_name(info: DatasetInfo, root: Path, lists: Sequence[CheckedList]) -> Iterator[Finding]:
    """Cases of a custom dataset that look like several scans of one patient; a note where no list shares them."""
    if info.name in DATASETS or info.patient:
        return
    lists_of, volumes = defaultdict(list), defaultdict(list)
    for checked in lists:
        for entry in checked.entries:
            lists_of[case_of(entry)].append(checked.role)
            volumes[case_of(entry)].append((checked.role, checked.volume_of(entry)))
    lists_of = {case: list(dict.fromkeys(roles)) for case, roles in lists_of.items()}
    suspects = suspect_patients(lists_of)
    if suspects:
        what, spread = describe_suspects(suspects, lists_of)
        concerned = dict.fromkeys(volume for case in spread for volume in volumes[case])
        yield Finding(root / DESCRIPTION, what, tuple(concerned), note=not spread)


class Image(NamedTuple):
    """One slice or volume as it stands in a list; `index` of a slice in a 2-D dataset's volume, else 0."""

    checked: CheckedList
    entry: str
    index: int

    @property
    def owner(self) -> tuple[str, str]:
        return self.checked.role, case_of(self.entry)

    @property
    def volume(self) -> tuple[str, str]:
        return self.checked.role, self.checked.volume_of(self.entry)

    @property
    def part(self) -> str:
        """Which slice of its file it is, where that has several."""
        count = len(self.checked.facts[self.entry].hashes)
        return slice_name(2, 0, self.index, count) if count > 1 else ""


def _copies(info: DatasetInfo, lists: Sequence[CheckedList]) -> Iterator[Finding]:
    """Images that occur twice, by content: one line for each two cases that share some."""
    seen = defaultdict(list)
    for checked in lists:
        for entry, facts in checked.facts.items():
            for index, image_hash in enumerate(facts.hashes):
                if image_hash and not any(image.entry == entry for image in seen[image_hash]):
                    seen[image_hash].append(Image(checked, entry, index))
    pairs = defaultdict(list)
    for first, *others in seen.values():
        for other in others:
            if first.owner[1] != other.owner[1] or first.owner[0] == other.owner[0]:  # else named by _shared_cases
                pairs[first.owner, other.owner].append((first, other))
    for ((role, case), (other_role, other_case)), images in pairs.items():
        first, other = images[0]
        known = role == other_role and any({case, other_case} <= set(group) for group in info.known_copies)
        more = f", and {len(images) - 1} more of {other_case} and {case}" if len(images) > 1 else ""
        if known:
            fix = "the published data has this too"
        elif role == other_role:
            fix = "keep one of the two"
        else:
            fix = f"what is in the {role} list must not be in the {other_role} list: take it out of one"
        what = f"{other.part or 'the image'} is the same as {first.part}{' of ' if first.part else ''}"
        what += f"{first.checked.files[first.entry]}{more}; {fix}"
        yield Finding(other.checked.files[other.entry], what, (first.volume, other.volume), known)


def _notes(info: DatasetInfo, root: Path, lists: Sequence[CheckedList]) -> Iterator[Finding]:
    for checked in lists:
        expected = info.expected.get(checked.role)
        if expected not in (None, len(checked.entries)):
            what = f"{len(checked.entries)} entries, the published list has {expected}"
            yield Finding(checked.path, what, note=True)
        types = Counter(fact.types for fact in checked.facts.values() if fact.types)
        for kinds, count in types.items():
            names = " and ".join(f"{key}s of type {kind}" for key, kind in zip(("image", "label"), kinds))
            what = f"{count} files hold {names}, read as float32 and uint8"
            yield Finding(checked.path, what, note=True)
        negative = [entry for entry, fact in checked.facts.items() if fact.negative]
        if negative:
            what = f"labels below 0 count as background in {len(negative)} files: {summarise_entries(negative)}"
            yield Finding(checked.path, what, note=True)
        tilted = [entry for entry, fact in checked.facts.items() if fact.tilted]
        if tilted:
            what = f"{len(tilted)} files come from scans of a tilted gantry: "
            what += f"{summarise_entries(tilted)}; distances in mm follow their sheared axes"
            yield Finding(checked.path, what, note=True)
    listed = {file for checked in lists for file in checked.files.values()}
    patterns = {template.replace("{id}", "*") for template in (*info.slice_paths, *info.volume_paths)}
    unlisted = sorted({file for pattern in patterns for file in root.glob(pattern)} - listed)
    if unlisted:
        names = ", ".join(str(file.relative_to(root)) for file in unlisted[:5])
        what = f"{len(unlisted)} files are in none of these lists: {names}{', ...' if len(unlisted) > 5 else ''}"
        yield Finding(root, what, note=True)
