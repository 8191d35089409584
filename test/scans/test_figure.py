"""The mosaic shows every scan asked for, with outlines in the label set's colours, and says what it cannot show."""

import importlib

import numpy as np
import pytest

from computation.colours import colour_of
from computation.errors import StoreError
from computation.scans import figure
from computation.scans.figure import mosaic
from computation.scans.store.opening import open_store

pytest.importorskip("matplotlib")


def pixels(path):
    return np.rint(importlib.import_module("matplotlib.image").imread(path)[..., :3] * 255).astype(int)


def holds(path, colour):
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((pixels(path) == wanted).all(axis=2).any())


def test_outlines_have_the_classes_colours(tools):
    folder = tools.folder()
    with open_store(tools.database(label_colours=("#000000", "#12fe34", "#fe1234"))) as store:
        mosaic(store, store.scans(), folder / "m.png")
    assert holds(folder / "m.png", "#12fe34") and holds(folder / "m.png", "#fe1234")


def test_a_row_for_each_scan_also_for_a_damaged_one_and_one_without_labels(tools):
    folder = tools.folder()
    image, _ = tools.head()
    path = tools.database([tools.entry(), tools.entry("s2", image=image), tools.entry("s3")])
    tools.spoil(path, "UPDATE blocks SET crc32 = crc32 + 1 WHERE block < 27")
    with open_store(path) as store:
        mosaic(store, store.scans(), folder / "three.png")
        mosaic(store, store.scans()[1:2], folder / "one.png")
    assert pixels(folder / "three.png").shape[0] == pytest.approx(3 * pixels(folder / "one.png").shape[0], abs=3)
    assert holds(folder / "three.png", "#ff0000")


def test_a_peers_database_is_drawn_too(tools):
    folder = tools.folder()
    image, label = tools.head((12, 12, 12))
    with open_store(tools.peer(folder / "p.db", [(image, label / 2)])) as store:
        mosaic(store, store.scans(), folder / "m.png")
    assert (folder / "m.png").read_bytes()[:4] == b"\x89PNG"


def test_no_class_is_black_like_the_ground_where_nobody_chose_colours(tools):
    folder = tools.folder()
    image, label = tools.head()
    names = ("background", *(f"class {index}" for index in range(1, 9)))
    entries = [tools.entry(image=image, label=np.where(label > 0, 8, 0).astype(np.uint8))]
    with open_store(tools.database(entries, label_names=names, label_colours=())) as store:
        mosaic(store, store.scans(), folder / "m.png")
    assert holds(folder / "m.png", colour_of(8)) and colour_of(8) != colour_of(0)


def test_what_cannot_be_drawn(tools, monkeypatch):
    folder = tools.folder()
    with open_store(tools.database()) as store:
        with pytest.raises(StoreError, match="no scan to draw"):
            mosaic(store, (), folder / "m.png")
        with pytest.raises(StoreError, match="cannot be written"):
            mosaic(store, store.scans(), folder / "none" / "m.png")

        def missing(name):
            raise ImportError(name)

        monkeypatch.setattr(figure.importlib, "import_module", missing)
        with pytest.raises(StoreError, match="with its `figures` extra"):
            mosaic(store, store.scans(), folder / "m.png")


def test_what_a_model_made_of_a_scan_is_a_row_below_its_label(tools):
    folder = tools.folder()
    image, label = tools.head()
    colours = ("#000000", "#12fe34", "#fe1234")
    entries = [tools.entry(image=image, label=np.minimum(label, 1)), tools.entry("s2", image=image, label=None)]
    with open_store(tools.database(entries, label_colours=colours)) as store:
        own, bare = store.scans()
        mosaic(store, [own, bare], folder / "two.png")
        assert not holds(folder / "two.png", colours[2])
        with (folder / "three.png").open("wb") as file:
            mosaic(store, [own, bare], file, {own.key: label})
    assert holds(folder / "three.png", colours[2])
    assert 2 * pixels(folder / "three.png").shape[0] == pytest.approx(3 * pixels(folder / "two.png").shape[0], abs=6)
