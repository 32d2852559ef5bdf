import io

import numpy as np
from PIL import Image

from utils.pictures import class_colour
from utils.reports import contact_sheet
from utils.reports.contact_sheet import SIDE, Card, render_sheet, thumbnail


def test_a_thumbnail_keeps_the_shape_and_shows_labels_in_their_colours():
    label = np.zeros((40, 80), np.uint8)
    label[10:30, 10:30] = 2
    data = thumbnail(np.tile(np.linspace(-3, 900, 80), (40, 1)), label)
    picture = np.asarray(Image.open(io.BytesIO(data))).astype(float) / 255
    assert picture.shape == (SIDE // 2, SIDE, 3)
    grey = picture[40, 150]
    assert np.ptp(grey) < 0.03 and grey.mean() > 0.9  # bright at the right end, no colour
    level = (20 - 0.79) / (78.21 - 0.79)  # column 20 of 0 .. 79 between the percentiles
    colour = np.array([int(class_colour(2)[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    assert np.abs(picture[40, 40] - (0.55 * level + 0.45 * colour)).max() < 0.06


def test_a_constant_image_and_a_line_of_pixels_can_be_drawn():
    assert thumbnail(np.zeros((7, 5)), np.zeros((7, 5), np.uint8))
    assert thumbnail(np.zeros((1, 900)), np.zeros((1, 900), np.uint8))


def test_the_page_is_bounded_and_says_what_it_leaves_out(monkeypatch):
    monkeypatch.setattr(contact_sheet, "MAX_BYTES", 1000)
    cards = [
        Card(f"case{number}", "text", [("slice 4 of 9", b"x" * 300)], ["bad <b>"] if number == 7 else [])
        for number in range(8)
    ]
    page = render_sheet("A & B", ("LV",), [[["list"], ["train"]]], ["finding: x"], [("train", cards)])
    assert page.count('<figure class="card') == 3 and "5 of 8 cases are not drawn" in page
    assert page.index("case7") < page.index("case0") and "bad &lt;b&gt;" in page and "A &amp; B" in page
    assert page.count('alt="case7, slice 4 of 9"') == 1
    opened = page[page.index("<details open>") :]  # what was found is shown even if the rest is folded
    assert "case0" in opened and "case7" not in opened
