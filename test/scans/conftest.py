"""Small scan databases and images, made afresh by each test that asks."""

import sqlite3
import zlib
from itertools import count

import nibabel as nib
import numpy as np
import pytest

from computation.scans.making import images
from computation.scans.store import normalise, writer

NAMES = ("background", "white matter", "grey matter")
COLOURS = ("#000000", "#f5f5f5", "#cd3e4e")


def head(shape=(20, 18, 22), seed=0, dtype="uint16"):
    """A blob in the middle of an empty volume, and labels that follow its intensity."""
    generator = np.random.default_rng([seed, *shape])
    centre = [(np.arange(n) - (n - 1) / 2) / (n / 2) for n in shape]
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(*centre, indexing="ij")))
    label = np.where(radius < 0.45, 1, np.where(radius < 0.8, 2, 0)).astype(np.uint8)
    image = np.where(label > 0, np.array([0, 800, 400])[label] + generator.integers(0, 60, shape), 0).astype(dtype)
    return image, label


def entry(subject="s1", split="train", *, session="", image=None, label=None, scheme="quantile", **more):
    if image is None:
        image, label = head()
    low, high = normalise.constants(image, scheme)
    affine = tuple(tuple(row) for row in np.diag([2.0, 2.0, 2.0, 1.0]).tolist())
    return writer.Entry(subject, session, split, affine, low, high, image, label, **more)


@pytest.fixture(scope="session")
def tools(tmp_path_factory):
    """Everything the tests of this room share."""
    numbers = count()

    class Tools:
        names = NAMES
        head = staticmethod(head)
        entry = staticmethod(entry)

        @staticmethod
        def folder():
            return tmp_path_factory.mktemp(f"scans{next(numbers)}")

        @staticmethod
        def header(**changes):
            usual = {"label_set": "gwm-white1-grey2", "label_names": NAMES, "label_colours": COLOURS}
            return writer.Header(**{**usual, "normalisation": "quantile", "block_side": 8, **changes})

        @classmethod
        def database(cls, entries=None, path=None, **changes):
            path = path or cls.folder() / "site.db"
            with writer.create(path, cls.header(**changes)) as out:
                for one in [entry()] if entries is None else entries:
                    out.add(one)
            return path

        @staticmethod
        def spoil(path, *statements):
            """Change a finished database behind the software's back."""
            connection = sqlite3.connect(path)
            for statement in statements:
                connection.execute(*(statement if isinstance(statement, tuple) else (statement,)))
            connection.commit()
            connection.close()
            return path

        @staticmethod
        def nifti(path, voxels, affine=None):
            nib.save(nib.Nifti1Image(voxels, np.eye(4) if affine is None else affine), path)
            return path

        @classmethod
        def table(cls, folder, count=4, **columns):
            """Write NIfTI pairs and the CSV that lists them."""
            lines = [",".join(["subject", "image", "label", *columns])]
            for index in range(count):
                image, label = head(seed=index)
                cls.nifti(folder / f"{index}_t1.nii.gz", image.astype(np.int16), np.diag([2, 2, 2, 1]))
                cls.nifti(folder / f"{index}_seg.nii.gz", label, np.diag([2, 2, 2, 1]))
                cells = [f"p{index}", f"{index}_t1.nii.gz", f"{index}_seg.nii.gz"]
                lines.append(",".join([*cells, *(values[index] for values in columns.values())]))
            (folder / "table.csv").write_text("\n".join(lines), "utf-8")
            return folder / "table.csv"

        @staticmethod
        def peer(path, rows, table="mindboggle101", columns=("Image", "GWlabels")):
            """Write a table as the peer does: zlib of little-endian float32 cubes."""
            connection = sqlite3.connect(path)
            quoted = '"' + table.replace('"', '""') + '"'
            connection.execute(f"CREATE TABLE {quoted} (id INTEGER PRIMARY KEY, {', '.join(columns)})")
            for index, row in enumerate(rows, 1):
                cells = [
                    cell if isinstance(cell, bytes) else zlib.compress(cell.astype("<f4").tobytes()) for cell in row
                ]
                marks = ",".join("?" * (len(cells) + 1))
                connection.execute(f"INSERT INTO {quoted} VALUES ({marks})", (index, *cells))
            connection.commit()
            connection.close()
            return path

        storable = staticmethod(images.storable)

    return Tools
