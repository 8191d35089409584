"""Classes of one side, by all the ways in which people write a side into a name."""

import json
from importlib import resources

import pytest

from computation.scans.drawing.sides import counterparts, one_sided
from computation.scans.making import labels


@pytest.mark.parametrize(
    "name",
    ["Left-Putamen", "right lobe", "ctx-lh-insula", "L_hippocampus", "hippocampus.R", "ctx.lh.x", "l", "RH", "x_l2"],
)
def test_a_side_is_a_word_of_its_own(name):
    assert one_sided(name)


@pytest.mark.parametrize("name", ["background", "cleft", "bright spot", "lobe", "CSF", "corpus callosum", ""])
def test_a_side_inside_another_word_is_none(name):
    assert not one_sided(name)


def test_every_class_has_its_counterpart():
    assert counterparts(("background", "Left-Thalamus", "Right-Thalamus", "ctx-lh-insula", "ctx-rh-insula")) == [
        0, 2, 1, 4, 3,
    ]  # fmt: skip
    assert counterparts(("background", "left lobe", "cleft", "l")) == [0, 1, 2, 3]
    assert counterparts(("background", "LH_cortex", "RH_cortex", "LEFT lobe", "RIGHT lobe")) == [0, 2, 1, 4, 3]
    assert counterparts(("background", "L", "R", "l-x", "r-x")) == [0, 2, 1, 4, 3]
    for name in labels.names():
        source = next(iter(json.loads(_file(name))["sources"]))
        names = labels.named(f"{name}:{source}").names
        found = counterparts(names)
        assert [found[index] for index in found] == list(range(len(names)))
        swapped = sum(index != place for place, index in enumerate(found))
        assert swapped == sum("-lh-" in one or "-rh-" in one or "Left" in one or "Right" in one for one in names)


def _file(name):
    return (resources.files("computation.scans.making") / "labelsets" / f"{name}.json").read_text("utf-8")
