"""The trained model that a run starts from, where its coordinator uploads it: what is checked, and where it is kept.

It is kept as the payload that a site would bring, under a name made of all that it was checked for. So the spec alone
says where it is, and a draft whose architecture, classes or number format change afterwards has none any more.
"""

from __future__ import annotations

from dataclasses import dataclass

from computation.errors import MeshNetError
from computation.model import architecture, shapes
from computation.model.architecture import Architecture
from computation.model.exported import Card
from computation.settings import Settings
from computation.wire import payload
from computation.wire.payload import MODEL, Payload
from service.blobs.base import BlobMissing
from service.cases.desk import Desk
from service.protocol import Malformed, Spec, TooLarge, digest_of

__all__ = ["MOST", "Model", "keep", "kept", "read"]

#: Bytes of the file with the tensors; a Lambda takes 6 MB in base64, and the largest MeshNet has two in float64.
MOST = 4 * 2**20


@dataclass(frozen=True)
class Model:
    """An uploaded model whose digest is right.

    Attributes
    ----------
    card : Card
        What its JSON says.
    payload : bytes
        All its values, as the centre reads them.
    """

    card: Card
    payload: bytes


def read(card: bytes, tensors: bytes) -> Model:
    """Read the two files of an exported model.

    Raises
    ------
    TooLarge
        If the tensors have more than `MOST` bytes.
    Malformed
        If they are no model, or not the one that its JSON names.
    """
    if len(tensors) > MOST:
        raise TooLarge("model", f"the model's tensors have {len(tensors)} bytes; wanted at most {MOST}")
    try:
        told = Card.parse(card)
        return Model(told, payload.encode(Payload(MODEL, 0, told.manifest, told.values(tensors))))
    except MeshNetError as error:
        raise _refused(error.public) from None


def keep(desk: Desk, run: str, spec: Spec, model: Model) -> Spec:
    """Keep a model that fits a draft, and return the spec that names it.

    Raises
    ------
    Malformed
        If it has another architecture, other classes or another number format than the run.
    """
    settings = spec.record
    card, wanted = model.card, _architecture(settings)
    _expect("architecture", _shape(card.architecture), _shape(wanted))
    _expect("class names", card.labels, settings.classes)
    _expect("number format", card.table["dtype"], _dtype(settings))
    if wanted.norm == "batch" and settings.norm_policy != "sync":
        raise _refused(f"to start from a model with batch norm needs 'norm_policy' sync, not {settings.norm_policy}")
    named = Spec.parse({**spec.as_json(), "settings": {**spec.settings, "initial_model": card.digest}})
    desk.blobs.write(_key(run, named.record), model.payload)
    return named


def kept(desk: Desk, run: str, spec: Spec) -> bytes | None:
    """Return the payload of the uploaded model that a spec names; None where a site must bring it, or none is named."""
    settings = spec.record
    if not settings.initial_model:
        return None
    try:
        size = payload.length(shapes.of(_architecture(settings)), _dtype(settings))
        return desk.blobs.read(_key(run, settings), size)
    except BlobMissing:
        return None


def _architecture(settings: Settings) -> Architecture:
    try:
        return architecture.from_settings(settings)
    except MeshNetError as error:
        raise Malformed("settings", error.public, field="settings") from None


def _dtype(settings: Settings) -> str:
    return payload.dtype_of(settings.precision).name


def _shape(one: Architecture) -> tuple[object, ...]:
    return one.width, one.dilations, one.classes, one.norm, one.activation


def _key(run: str, settings: Settings) -> str:
    checked = [settings.initial_model, _shape(_architecture(settings)), settings.classes, _dtype(settings)]
    return f"runs/{run}/start/{digest_of(checked)}"


def _expect(what: str, seen: object, wanted: object) -> None:
    if seen != wanted:
        raise _refused(f"the model to start from has another {what}: {str(seen)[:300]}; the run wants {wanted}")


def _refused(public: str) -> Malformed:
    return Malformed("model", public, field="model")
