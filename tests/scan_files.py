"""Scan files for the tests: what the project reads and never writes."""

import locale
import struct


def write_itk(path, array, geometry):
    """An array (Z, Y, X) in a format of SimpleITK's, by the path's suffix."""
    import SimpleITK as sitk

    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    sitk.WriteImage(image, str(path))
    return path


def write_slices(folder, array, series="1.2.3", skip=(), spacing=(0.75, 0.75, 2.0), tilt=0):
    """A folder with a DICOM series of axial slices (Z, Y, X) in HU, their names in the reverse order of place.

    spacing: mm along X, Y, Z; skip: slices that are left out; tilt: mm along Y that each slice is behind the last.
    """
    import SimpleITK as sitk

    kept = locale.setlocale(locale.LC_ALL)  # GDCM writes in the C locale and leaves the process in it
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for z in set(range(len(array))) - set(skip):
        image = sitk.GetImageFromArray(array[z])
        image.SetSpacing(spacing[:2])
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2", "0008|0018": f"{series}.{z + 1}", "0008|0060": "CT",
            "0020|000d": "1.2", "0020|000e": series, "0020|0013": str(99 - z), "0028|1052": "-1024", "0028|1053": "1",
            "0020|0032": f"-10\\{-20 + tilt * z:g}\\{spacing[2] * z:g}", "0020|0037": "1\\0\\0\\0\\1\\0",
        }  # fmt: skip
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{series}_{99 - z:03d}.dcm"))
        writer.Execute(image)
    locale.setlocale(locale.LC_ALL, kept)
    return folder


def write_dicom(path, kind, elements):
    """A DICOM file, explicit little-endian, of an SOP class; elements: {tag: (VR, value)}, of SQ a list of such."""
    meta = {"0002|0002": ("UI", kind), "0002|0003": ("UI", "1.2.3.4"), "0002|0010": ("UI", "1.2.840.10008.1.2.1")}
    elements = {"0008|0016": ("UI", kind), "0008|0018": ("UI", "1.2.3.4"), **elements}
    start = _encode(meta)
    path.parent.mkdir(parents=True, exist_ok=True)
    start = _encode({"0002|0000": ("UL", len(start))}) + start
    path.write_bytes(bytes(128) + b"DICM" + start + _encode(elements))
    return path


def _encode(elements):
    encoded = b""
    for tag, (vr, value) in sorted(elements.items()):
        if vr == "SQ":
            items = map(_encode, value)
            value = b"".join(b"\xfe\xff\x00\xe0" + struct.pack("<I", len(item)) + item for item in items)
        elif vr in ("US", "UL"):
            value = struct.pack("<H" if vr == "US" else "<I", value)
        elif isinstance(value, str):
            value = value.encode() + (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
        length = struct.pack("<2xI" if vr in ("SQ", "OW") else "<H", len(value))
        encoded += struct.pack("<2H", *(int(part, 16) for part in tag.split("|"))) + vr.encode() + length + value
    return encoded


def write_frames(path, array, places, turn="1\\0\\0\\0\\1\\0", kind="1.2.840.10008.5.1.4.1.1.2.1"):
    """An enhanced multi-frame CT of an array (Z, Y, X) in HU, its frames at these places, pixels of 0.75 mm."""
    shared = {
        "0020|9116": ("SQ", [{"0020|0037": ("DS", turn)}]),
        "0028|9110": ("SQ", [{"0028|0030": ("DS", "0.75\\0.75"), "0018|0050": ("DS", "2")}]),
        "0028|9145": ("SQ", [{"0028|1052": ("DS", "-1024"), "0028|1053": ("DS", "1")}]),
    }
    frames = [{"0020|9113": ("SQ", [{"0020|0032": ("DS", "\\".join(f"{v:g}" for v in place))}])} for place in places]
    size = dict(zip(("0028|0010", "0028|0011"), (("US", count) for count in array.shape[1:])))
    types = dict(zip(("0028|0100", "0028|0101", "0028|0102", "0028|0103"), (("US", v) for v in (16, 16, 15, 0))))
    elements = {
        "0008|0060": ("CS", "CT"), "0020|000d": ("UI", "1.2"), "0020|000e": ("UI", "1.2.3"),
        "0028|0002": ("US", 1), "0028|0004": ("CS", "MONOCHROME2"), "0028|0008": ("IS", str(len(array))),
        **size, **types, "5200|9229": ("SQ", [shared]), "5200|9230": ("SQ", frames),
        "7fe0|0010": ("OW", (array + 1024).astype("<u2").tobytes()),
    }  # fmt: skip
    return write_dicom(path, kind, elements)
