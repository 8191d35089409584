"""Mutate the headers of scans by the thousand and import them; run as `python header_fuzz.py FOLDER SEED COUNT`.

Each batch is a table of mutated scans with a sound one at its end. Prints one JSON object: how many were taken and how
many left out, the reasons, the slowest scan, and the most memory that the process ever held.
"""

import gzip
import json
import logging
import shutil
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from peak import kilobytes

from computation.scans.making.ingest import import_table

#: Scans of a batch, and how they are imported.
BATCH, HOW = 25, {"spacing": 2.0, "grid": 24}

#: How many bytes of each kind are header.
KINDS = {"nii": 352, "nii.gz": 352, "nii2": 544, "hdr": 348, "spm": 348, "mgz": 284, "HEAD": 800}

NASTY = [0, 1, -1, 2, 7, 255, 1290, 4096, 32767, -32768, 1e-45, 1e-6, 1e6, 1e30, -1e30, np.nan, np.inf, -np.inf]


def head(generator):
    """Return a small image of a head, and its labels."""
    centre = [(np.arange(n) - (n - 1) / 2) / (n / 2) for n in (20, 18, 22)]
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(*centre, indexing="ij")))
    label = np.where(radius < 0.45, 1, np.where(radius < 0.8, 2, 0)).astype(np.uint8)
    noise = generator.integers(0, 60, label.shape)
    return np.where(label > 0, np.array([0, 800, 400])[label] + noise, 0).astype(np.int16), label


def afni(voxels):
    """Return the text of a data set's HEAD."""
    facts = {
        "DATASET_DIMENSIONS": (" ".join(map(str, voxels.shape)) + " 0 0", "integer"),
        "DATASET_RANK": ("3 1 0 0 0 0 0 0", "integer"),
        "BRICK_TYPES": ("1", "integer"),
        "BRICK_FLOAT_FACS": ("0", "float"),
        "DELTA": ("2 2 2", "float"),
        "ORIGIN": ("0 0 0", "float"),
        "ORIENT_SPECIFIC": ("0 3 4", "integer"),
        "IJK_TO_DICOM_REAL": ("-2 0 0 0 0 -2 0 0 0 0 2 0", "float"),
    }
    text = "\ntype = string-attribute\nname = BYTEORDER_STRING\ncount = 10\n'LSB_FIRST~\n"
    for name, (value, kind) in facts.items():
        text += f"\ntype = {kind}-attribute\nname = {name}\ncount = {len(value.split())}\n{value}\n"
    return text


def saved(folder, stem, kind, voxels):
    """Write a sound file; return its header's file, and the one to name."""
    affine = np.diag([2.0, 2, 2, 1])
    if kind == "HEAD":
        path = folder / f"{stem}+orig.HEAD"
        path.write_text(afni(voxels))
        path.with_suffix(".BRIK").write_bytes(voxels.astype("<i2").tobytes("F"))
        return path
    maker = {"nii2": nib.Nifti2Image, "hdr": nib.Nifti1Pair, "spm": nib.Spm99AnalyzeImage, "mgz": nib.MGHImage}
    end = {"nii2": "nii", "spm": "hdr"}.get(kind, kind)
    path = folder / f"{stem}.{end}"
    nib.save(maker.get(kind, nib.Nifti1Image)(voxels, affine), path.with_suffix(".img") if end == "hdr" else path)
    return path


def mutated(content, size, generator, fields):
    """Spoil a header in one of six ways."""
    size = min(size, len(content))
    way, count = generator.integers(6), int(generator.integers(1, 9))
    places = generator.integers(0, size, count)
    if way == 0:
        for place in places:
            content[place] ^= 1 << int(generator.integers(8))
    elif way == 1:
        for place in places:
            content[place] = int(generator.integers(256))
    elif way == 2:
        start = int(places[0])
        content[start : start + 4 * count] = bytes(4 * count)
    elif way == 3:
        del content[int(generator.integers(0, len(content))) :]
    elif fields is None:
        words = content[:size].split(b" ")
        words[int(generator.integers(len(words)))] = str(NASTY[int(generator.integers(len(NASTY)))]).encode()
        content[:size] = b" ".join(words)
    else:
        spoil(np.frombuffer(content, fields, 1), generator, count)
    return content


def spoil(header, generator, count):
    """Set fields of a NIfTI header to values that no scanner writes."""
    for _ in range(min(count, 3)):
        name = str(generator.choice(header.dtype.names))
        field = header[name][0] if header[name].ndim > 1 else header[name]
        if field.dtype.kind not in "iuf":
            continue
        value = np.float64(NASTY[int(generator.integers(len(NASTY)))])
        if field.dtype.kind in "iu":
            limits = np.iinfo(field.dtype)
            value = max(int(limits.min), min(int(limits.max), int(np.nan_to_num(value))))
        field[int(generator.integers(field.size))] = value


def scan(folder, stem, generator):
    """Write an image and its label, one of them mutated; return the cells that name them."""
    image, label = head(generator)
    kinds = [str(kind) for kind in generator.choice(list(KINDS), 2)]
    paths = [saved(folder, f"{stem}{name}", kind, v) for name, kind, v in zip("il", kinds, (image, label), strict=True)]
    which = int(generator.integers(4) == 0)
    kind, path = kinds[which], paths[which]
    content = path.read_bytes()
    packed = kind in ("nii.gz", "mgz")
    fields = {"nii2": nib.nifti2.header_dtype, "mgz": None, "HEAD": None}.get(kind, nib.nifti1.header_dtype)
    spoilt = bytes(mutated(bytearray(gzip.decompress(content) if packed else content), KINDS[kind], generator, fields))
    path.write_bytes(gzip.compress(spoilt, 1) if packed else spoilt)
    return [path.name for path in paths]


def batch(folder, number, seed, size):
    """Import one batch; return the summary and the seconds of processor time that each scan took."""
    generator = np.random.default_rng([seed, number])
    rows = [[f"p{index}", *scan(folder, f"{index}", generator)] for index in range(size)]
    image, label = head(generator)
    rows.append(["sound", saved(folder, "si", "nii", image).name, saved(folder, "sl", "nii", label).name])
    (folder / "t.csv").write_text("\n".join(",".join(row) for row in [["subject", "image", "label"], *rows]))
    times, began = [], time.process_time()

    def progress(*given):
        nonlocal began
        times.append(time.process_time() - began)
        began = time.process_time()

    return import_table(folder / "t.csv", folder / "site.db", **HOW, overwrite=True, progress=progress), times


def main(folder, seed, count):
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    taken, reasons, times = 0, Counter(), []
    for number in range(-(-count // BATCH)):
        place = folder / str(number)
        place.mkdir(parents=True)
        summary, seconds = batch(place, number, seed, min(BATCH, count - number * BATCH))
        assert summary.taken[-1].subject == "sound", "a scan cost the one after it"
        assert all(scan.reason and scan.detail for scan in summary.left_out)
        taken += len(summary.taken) - 1
        reasons.update(" ".join(scan.reason.split()[:6]) for scan in summary.left_out)
        times += seconds
        shutil.rmtree(place)
    peak = kilobytes() / 1e6
    found = {"taken": taken, "left_out": sum(reasons.values()), "reasons": reasons.most_common()}
    print(json.dumps({**found, "slowest_s": max(times), "total_s": sum(times), "peak_gb": peak}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
