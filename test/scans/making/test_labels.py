"""Label sets say their class order, map what they know and refuse the rest."""

import json

import numpy as np
import pytest

from computation.errors import ImportScanError
from computation.scans.making import labels


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
        assert not name.startswith("gwm") or f"{title.split()[0]}{number}" in name
    assert chosen.names[0] == "background" and chosen.colours[0] == "#000000"
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
        ([0, 0.5, 1], r"holds fractions such as 0\.5; it was interpolated or is a probability map"),
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
    with pytest.raises(ImportScanError, match="label set 'gwm' is unknown; choose one of aparc-104, aparc-50, dkt-31"):
        labels.named("gwm")
    with pytest.raises(ImportScanError, match="has no source 'spm'; choose one of classes, freesurfer-aparc"):
        labels.named("gwm-white1-grey2:spm")


def test_grey_and_white_from_freesurfer_as_in_the_published_script():
    """Catalyst.Neuro: white 2, 41, 7, 46, 16, 251 to 255; grey the parcels and the deep nuclei."""
    for name, white, grey in (("gwm-white1-grey2", 1, 2), ("gwm-grey1-white2", 2, 1)):
        chosen = labels.named(f"{name}:freesurfer-aparc+aseg")
        assert {value for value, number in chosen.values.items() if number == white} == {
            *(2, 41, 7, 46, 16),
            *range(251, 256),
        }
        for value in (1001, 1035, 2001, 2035, 8, 10, 13, 17, 18, 26, 28, 47, 50, 54, 58, 60):
            assert chosen.values[value] == grey
        for value in (0, 3, 42, 4, 14, 24, 31, 1000):
            assert chosen.values[value] == 0
        assert labels.named(f"{name}:freesurfer-aseg").values[3] == grey
        with pytest.raises(ImportScanError, match="label values 999 are outside"):
            chosen.apply(np.array([[[999]]]))


def test_the_104_classes_are_in_the_published_order():
    ids = [value for base in (1000, 2000) for value in range(base + 1, base + 36) if value != base + 4]
    ids += [
        10,
        49,
        11,
        50,
        12,
        51,
        13,
        52,
        17,
        53,
        18,
        54,
        26,
        58,
        28,
        60,
        2,
        41,
        4,
        5,
        43,
        44,
        14,
        15,
        24,
        16,
        7,
        46,
        8,
    ]
    ids += [47, *range(251, 256)]
    chosen = labels.named("aparc-104:freesurfer-aparc+aseg")
    assert len(chosen.names) == 104 == len(ids) + 1
    assert chosen.apply(np.array(ids).reshape(1, 1, -1)).ravel().tolist() == list(range(1, 104))
    assert chosen.names[1] == "ctx-lh-bankssts" and chosen.names[68] == "ctx-rh-insula"
    assert chosen.names[69] == "Left-Thalamus" and chosen.names[103] == "CC_Anterior"


@pytest.mark.parametrize(
    ("spec", "classes", "pairs"),
    [
        (
            "subcortical-18:freesurfer",
            18,
            {17: "Hippocampus", 53: "Hippocampus", 16: "Brain-Stem", 2035: "Cerebral-Cortex"},
        ),
        (
            "aparc-50:freesurfer-aparc+aseg",
            50,
            {1035: "ctx-insula", 2035: "ctx-insula", 255: "Corpus-callosum", 4: "Ventricle"},
        ),
        ("dkt-31:freesurfer-dkt+aseg", 32, {1035: "ctx-insula", 2002: "ctx-caudalanteriorcingulate", 17: "background"}),
    ],
)
def test_sides_are_merged_by_name(spec, classes, pairs):
    chosen = labels.named(spec)
    assert len(chosen.names) == classes
    assert {value: chosen.names[chosen.values[value]] for value in pairs} == pairs


def test_regions_outside_the_dkt_protocol_are_refused():
    with pytest.raises(ImportScanError, match="label values 1001 are outside the label set dkt-31"):
        labels.named("dkt-31:freesurfer-dkt+aseg").apply(np.array([[[0, 1001]]]))


def test_identity():
    chosen = labels.named("identity-7")
    assert chosen.names == tuple(f"class {index}" for index in range(7))
    assert chosen.apply(np.array([[[0, 6]]])).ravel().tolist() == [0, 6]
    for bad in ("identity-1", "identity-0", "identity-999"):
        with pytest.raises(ImportScanError, match="2 to 256 classes"):
            labels.named(bad)


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


@pytest.mark.parametrize("table", [{"5-3": 1}, {"1-4": 1, "4": 0}, {"0-99999": 1}, {"-3": 1}])
def test_a_malformed_range_is_refused(tmp_path, table):
    with pytest.raises(ImportScanError, match="needs a name, classes with names and colours, and sources"):
        labels.load(own(tmp_path, sources={"x": table}), "x")


def test_ranges_are_spread(tmp_path):
    assert labels.load(own(tmp_path, sources={"x": {"0": 0, "5-7": 1}}), "x").values == {0: 0, 5: 1, 6: 1, 7: 1}


def test_a_missing_set_file_is_refused_without_its_path_in_public(tmp_path):
    with pytest.raises(ImportScanError, match="cannot be read as JSON") as caught:
        labels.named(str(tmp_path / "none.json"))
    assert str(tmp_path) not in caught.value.public


@pytest.mark.parametrize(
    "table", ['{"0": 0, "1": 1, "1": 2}', '{"0": 0, "1": 1.9}', '{"0": 0, "1": true}', '{"0": "0"}']
)
def test_a_value_named_twice_or_mapped_to_no_whole_number_is_refused(tmp_path, table):
    classes = json.dumps([{"name": name, "colour": "#000000"} for name in "abc"])
    (tmp_path / "set.json").write_text(f'{{"name": "x", "classes": {classes}, "sources": {{"drawn": {table}}}}}')
    with pytest.raises(ImportScanError, match=r"cannot be read as JSON|the label set needs"):
        labels.named(f"{tmp_path / 'set.json'}:drawn")


def test_a_byte_order_mark_and_a_bottomless_file(tmp_path):
    (tmp_path / "set.json").write_text("\ufeff" + json.dumps({"name": "x", "classes": []}), "utf-8")
    with pytest.raises(ImportScanError, match="2 to 256 classes"):
        labels.load(tmp_path / "set.json")
    (tmp_path / "set.json").write_text("[" * 200_000)
    with pytest.raises(ImportScanError, match="cannot be read as JSON"):
        labels.load(tmp_path / "set.json")


def test_every_set_with_every_source_that_is_listed_can_be_had():
    listed = labels.specs()
    assert set(labels.names()) < set(listed) and "gwm-white1-grey2:oasis-tissue" in listed
    assert all(labels.named(one).name == one.partition(":")[0] for one in listed)
