from html.parser import HTMLParser

import pytest

from utils.reports.pages import Html, folded, image, legend, listing, page, table, tag

EVIL = """<script>alert(1)</script>"'&"""


class Reader(HTMLParser):
    """The tags that a browser finds, each with its attributes, and which are left open."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, name, attributes):
        self.found.append((name, dict(attributes)))
        if name not in ("img", "input", "meta"):
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def named(self, name):
        return [attributes for found, attributes in self.found if found == name]


def test_text_is_escaped_wherever_it_is_put_in():
    parts = [
        tag("p", EVIL, title=EVIL),
        table([["", EVIL], [EVIL, EVIL]], EVIL),
        listing([EVIL] * 20),
        image(b"x", EVIL),
    ]
    parts += [folded(EVIL, tag("b", EVIL)), legend({EVIL: "#ffffff"})]
    reader = Reader(page(EVIL, parts))
    assert reader.open == [] and not reader.named("script")
    assert {name for name, _ in reader.found if name == "p"} and reader.named("p")[0]["title"] == EVIL
    assert reader.named("img")[0]["alt"] == EVIL
    assert tag("p", Html("<b>x</b>")) == "<p><b>x</b></p>"


def test_attributes_of_no_value_and_none():
    assert tag("details", open_=True) == "<details open></details>"
    assert tag("ol", start=None, hidden=False, tabindex=0, aria_label="x") == '<ol tabindex="0" aria-label="x"></ol>'


def test_a_table_has_headers_for_columns_and_rows_and_a_caption_that_does_not_scroll():
    text = table([["", "a"], ["one", "1"], ["published: x", "2"]], "what it is")
    reader = Reader(text)
    assert [cell.get("scope") for cell in reader.named("th")] == ["col", "col", "row", "row"]
    assert [row.get("class") for row in reader.named("tr")] == [None, None, "published"]
    assert text.index("what it is") < text.index('class="wide"') < text.index("<table")
    assert "figcaption" not in table([["", "a"], ["one", "1"]])


@pytest.mark.parametrize("number, shown", [(0, 0), (3, 3), (12, 12), (13, 10), (200, 10)])
def test_what_is_long_is_folded_and_nothing_is_lost(number, shown):
    text = listing([f"item {index};" for index in range(number)], "ol")
    assert [f"item {index};" in text for index in range(number)] == [True] * number
    assert text.split("<details")[0].count("<li>") == shown
    assert ("<summary>190 more</summary>" in text and '<ol start="11">' in text) == (number == 200)


def test_pages_need_no_other_file_and_no_script():
    text = page("x", [image(b"data", "a picture")])
    reader = Reader(text)
    assert reader.named("img") == [{"alt": "a picture", "src": "data:image/jpeg;base64,ZGF0YQ=="}]
    assert [box["type"] for box in reader.named("input")] == ["checkbox"]  # the click that enlarges
    assert "color-scheme: light dark" in text and "width=device-width" in text
    assert not reader.named("link") and not reader.named("script") and "url(" not in text and "@import" not in text
