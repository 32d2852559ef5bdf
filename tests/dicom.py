"""DICOM series for the tests, written through SimpleITK."""

import locale


def write_slices(folder, array, series="1.2.3", skip=(), spacing=(0.75, 0.75, 2.0)):
    """A folder with a DICOM series of axial slices (Z, Y, X) in HU, their names in the reverse order of place.

    spacing: mm along X, Y, Z; skip: slices that are left out.
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
            "0020|0032": f"-10\\-20\\{spacing[2] * z:g}", "0020|0037": "1\\0\\0\\0\\1\\0",
        }  # fmt: skip
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{series}_{99 - z:03d}.dcm"))
        writer.Execute(image)
    locale.setlocale(locale.LC_ALL, kept)
    return folder
