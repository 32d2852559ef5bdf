"""Names and colours of the classes for viewers of label maps, the same colours as in the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

from dataloaders.files import write_text
from utils.pictures import class_colour

ITK_SNAP, SLICER = "labels_itksnap.txt", "labels_slicer.ctbl"


def write_colour_tables(folder: Path, classes: Sequence[str]) -> None:
    """Write ITK-SNAP's label descriptions and 3D Slicer's colour table, unless the folder has them."""
    rows = [(value, *bytes.fromhex(class_colour(value)[1:]), name) for value, name in enumerate(classes, 1)]
    snap = ["# ITK-SnAP Label Description File", "# IDX -R- -G- -B- -A- VIS MSH LABEL", '0 0 0 0 0 0 0 "Clear Label"']
    snap += ['{} {} {} {} 1 1 1 "{}"'.format(*row[:4], row[4].replace('"', "'")) for row in rows]
    slicer = ["# 3D Slicer color table: value name R G B A", "0 background 0 0 0 0"]
    slicer += ["{} {} {} {} {} 255".format(row[0], "_".join(row[4].split()), *row[1:4]) for row in rows]
    for name, lines in ((ITK_SNAP, snap), (SLICER, slicer)):
        if not (folder / name).exists():
            write_text(folder / name, "\n".join(lines) + "\n")
