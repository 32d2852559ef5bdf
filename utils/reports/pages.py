"""The one builder of HTML pages: they need no other file and no script, follow the reader's light or dark setting, and
fit a phone. Text is escaped wherever it is put in."""

from __future__ import annotations

import base64
import html
from typing import Iterable, Mapping, Sequence

# The browser's own colours for light and dark; borders in half-transparent grey.
STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 1.5em auto; padding: 0 1em; }
h1, h2, h3, h4, p, li, figcaption, code { overflow-wrap: anywhere; }
h1 { font-size: 1.6em; line-height: 1.25; }
h4 { margin: 1.2em 0 .3em; }
figure { margin: 0; min-width: 0; }
figcaption { line-height: 1.35; }
ol, ul { padding-left: 1.6em; }
ol, ul, .small, figcaption { font-size: 13px; }
pre { overflow-x: auto; padding: 1em; border: 1px solid #8886; border-radius: 6px; font-size: 13px; }
summary { cursor: pointer; padding: .3em 0; }
.table { margin: 1em 0; }
.table figcaption { font-size: 14px; margin-bottom: .4em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25em .7em; border-bottom: 1px solid #8884; white-space: nowrap; }
thead th { border-bottom: 2px solid #888a; }
th:first-child { text-align: left; position: sticky; left: 0; background: Canvas; white-space: normal; }
tbody th { font-weight: normal; min-width: 9em; }
tr.published { font-style: italic; color: GrayText; }
.grid { display: grid; gap: 8px 10px; align-items: start; }
.curves { grid-template-columns: repeat(auto-fit, minmax(min(320px, 100%), 1fr)); }
.boxes { grid-template-columns: repeat(auto-fit, minmax(min(220px, 45%), 1fr)); }
.boxes figure { max-width: 400px; }
.tiles { grid-template-columns: repeat(4, 1fr); max-width: 960px; }
.sheet { grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr));
  margin: .5em 0; align-items: stretch; }
@media (max-width: 640px) { .tiles { grid-template-columns: repeat(2, 1fr); } }
.card { padding: 6px; border: 1px solid #8884; border-radius: 6px; }
.card.found { border: 2px solid #d62728; }
.card b { display: block; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(100px, 1fr)); gap: 4px; margin-bottom: 4px; }
img, svg { display: block; width: 100%; height: auto; border-radius: 4px; }
.zoom { display: block; position: relative; cursor: zoom-in; }
.zoom input { position: absolute; opacity: 0; }
.zoom input:focus-visible + * { outline: 3px solid Highlight; }
.zoom input:checked + * { position: fixed; inset: 0; z-index: 2; width: 100%; height: 100%; object-fit: contain;
  background: Canvas; border-radius: 0; cursor: zoom-out; }
.key span { display: inline-block; margin-right: 1em; }
.key i { display: inline-block; width: 1em; height: 1em; margin-right: .35em; vertical-align: -.1em;
  border: 1px solid #8888; }
"""
VOID = ("img", "input", "meta")


class Html(str):
    """Text that is HTML already; any other text is escaped."""


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """<name attributes>children</name>. An underscore at an attribute's end is dropped (class_); True: no value."""
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    inside = "".join(child if isinstance(child, Html) else html.escape(str(child)) for child in children)
    return Html(f"<{name}{given}>" + ("" if name in VOID else f"{inside}</{name}>"))


def image(data: bytes, alt: str, kind: str = "jpeg") -> Html:
    """A picture file of this kind within the page, enlarged by a click."""
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return enlargeable(tag("img", alt=alt, src=source), alt)


def enlargeable(picture: Html, alt: str) -> Html:
    """An <img> or <svg> that fills the window after a click (or space, where the keyboard is used)."""
    return tag("label", tag("input", type="checkbox", aria_label=f"enlarge: {alt}"), picture, class_="zoom")


def table(rows: Sequence[Sequence[str]], caption: str = "") -> Html:
    """Rows of cells, the first row the header; it scrolls sideways where it must, its caption and first column stay."""
    head, *body = rows
    lines = [tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head)))]
    for name, *cells in body:
        mark = "published" if name.startswith("published: ") else None
        lines.append(tag("tr", tag("th", name, scope="row"), *(tag("td", cell) for cell in cells), class_=mark))
    whole = tag("table", lines[0], tag("tbody", *lines[1:]))
    above = [tag("figcaption", caption)] if caption else []
    return tag("figure", *above, tag("div", whole, class_="wide", tabindex="0"), class_="table")


def listing(items: Sequence[object], kind: str = "ul", shown: int = 10) -> Html:
    """A list ("ul", or "ol" with numbers) of which what comes after the first `shown` is folded."""
    first, rest = items[:shown], items[shown:]
    if len(rest) < 3:  # not worth folding
        first, rest = items, []
    parts = [tag(kind, *(tag("li", item) for item in first))] if first else []
    if rest:
        start = shown + 1 if kind == "ol" else None
        parts.append(folded(f"{len(rest)} more", tag(kind, *(tag("li", item) for item in rest), start=start)))
    return join(parts)


def folded(title: object, *parts: object, open_: bool = False) -> Html:
    """Parts that a click on their title shows and hides."""
    return tag("details", tag("summary", title), *parts, open_=open_)


def legend(colours: Mapping[str, str]) -> Html:
    """Names next to their colours ("#rrggbb")."""
    keys = (tag("span", tag("i", style=f"background: {colour}"), name) for name, colour in colours.items())
    return tag("p", *keys, class_="key small")


def join(parts: Iterable[Html]) -> Html:
    return Html("\n".join(parts))


def page(title: str, parts: Iterable[Html]) -> str:
    """The whole page, its title above the parts."""
    head = tag("meta", charset="utf-8"), tag("meta", name="viewport", content="width=device-width, initial-scale=1")
    head = tag("head", *head, tag("title", title), tag("style", Html(STYLE)))
    return f"<!doctype html>{tag('html', head, tag('body', join([tag('h1', title), *parts])), lang='en')}\n"
