"""One page of thumbnails: the middle of every case of a dataset with its labels, so that faults catch the eye."""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np

from utils.pictures import class_colour, encode, overlay, window
from utils.reports.pages import Html, folded, image, legend, listing, page, table, tag

SIDE = 160  # pixels of a thumbnail's longer side
MAX_BYTES = 10_000_000  # of thumbnails; a third more in the page, which stays below 15 MB
COUNTED = (
    "Click a picture to enlarge it. Slices of volumes are counted from 1, as in ITK-SNAP; 3D Slicer and array indices "
    "count from 0. Slices that are files of their own have the files' names."
)


class Card(NamedTuple):
    """One case: its thumbnails, each a description and a JPEG file, a line of text, and its findings."""

    name: str
    text: str
    thumbnails: Sequence[tuple[str, bytes]]
    findings: Sequence[str] = ()


def thumbnail(picture: np.ndarray, label: np.ndarray) -> bytes:
    """A slice (H, W) with its labels (H, W, uint8) as a small JPEG; grey levels between the slice's own percentiles."""
    from PIL import Image  # only the page of a checked dataset needs it

    factor = SIDE / max(picture.shape)
    size = [max(1, round(length * factor)) for length in picture.shape[::-1]]
    grey = np.asarray(Image.fromarray(window(picture).astype(np.float32)).resize(size, Image.BILINEAR))
    small = np.asarray(Image.fromarray(label).resize(size, Image.NEAREST))
    return encode(overlay(grey, small, opacity=0.45))


def render_sheet(
    title: str,
    classes: Sequence[str],
    tables: Sequence[Sequence[Sequence[str]]],
    lines: Sequence[str],
    sections: Sequence[tuple[str, Sequence[Card]]],
) -> str:
    """The page: tables, findings, then for each list a grid of cards, those with findings first and always open."""
    parts = [*map(table, tables), listing(lines)]
    parts.append(legend({name: class_colour(label) for label, name in enumerate(classes, start=1)}))
    parts.append(tag("p", COUNTED, class_="small"))
    left = MAX_BYTES
    for heading, cards in sections:
        drawn: dict[bool, list[Html]] = {True: [], False: []}  # by whether something was found
        for card in sorted(cards, key=lambda card: not card.findings):
            size = sum(len(data) for _, data in card.thumbnails)
            if (size or card.findings) and size <= left:
                left -= size
                drawn[bool(card.findings)].append(_figure(card))
        parts.append(tag("h2", heading))
        if drawn[True]:
            parts.append(tag("div", *drawn[True], class_="grid sheet"))
        if drawn[False]:
            sheet = tag("div", *drawn[False], class_="grid sheet")
            parts.append(folded(f"{len(drawn[False])} without findings", sheet, open_=True))
        missing = len(cards) - sum(map(len, drawn.values()))
        if missing:
            parts.append(tag("p", f"{missing} of {len(cards)} cases are not drawn."))
    return page(title, parts)


def _figure(card: Card) -> Html:
    shown = [
        tag("figure", image(data, f"{card.name}, {what}"), tag("figcaption", what)) for what, data in card.thumbnails
    ]
    about = tag("figcaption", tag("b", card.name), card.text, listing(card.findings, shown=3))
    kind = "found" if card.findings else "clean"
    return tag("figure", tag("div", *shown, class_="pair"), about, class_=f"card {kind}")
