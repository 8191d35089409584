"""The figures of the pages are figures, and the networks that they name exist."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from computation.settings import MODELS

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "docs" / "figures"


def test_named_models_exist():
    text = "".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    named = set(re.findall(r"meshnet-\d+x\d+", text))
    assert named and named <= set(MODELS)


@pytest.mark.parametrize("figure", sorted(FIGURES.glob("*.svg")), ids=lambda path: path.name)
def test_a_figure_is_well_formed_described_and_loads_nothing(figure):
    tree = ET.parse(figure).getroot()
    names = {node.tag.rpartition("}")[2] for node in tree.iter()}
    assert {"title", "desc", "style"} <= names
    assert not {"script", "image", "foreignObject"} & names
    targets = [value for node in tree.iter() for key, value in node.attrib.items() if key.endswith("href")]
    assert all(target.startswith("#") for target in targets)


def test_the_picture_of_a_run_is_a_picture():
    with Image.open(FIGURES / "page.webp") as picture:
        picture.load()
    assert picture.format == "WEBP" and min(picture.size) > 900
    assert np.asarray(picture, np.float32).std() > 20
