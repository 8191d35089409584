"""Exported models to start from, and what a hostile or clumsy coordinator uploads instead."""

import json
from pathlib import Path

import numpy as np
from consortium import CLASSES
from safetensors import numpy as tensors

from computation.model import architecture
from computation.model.export import Metadata, save_model
from computation.model.network import build
from computation.settings import Settings


def exported(folder: Path, seed=9, *, labels=CLASSES, **settings) -> tuple[bytes, bytes, str]:
    """Write a model of the short runs' architecture; return its JSON, its tensors and its digest."""
    wanted = Settings(**{"model": "meshnet-10x5", "classes": labels, **settings})
    digest = save_model(folder, build(architecture.from_settings(wanted), seed), Metadata(labels))
    return (folder / "model.json").read_bytes(), (folder / "model.safetensors").read_bytes(), digest


def _told(card, **changes):
    return json.dumps({**json.loads(card), **changes}).encode()


def _changed(blob, change):
    arrays = {name: np.array(value) for name, value in tensors.load(blob).items()}
    change(arrays)
    return tensors.save(arrays)


def hostile(card: bytes, blob: bytes):
    """Yield a name, JSON, tensors, and what must be said of them."""
    head = "layers.0.conv.weight"
    yield "nothing", b"", b"", "cannot be parsed"
    yield "no JSON", b"\x80\x02}q\x00.", blob, "cannot be parsed"
    yield "deep JSON", b"[" * 100_000, blob, "cannot be parsed"
    yield "a list", b"[]", blob, "exactly its keys"
    yield "one key more", _told(card, more=1), blob, "exactly its keys"
    yield "a place", _told(card, tensors="../../etc/passwd"), blob, "'tensors' of the model's JSON"
    yield "a number for a digest", _told(card, digest=1), blob, "'digest' of the model's JSON"
    yield "an array for a number format", _told(card, dtype=["float32"]), blob, "'dtype' of the model's JSON"
    yield "another digest", _told(card, digest="ab" * 32), blob, "do not have the digest"
    yield "another number format", _told(card, dtype="float64"), blob, "wanted float64"
    vast = {**json.loads(card)["architecture"], "width": 256, "dilations": [1] * 64, "classes": 3}
    yield "a vast architecture", _told(card, architecture=vast), blob, "not those of its architecture"
    yield "no tensors", card, b"", "cannot be read"
    yield "a pickle", card, b"\x80\x04\x95cos\nsystem\n(S'true'\ntR.", "cannot be read"
    yield "half of them", card, blob[: len(blob) // 2], "cannot be read"
    yield "a header without an end", card, b"\xff" * 64, "cannot be read"
    yield "one value changed", card, blob[:-4] + b"\0\0\0\1", "do not have the digest"
    yield "not a number", card, _changed(blob, lambda arrays: arrays[head].fill(np.nan)), "NaN or infinite"
    yield "one tensor less", card, _changed(blob, lambda arrays: arrays.pop(head)), "not those of its architecture"
    yield "a shape", card, _changed(blob, lambda arrays: arrays.update({head: arrays[head].ravel()})), "wanted float32"
    yield "half the bits", card, _changed(blob, lambda a: a.update({head: a[head].astype("f2")})), "is float16"
