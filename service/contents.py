"""What may travel with a site's message, read by the payload's own reader as soon as it has come."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from computation.errors import PayloadError
from computation.wire.messages import JoinOffer, RoundOffer
from computation.wire.payload import CONTRIBUTION, HEADER_BYTES, PREFIX, decode, dtype_of
from service.protocol import Malformed, Run, Step, TooLarge
from service.protocol.course import Offer

__all__ = ["LARGEST", "check", "check_announced"]

#: Bytes of a file before the plan says how many there are: larger than any MeshNet by an order of magnitude.
LARGEST = 256 * 2**20
CONTRIBUTED = f"{PREFIX}contribution.bin"
_BROUGHT = re.compile(rf"{PREFIX}[a-z]{{1,32}}\.bin")


@dataclass(frozen=True)
class _Shapes:
    """What the plan says of all payloads: the digest of their shapes, and how many values they have."""

    digest: str
    size: int


def check_announced(run: Run, step: Step, name: str, size: int) -> None:
    """Refuse a file that no site sends in a step, by its name and size alone.

    Raises
    ------
    Malformed, TooLarge
        Saying what was wanted.
    """
    if step.phase == "join" and _BROUGHT.fullmatch(name):
        if not 0 < size <= LARGEST:
            raise TooLarge("size", f"the file has {size} bytes; wanted 1 to {LARGEST}", most=LARGEST)
        return
    if step.phase != "train" or name != CONTRIBUTED:
        wanted = f"{CONTRIBUTED} in a round, or a model to start from at the join"
        raise Malformed("file", f"no file of that name travels in phase {step.phase!r}; wanted {wanted}")
    if size != run.payload:
        kind = TooLarge if size > run.payload else Malformed
        raise kind("size", f"the contribution has {size} bytes; wanted {run.payload}", most=run.payload)


def check(run: Run, step: Step, site: str, offer: Offer, files: Mapping[str, bytes], signed: Mapping[str, str]) -> None:
    """Hold the files that came with a message against it, and a round's against the digest that it signs.

    Raises
    ------
    Malformed, TooLarge
        If a file is missing, does not belong there, or is no payload of this site, run, round and model.
    """
    for name, content in files.items():
        check_announced(run, step, name, len(content))
    if isinstance(offer, JoinOffer) and len(files) > 1:
        raise Malformed("file", f"{len(files)} files came with the join; wanted one model at most")
    if isinstance(offer, RoundOffer):
        _check_round(run, step, site, offer, files, signed)


def _check_round(
    run: Run, step: Step, site: str, offer: RoundOffer, files: Mapping[str, bytes], signed: Mapping[str, str]
) -> None:
    wanted = {CONTRIBUTED} if offer.status == "ok" else set()
    if set(files) != wanted:
        raise Malformed("file", f"{len(files)} files came with status {offer.status!r}; wanted {len(wanted)}")
    dtype = dtype_of(run.wanted.settings["precision"])
    shapes = _Shapes(run.manifest, max(0, run.payload - HEADER_BYTES) // dtype.itemsize)
    for name, content in files.items():
        if name not in signed:
            raise Malformed("payload", "the message signs no digest of its payload; wanted it among its files")
        try:
            decode(
                content,
                kind=CONTRIBUTION,
                round=step.round,
                manifest=shapes,
                dtype=dtype,
                model=step.model,
                site=site,
                run=run.id,
                signed=signed[name],
            )
        except PayloadError as error:
            raise Malformed("payload", error.public) from None
