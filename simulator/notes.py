"""What the pages of a run do not hide, for the terminal: notices of every node, and sites that did not count."""

from __future__ import annotations

from collections.abc import Iterable

from computation.tracking import Notice, SiteSummary, notices, read, rounds, summarise
from computation.wire.messages import REASONS
from simulator.layout import CENTRE, Layout

__all__ = ["notes"]

_NAMES = {CENTRE: "centre"}


def notes(layout: Layout, sites: Iterable[str]) -> list[str]:
    """Return one sentence for each thing that must not be hidden, each once, with the nodes that noted it."""
    entries = {client: read(layout.output(client) / "journal.jsonl") for client in (CENTRE, *sites)}
    done = rounds(entries[CENTRE])
    said = [text for share in summarise(done) for text in _absences(share, len(done))]
    noted: dict[tuple[str, str], list[tuple[str, Notice]]] = {}
    for client, found in entries.items():
        for notice in notices(found):
            noted.setdefault((notice.kind, notice.text), []).append((_NAMES.get(client, client), notice))
    return said + [_sentence(nodes) for nodes in noted.values()]


def _absences(share: SiteSummary, done: int) -> list[str]:
    """Say in how many rounds a site did not count, and why."""
    if not share.skipped:
        return []
    reasons = "; ".join(f"{REASONS.get(reason, reason)} ({count})" for reason, count in share.reasons.items())
    often = "in no round" if not share.counted else f"in {share.counted} of {done} rounds only"
    return [f"{share.site} counted {often}: {reasons}"]


def _sentence(nodes: list[tuple[str, Notice]]) -> str:
    _, notice = nodes[0]
    times = max(one.times for _, one in nodes)
    often = f" ({times} times)" if times > 1 else ""
    return f"{', '.join(name for name, _ in nodes)}: {notice.text}{often}"
