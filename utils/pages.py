"""Pages that need no other file, light or dark as the reader has it."""

from __future__ import annotations

import base64
import html
from typing import Sequence

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; }
pre { overflow-x: auto; padding: 1em; border: 1px solid #8886; border-radius: 6px; font-size: 13px; }
img { max-width: 100%; background: white; border-radius: 6px; }
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
