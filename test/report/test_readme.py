"""What a newcomer reads first must be true: files exist, commands exist, the figure is a figure."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from computation.cli import _parser
from computation.settings import MODELS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.S))


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?:)([^)\s]+)\)", README))))
def test_a_linked_file_is_there(target):
    assert (ROOT / target).is_file()


@pytest.mark.parametrize("line", re.findall(r"^coinstac-meshnet (.+)$", BLOCKS, re.M))
def test_a_command_is_understood(line):
    options = _parser().parse_args(line.split("#")[0].split())
    assert callable(options.run)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`coinstac-meshnet\s+(\w+)", README))))
def test_a_named_command_exists(name):
    with pytest.raises(SystemExit) as left:
        _parser().parse_args([name, "--help"])
    assert left.value.code == 0


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", BLOCKS, re.M))
def test_a_make_target_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)


def test_named_models_exist():
    assert set(re.findall(r"meshnet-\d+x\d+", README)) <= set(MODELS)


@pytest.mark.parametrize("figure", sorted((ROOT / "docs" / "figures").glob("*.svg")), ids=lambda path: path.name)
def test_a_figure_is_well_formed_described_and_loads_nothing(figure):
    tree = ET.parse(figure).getroot()
    names = {node.tag.rpartition("}")[2] for node in tree.iter()}
    assert {"title", "desc", "style"} <= names
    assert not {"script", "image", "foreignObject"} & names
    targets = [value for node in tree.iter() for key, value in node.attrib.items() if key.endswith("href")]
    assert all(target.startswith("#") for target in targets)
