"""Starting from a trained model: the owner names its digest, a site that has the file brings it, and all sites check.

The platform has no way for an owner's file, and only what members name reaches a container. So the file travels like
everything else of a site: as a payload, with the join. It is a model, and holds nothing of the site that brings it.
Another carrier than the platform may have the owner's file: it then puts that beside the sites' folders at the centre.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from computation.coinstac import arrivals
from computation.coinstac.node import Folders
from computation.errors import ModelError, PayloadError, SettingsError
from computation.federation.origin import Origin
from computation.files import replacing
from computation.model import vector
from computation.model.architecture import Architecture
from computation.model.export import load_model
from computation.settings import Settings
from computation.tracking import Tracker
from computation.training.learner import Learner
from computation.wire import payload
from computation.wire.payload import MODEL, Payload, Vector

__all__ = ["brought", "check_policy", "chosen", "load", "own", "put", "ship"]

_NAME = "initial"
_FILE = f"{payload.PREFIX}{_NAME}.bin"


def check_policy(learner: Learner, settings: Settings) -> None:
    """Refuse to start from a model of which a part would not travel.

    Raises
    ------
    SettingsError
        If its batch-norm statistics are each site's own, or never updated and so never shared.
    """
    if settings.initial_model and learner.manifest != vector.manifest(learner.model, "sync"):
        raise SettingsError(
            f"setting 'initial_model' with batch norm needs 'norm_policy' sync, not {settings.norm_policy}: the "
            "model's statistics would not reach the other sites"
        )


def load(card: Path, learner: Learner, settings: Settings) -> Vector:
    """Return a site's copy of the wanted model.

    Parameters
    ----------
    card : Path
        JSON of the exported model; its tensors lie beside it.
    learner : Learner
        Of the run, to compare with.
    settings : Settings
        The owner's, which name the digest.

    Raises
    ------
    ModelError
        If the file is not a model of this run, or another than the one that is wanted.
    SettingsError
        If the owner wants none.
    """
    if not settings.initial_model:
        raise SettingsError(
            "this site names a model in 'data', but setting 'initial_model' names no digest; leave it out"
        )
    model, metadata = load_model(card)
    _expect("architecture", _shape(model.architecture), _shape(learner.architecture))
    _expect("class names", metadata.labels, settings.classes)
    manifest = vector.manifest(model, "sync")
    values = vector.gather(model, manifest)
    _expect("number format", values.dtype.name, learner.dtype.name)
    _expect("digest", payload.digest(manifest, values), settings.initial_model)
    return values


def ship(folders: Folders, learner: Learner, values: Vector, origin: Origin) -> None:
    """Put a site's copy where the centre finds it, to be signed with the join."""
    origin.ship(folders.transfer, _NAME, Payload(MODEL, 0, learner.manifest, values, site=folders.client))


def put(base: Path, content: bytes) -> None:
    """Put the owner's own copy, a payload, where the centre finds it.

    Parameters
    ----------
    base : Path
        The centre's base directory.
    content : bytes
        A model of round 0, of no site.
    """
    with replacing(base / _FILE) as partial:
        partial.write_bytes(content)


def own(base: Path, learner: Learner, settings: Settings, tracker: Tracker) -> Vector | None:
    """Return the owner's own copy, where the centre has one.

    Raises
    ------
    ModelError
        If it is another than the one that is wanted.
    PayloadError
        If it is no model of this run.
    """
    path = base / _FILE
    if not path.exists():
        return None
    values = payload.read(path, kind=MODEL, round=0, manifest=learner.manifest, dtype=learner.dtype)
    _expect("digest", payload.digest(learner.manifest, values), settings.initial_model)
    tracker.event("initial-model", site="", digest=settings.initial_model)
    return values


def _shape(one: Architecture) -> tuple[object, ...]:
    return one.width, one.dilations, one.classes, one.norm, one.activation


def _expect(what: str, seen: object, wanted: object) -> None:
    if seen != wanted:
        raise ModelError(f"the model to start from has another {what}: {seen}; the run wants {wanted}")


def brought(
    base: Path, sites: Iterable[str], origin: Origin, learner: Learner, tracker: Tracker
) -> Iterator[tuple[str, Vector]]:
    """Yield the model of each site that brought one whole, one after the other.

    Parameters
    ----------
    base : Path
        The centre's base directory, in which each site has a folder.
    sites : iterable of str
        In order.
    origin : Origin
        Knows what they signed.
    learner : Learner
        The centre's.
    tracker : Tracker
        Told of who did not.
    """
    for site in sites:
        try:
            signed = origin.wanted(site, _NAME)
            told: dict[str, Any] = {"kind": MODEL, "round": 0, "manifest": learner.manifest, "dtype": learner.dtype}
            yield site, arrivals.receive(base / site / _FILE, **told, site=site, signed=signed)
        except PayloadError as error:
            tracker.event("no-initial-model", site=site, reason=error.public)


def chosen(models: Iterable[tuple[str, Vector]], learner: Learner, settings: Settings, tracker: Tracker) -> Vector:
    """Return the wanted model from the first site that brought it.

    Parameters
    ----------
    models : iterable of (str, numpy.ndarray)
        Who brought which, in the sites' order; no more are asked for than are needed.
    learner, settings
        Of the run.
    tracker : Tracker
        Told of who brought it, and who brought something else.

    Raises
    ------
    SettingsError
        If no site did.
    """
    for site, values in models:
        if payload.digest(learner.manifest, values) == settings.initial_model:
            tracker.event("initial-model", site=site, digest=settings.initial_model)
            return values
        tracker.notice("initial model", f"{site} brought another model to start from than the one that is wanted")
    raise SettingsError(
        f"no site brought the model {settings.initial_model[:12]}... that setting 'initial_model' names; one site must "
        "name its .json and its .safetensors in 'data', beside the scan database"
    )
