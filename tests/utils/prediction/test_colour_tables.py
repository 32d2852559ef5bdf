"""The tables as the viewers read them, and the figures' own pixels."""

import re

import numpy as np

from utils.pictures import overlay
from utils.prediction.colour_tables import ITK_SNAP, SLICER, write_colour_tables

CLASSES = ("RV", "left atrium", 'the "other" one', *map(str, range(4, 12)))


def colours_of_figures():
    """Label value -> the colour of its pixels where a figure paints it over black."""
    labels = np.arange(len(CLASSES) + 1)[None].repeat(2, 0)
    picture = overlay(np.zeros(labels.shape), labels, opacity=1)
    return {value: tuple(picture[:, 0, value].tolist()) for value in labels[0]}


def test_itk_snap(tmp_path):
    write_colour_tables(tmp_path, CLASSES)
    found = {}
    for line in (tmp_path / ITK_SNAP).read_text().splitlines():
        if not line.startswith("#"):
            fields = re.fullmatch(
                r'\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([\d.]+)\s+([01])\s+([01])\s+"([^"]*)"', line
            ).groups()
            found[int(fields[0])] = tuple(map(int, fields[1:4])), fields[4:]
    assert {value: colour for value, (colour, _) in found.items()} == colours_of_figures()
    assert [about[3] for _, about in found.values()] == ["Clear Label", *CLASSES[:2], "the 'other' one", *CLASSES[3:]]
    assert [about[:3] for _, about in found.values()] == [("0", "0", "0"), *[("1", "1", "1")] * len(CLASSES)]


def test_3d_slicer(tmp_path):
    write_colour_tables(tmp_path, CLASSES)
    rows = [line.split() for line in (tmp_path / SLICER).read_text().splitlines() if not line.startswith("#")]
    assert {int(row[0]): tuple(map(int, row[2:5])) for row in rows} == colours_of_figures()
    assert [row[1] for row in rows[:3]] == ["background", "RV", "left_atrium"]
    assert [row[5:] for row in rows] == [["0"], *[["255"]] * len(CLASSES)]


def test_a_table_that_is_there_stays(tmp_path):
    (tmp_path / SLICER).write_text("mine")
    write_colour_tables(tmp_path, CLASSES)
    assert (tmp_path / SLICER).read_text() == "mine" and (tmp_path / ITK_SNAP).exists()
