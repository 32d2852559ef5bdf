"""Scans that may be of one patient though nothing says so: found by their names, with an expression that groups them.

Names such as P01_t1 and P01_t2, P01-pre and P01-post, P01_2021-03-04 and P01_2021-09-30, or P01a and P01b. The rule:
cut every name after its first, second, ... part, where parts end at a separator or, failing that, where letters and
digits meet. The first cut is taken after which names begin alike as a patient's scans do:

- there are several beginnings, and names share some of them: plain numbering (case_001, case_002) has one beginning,
  or as many as names;
- at most six names share a beginning on average, and no more than there are beginnings: hospitals have more scans;
- the endings are of at most six kinds, digits aside: family names and random identifiers are of more;
- the endings recur, as t1 and t2 do, or hold a date: numbers of patients within a hospital (TCGA-02-0006) do neither.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Iterable, Mapping, NamedTuple, Optional, Sequence

# Where a part ends: before a separator; there, and between a letter and a digit.
SEPARATED = r"(?<=[^\W_])(?=[\W_]+[^\W_])"
PARTS = (SEPARATED, rf"{SEPARATED}|(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_])(?=\d)")
SEVERAL = 6  # names that share a beginning on average, and kinds of endings, at most
DATE_DIGITS = 6
EACH_SCAN = "(.+)"  # the expression by which each scan is a patient of its own
SHOWN = 3  # groups in a message


class Suspects(NamedTuple):
    """Beginning -> its names, where there are several; and the expression for `patient` that groups all names so."""

    groups: dict[str, list[str]]
    expression: str


def suspect_patients(names: Iterable[str]) -> Optional[Suspects]:
    """The names that look as if they were several scans of one patient; None where there are none."""
    names = sorted(set(names))
    for part in PARTS:
        cuts = {name: [match.start() for match in re.finditer(part, name)] for name in names}
        for count in range(1, 1 + max(map(len, cuts.values()), default=0)):
            begins = {name: name[: cuts[name][count - 1]] if len(cuts[name]) >= count else name for name in names}
            if _look_like_patients(begins):
                expression = _expression(begins, count)
                if expression:
                    groups = _grouped(begins)
                    return Suspects({key: of_key for key, of_key in groups.items() if len(of_key) > 1}, expression)
    return None


def _grouped(begins: Mapping[str, str]) -> dict[str, list[str]]:
    groups = defaultdict(list)
    for name, beginning in begins.items():
        groups[beginning].append(name)
    return dict(groups)


def _look_like_patients(begins: Mapping[str, str]) -> bool:
    """The rule above for one cut, name -> its beginning."""
    sizes = [len(names) for names in _grouped(begins).values()]
    shared = [size for size in sizes if size > 1]
    endings = {name[len(beginning) :] for name, beginning in begins.items()} - {""}
    kinds = {re.sub(r"\d+", "0", ending) for ending in endings}
    undated = [ending for ending in endings if len(re.findall(r"\d", ending)) < DATE_DIGITS]
    return (
        len(sizes) > 1
        and 0 < sum(shared) <= len(shared) * min(len(sizes), SEVERAL)
        and len(kinds) <= SEVERAL
        and 3 * len(undated) <= 2 * len(begins)
    )


def _expression(begins: Mapping[str, str], count: int) -> Optional[str]:
    """A regular expression whose group is the beginning of every name: the most telling one that is right for all."""
    beginnings = set(begins.values())
    candidates = [{_generalised(beginning, letters) for beginning in beginnings} for letters in (False, True)]
    candidates.append({r"[^\W_]+" + rf"(?:[\W_]+[^\W_]+){{{count - 1}}}" * (count > 1)})
    for expression in (f"^({kinds.pop()})" for kinds in candidates if len(kinds) == 1):
        found = {name: re.search(expression, name) for name in begins}
        if all(match and match[1] == begins[name] for name, match in found.items()):
            return expression
    return None


def _generalised(text: str, letters: bool) -> str:
    r"""As an expression with \d+ for each run of digits and, with `letters`, [A-Za-z]+ for each run of letters."""

    def replace(match) -> str:
        if match[1]:
            return r"\d+"
        if match[2] and letters:
            return "[A-Za-z]+" if match[2].isascii() else r"[^\W\d_]+"
        return match[0] if match[2] or match[0] in "- " else re.escape(match[0])

    return re.sub(r"(\d+)|([^\W\d_]+)|.", replace, text)


def describe_suspects(suspects: Suspects, lists_of: Mapping[str, Sequence[str]]) -> tuple[str, list[str]]:
    """A line on what was found and the ways out, and the names of those groups that more than one list holds.

    lists_of: name -> the lists that it is in.
    """
    groups = suspects.groups
    spread = [key for key, names in groups.items() if len({role for name in names for role in lists_of[name]}) > 1]
    named = [
        f"{key} ({', '.join(' '.join([name, *lists_of[name]]) for name in groups[key][:SEVERAL])}"
        f"{', ...' if len(groups[key]) > SEVERAL else ''})"
        for key in (spread or list(groups))[:SHOWN]
    ]
    more = len(spread or groups) - len(named)
    text = f"{sum(map(len, groups.values()))} names begin alike in {len(groups)} groups, as scans of one patient do"
    if spread:
        text += f", and {len(spread)} of the groups are in more than one list, a leak if they are patients"
    text += f": {', '.join(named)}{f' and {more} more' if more else ''}; "
    text += f'if they are, add "patient": {json.dumps(suspects.expression)} to dataset.json and prepare again; '
    text += f'if each is a patient of its own, "patient": "{EACH_SCAN}" says so'
    return text, [name for key in spread for name in groups[key]]
