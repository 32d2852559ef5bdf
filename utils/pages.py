"""Pages that need no other file, light or dark as the reader has it."""

from __future__ import annotations

import base64
import html
from typing import Sequence

# For light and dark screens: the browser's own colours, borders in half-transparent grey.
STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; }
pre { overflow-x: auto; padding: 1em; border: 1px solid #8886; border-radius: 6px; font-size: 13px; }
img { max-width: 100%; background: white; border-radius: 6px; }
svg { max-width: 100%; height: auto; }
.wide { overflow-x: auto; margin: 1em 0; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; white-space: nowrap; }
caption { text-align: left; white-space: normal; padding: 0.5em 0; font-size: 14px; }
th, td { text-align: right; padding: 0.25em 0.7em; border-bottom: 1px solid #8884; }
th { border-bottom: 2px solid #888a; }
th:first-child, td:first-child { text-align: left; }
tr.published { font-style: italic; opacity: 0.75; }
ol, .small { font-size: 13px; }
code { overflow-wrap: anywhere; }
summary { cursor: pointer; padding: 0.3em 0; }
"""


def html_image(data: bytes, kind: str, title: str) -> str:
    """An image of this kind ("png", "jpeg") within the page."""
    return f'<img alt="{html.escape(title)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def html_page(title: str, parts: Sequence[str], style: str = "") -> str:
    """The whole page; `parts` are HTML, `style` is CSS besides the common one."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{STYLE}{style}</style>\n" + "\n".join(parts) + "</html>\n"
    )
