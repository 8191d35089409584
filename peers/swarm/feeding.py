"""`swarm feed` and `swarm read`: begin a feed, append to it, bring it to a full node, read what a node has kept.

The standard library and `cryptography` are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from computation.errors import PeersError
from peers.swarm.entry import parsed
from peers.swarm.feed import Log, Ticket, Writer
from peers.swarm.intake import bring
from peers.swarm.ratchet import KEY_BYTES, following

__all__ = ["authors", "feed", "read"]


def feed(
    state: Path,
    messages: Sequence[Path],
    mode: str | None,
    seed: Path | None,
    side: Path | None,
    log: Path | None,
    to: tuple[str, int] | None = None,
) -> None:
    """Append files to a feed, bring it to a full node, and print what lets somebody read from the next message on.

    Raises
    ------
    PeersError
        If the feed cannot be begun or gone on with, or a file cannot be read.
    MessageError
        If a message is too long, or the node refuses it.
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
    if to:
        bring(*to, writer.ticket.author, kept.entries(writer.ticket.author))


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


def read(log: Path, ticket: str, side: Path | None, output: Path) -> int:
    """Write each message of a feed that a reading key opens into a file of its number; return how many.

    Raises
    ------
    PeersError
        If the key is none, or there is no such feed.
    MessageError
        If the side key is wrong.
    """
    key = Ticket.parsed(ticket, _bytes(side) if side else b"")
    entries = [parsed(blob) for blob in Log([key.author], log).entries(key.author)]
    if not entries:
        raise PeersError("there is no message of this feed; wanted the folder of a log, or `feeds` of a node's output")
    output.mkdir(parents=True, exist_ok=True)
    opened = [entry for entry in entries if entry.number >= key.number]
    for entry in opened:
        (output / f"{entry.number:08d}").write_bytes(key.read(entry))
    return len(opened)


def authors(path: Path | None) -> list[bytes]:
    """Read a list of authors' keys, one in a line, in hexadecimal; a reading key's first part is one.

    Raises
    ------
    PeersError
        If it cannot be read.
    """
    if path is None:
        return []
    try:
        found = [bytes.fromhex(line.partition(":")[0]) for line in path.read_text(encoding="ascii").split()]
    except (OSError, ValueError) as error:
        raise PeersError("the list of feeds cannot be read; wanted an author's key in each line", repr(error)) from None
    if any(len(author) != KEY_BYTES for author in found):
        raise PeersError(f"the list of feeds has a key that is none; wanted {KEY_BYTES} bytes in hexadecimal each")
    return found
