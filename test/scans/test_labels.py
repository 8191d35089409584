"""Label sets say their class order, map what they know and refuse the rest."""

import json

import numpy as np
import pytest

from computation.errors import ImportScanError
from computation.scans import labels


def test_oasis_tissue_in_both_class_orders():
    oasis = np.array([0, 1, 2, 3]).reshape(4, 1, 1)
    white_first = labels.named("gwm-white1-grey2:oasis-tissue")
    grey_first = labels.named("gwm-grey1-white2:oasis-tissue")
    assert white_first.names == ("background", "white matter", "grey matter")
    assert grey_first.names == ("background", "grey matter", "white matter")
    for chosen in (white_first, grey_first):
        named = [chosen.names[value] for value in chosen.apply(oasis).ravel()]
        assert named == ["background", "background", "grey matter", "white matter"]


@pytest.mark.parametrize("name", labels.names())
def test_every_shipped_set_says_its_order_in_its_name_and_maps_its_own_classes(name):
    chosen = labels.named(name)
    assert chosen.name == name and chosen.source == "classes"
    for number, title in enumerate(chosen.names[1:], 1):
        assert f"{title.split()[0]}{number}" in name
    voxels = np.arange(len(chosen.names)).reshape(1, 1, -1)
    assert (chosen.apply(voxels) == voxels).all()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint16", "float32", "float64"])
def test_whole_numbers_of_any_type_are_mapped(dtype):
    mapped = labels.named("gwm-white1-grey2").apply(np.array([[[0, 1, 2]]], dtype))
    assert mapped.dtype == np.uint8 and mapped.ravel().tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("voxels", "message"),
    [
        ([0, 4, 9], "label values 4, 9 are outside the label set gwm-white1-grey2:classes, which knows 0 to 2"),
        ([0, 0.5, 1], "holds fractions; it was interpolated or is a probability map"),
        ([0, np.nan, 1], "not finite numbers"),
        ([0, -1, 1], "holds values from -1"),
        ([0, 70000.0, 1], "holds values from 0.0 to 70000.0; wanted 0 to 65535"),
    ],
)
def test_anything_else_is_refused(voxels, message):
    with pytest.raises(ImportScanError, match=message):
        labels.named("gwm-white1-grey2").apply(np.array(voxels, np.float32).reshape(1, 1, -1))


def test_many_foreign_values_are_not_all_listed():
    with pytest.raises(ImportScanError, match=r"values 3, 4, 5, 6, 7, 8, 9, 10, \.\.\. are outside"):
        labels.named("gwm-white1-grey2").apply(np.arange(100).reshape(1, 1, -1))


def test_an_unknown_set_or_source_is_refused():
    with pytest.raises(ImportScanError, match="label set 'gwm' is unknown; choose one of gwm-grey1-white2, gwm-white1"):
        labels.named("gwm")
    with pytest.raises(ImportScanError, match="has no source 'spm'; choose one of classes, oasis-tissue"):
        labels.named("gwm-white1-grey2:spm")


CLASSES = [{"name": "none", "colour": "#000000"}, {"name": "lesion", "colour": "#ff0000"}]


def own(tmp_path, **changes):
    path = tmp_path / "own.json"
    path.write_text(
        json.dumps({"name": "own", "classes": CLASSES, "sources": {"x": {"0": 0, "7": 1, "8": 1}}, **changes})
    )
    return path


def test_a_set_of_ones_own(tmp_path):
    path = own(tmp_path)
    assert labels.named(f"{path}:x").apply(np.array([[[0, 7, 8]]])).ravel().tolist() == [0, 1, 1]
    with pytest.raises(ImportScanError, match="which knows 0, 7 to 8"):
        labels.load(path, "x").apply(np.array([[[3]]]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": CLASSES[:1]}, "2 to 256 classes"),
        ({"classes": [CLASSES[0], CLASSES[0]]}, "different names"),
        ({"classes": [CLASSES[0], {"name": "a", "colour": "red"}]}, "colours are written #rrggbb"),
        ({"classes": 5}, "needs a name, classes with names and colours"),
        ({"sources": {"x": {"0": 5}}}, "maps values 0 to 65535 to class numbers 0 to 1"),
        ({"sources": {"x": {}}}, "maps values"),
    ],
)
def test_a_malformed_set_is_refused(tmp_path, changes, message):
    with pytest.raises(ImportScanError, match=message):
        labels.load(own(tmp_path, **changes), "x")


def test_a_missing_set_file_is_refused_without_its_path_in_public(tmp_path):
    with pytest.raises(ImportScanError, match="cannot be read as JSON") as caught:
        labels.named(str(tmp_path / "none.json"))
    assert str(tmp_path) not in caught.value.public
