"""`swarm feed`: begin a feed, append messages to it; the standard library and `cryptography` are enough."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from computation.errors import PeersError
from peers.swarm.feed import Log, Writer
from peers.swarm.ratchet import following

__all__ = ["feed"]


def feed(
    state: Path, messages: Sequence[Path], mode: str | None, seed: Path | None, side: Path | None, log: Path | None
) -> None:
    """Append files to a feed, and print what lets somebody read from the next message on.

    Raises
    ------
    PeersError
        If the feed cannot be begun or gone on with, or a file cannot be read.
    MessageError
        If a message is too long.
    """
    writer = _begun(state, mode, seed, side) if mode else Writer.load(state)
    kept = Log([writer.ticket.author], log or state.parent / "feed", most=1_000_000)
    chain = kept.chains[writer.ticket.author]
    if chain.number == writer.number + 1:  # it was written, and then the power went
        writer.key, writer.number, writer.previous = following(writer.key), chain.number, chain.previous
    for path in messages:
        kept.take(writer.append(_bytes(path)).whole)
        writer.save(state)
    print(writer.ticket.written())


def _begun(state: Path, mode: str, seed: Path | None, side: Path | None) -> Writer:
    if state.exists() or seed is None:
        raise PeersError("a new feed needs --seed, and a state that is not there yet: one feed is begun once")
    writer = Writer.new(_bytes(seed), mode, _bytes(side) if side else b"")
    writer.save(state)
    return writer


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PeersError("a file cannot be read; wanted one of bytes", f"{path}: {error}") from None
