"""One page of thumbnails: the middle of every case of a dataset with its labels, so that faults catch the eye."""

from __future__ import annotations

import html
import io
from typing import NamedTuple, Sequence

import numpy as np

from utils.pages import html_image, html_page
from utils.panels import PALETTE, overlay, window

SIDE = 160  # pixels of a thumbnail's longer side
MAX_BYTES = 10_000_000  # of thumbnails; a third more in the page, which stays below 15 MB

STYLE = """
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 10px; }
figure { margin: 0; padding: 6px; border: 1px solid #8884; border-radius: 6px; font-size: 12px; }
figure div { display: flex; gap: 4px; align-items: flex-start; }
figure.found { border: 2px solid #d5281f; }
figcaption { overflow-wrap: anywhere; line-height: 1.35; margin-top: 4px; }
figcaption b { display: block; font-size: 13px; }
li { overflow-wrap: anywhere; margin-bottom: 4px; }
.key { display: inline-block; width: 1em; height: 1em; margin: 0 .3em 0 1em; vertical-align: -.1em; }
"""


class Card(NamedTuple):
    """One case: its thumbnails (JPEG), what is written below them, and the findings that concern it."""

    name: str
    text: str
    thumbnails: Sequence[bytes]
    findings: Sequence[str] = ()


def thumbnail(image: np.ndarray, label: np.ndarray) -> bytes:
    """A slice (H, W) with its labels (H, W, uint8) as a small JPEG; grey levels between the slice's own percentiles."""
    from PIL import Image  # only the page of a checked dataset needs it

    factor = SIDE / max(image.shape)
    size = [max(1, round(length * factor)) for length in image.shape[::-1]]
    grey = np.asarray(Image.fromarray(window(image).astype(np.float32)).resize(size, Image.BILINEAR))
    small = np.asarray(Image.fromarray(label).resize(size, Image.NEAREST))
    picture = Image.fromarray(np.rint(overlay(grey, small, opacity=0.45) * 255).astype(np.uint8))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88, subsampling=0)
    return file.getvalue()


def render_sheet(
    title: str, classes: Sequence[str], table: str, lines: Sequence[str], sections: Sequence[tuple[str, Sequence[Card]]]
) -> str:
    """The page: table, findings, then for each list a grid of cards, those with findings first."""
    parts = [f"<h1>{html.escape(title)}</h1>", f"<pre>{html.escape(table)}</pre>"]
    parts.append("<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>" if lines else "")
    key = []
    for index, name in enumerate(classes, start=1):
        colour = ", ".join(str(round(255 * value)) for value in PALETTE[index % len(PALETTE)])
        key.append(f'<span class="key" style="background: rgb({colour})"></span>{html.escape(name)}')
    parts.append(f"<p>Labels:{''.join(key)}</p>")
    left = MAX_BYTES
    for heading, cards in sections:
        parts.append(f"<h2>{html.escape(heading)}</h2>")
        drawn = []
        for card in sorted(cards, key=lambda card: not card.findings):
            size = sum(map(len, card.thumbnails))
            if (size or card.findings) and size <= left:
                left -= size
                drawn.append(_figure(card))
        parts.append(f'<div class="sheet">{"".join(drawn)}</div>')
        if len(drawn) < len(cards):
            parts.append(f"<p>{len(cards) - len(drawn)} of {len(cards)} cases are not drawn.</p>")
    return html_page(title, parts, STYLE)


def _figure(card: Card) -> str:
    pictures = "".join(html_image(data, "jpeg", card.name) for data in card.thumbnails)
    found = "".join(f"<br>{html.escape(finding)}" for finding in card.findings)
    return (
        f'<figure class="{"found" if card.findings else "clean"}"><div>{pictures}</div>'
        f"<figcaption><b>{html.escape(card.name)}</b>{html.escape(card.text)}{found}</figcaption></figure>"
    )
