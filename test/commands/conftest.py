"""A small trained model, raw scans and databases for the commands of people who use models."""

import nibabel as nib
import numpy as np
import pytest
import torch

from computation.cli import main
from computation.model.architecture import named
from computation.model.export import Metadata, save_model
from computation.model.network import build

NAMES = ("background", "white matter", "grey matter")
HOW = {"normalisation": "quantile", "spacing": [2.0, 2.0, 2.0], "grid": [24, 24, 24], "like": "ras", "storage": "8bit"}


def head(shape=(30, 34, 28), affine=None, bright=(0, 800, 400)):
    """A ball in a shell around the middle of a volume, by millimetres, off-centre to the right and front."""
    affine = np.diag([1.5, 1.2, 1.6, 1.0]) if affine is None else affine
    places = np.stack(np.indices(shape), -1) @ affine[:3, :3].T + affine[:3, 3]
    middle = (np.array(shape) - 1) / 2 @ affine[:3, :3].T + affine[:3, 3] + (3, 2, 0)
    radius = np.linalg.norm(places - middle, axis=-1)
    label = np.where(radius < 7, 1, np.where(radius < 13, 2, 0)).astype(np.uint8)
    return np.array(bright, np.int16)[label], label, affine


@pytest.fixture(scope="session")
def tools(tmp_path_factory):
    """Everything that the tests of this room share."""

    class Tools:
        names, how = NAMES, HOW
        head = staticmethod(head)

        @staticmethod
        def command(*words):
            return main([str(word) for word in words])

        @staticmethod
        def scan(path, **more):
            image, _, affine = head(**more)
            path.parent.mkdir(parents=True, exist_ok=True)
            written = nib.Nifti1Image(image, affine)
            written.set_sform(affine, 1)
            written.set_qform(affine, 1)
            nib.save(written, path)
            return path

        @staticmethod
        def threshold(folder, how=None, norm="none", labels=NAMES):
            """A network that knows one thing: bright is class 1, half bright is class 2, dark is class 0.

            Every layer passes the intensity on through the middle tap of its first channel, so the receptive field
            does not matter and the right labels are known.
            """
            model = build(named("meshnet-10x5", classes=len(labels), norm=norm, activation="relu"), 0)
            with torch.no_grad():
                for value in model.parameters():
                    value.zero_()
                for layer in model.layers:
                    layer.conv.weight[0, 0, 1, 1, 1] = 1
                # Three lines over intensity x whose upper envelope changes at 0.2 and 0.8.
                model.head.weight[:3, 0, 0, 0, 0] = torch.tensor([0.0, 20.0, 10.0])
                model.head.bias[:] = -100
                model.head.bias[:3] = torch.tensor([0.0, -10.0, -2.0])
            save_model(folder, model, Metadata(labels, HOW if how is None else how, run={"run": "r"}), name="best")
            return folder

    return Tools
