"""The process that does one order: `python -m service.site.working ROOT`, an order on its input, lines of JSON as its
answer: how far it is, and at the end what came of it or why nothing did."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from computation.errors import MeshNetError
from computation.scans import command
from computation.scans.making.ingest import import_scans
from computation.scans.making.sources import LeftOut, Listing, Row
from computation.scans.making.summary import ImportSummary
from computation.scans.store import checking
from computation.scans.store.opening import open_store
from service.site.order import Order, parsed
from service.site.root import Root

__all__ = ["main"]

_AWAY = "a file of it lies outside the folder that these pages show; import it from a terminal, or move it there"
#: Scans of which the answer says each; of the others only how many there are.
_MOST = 2000


def main(folder: Path) -> None:
    """Read an order and do it."""
    signal.signal(signal.SIGTERM, _stop)
    root, order = Root(folder), Order.from_json(json.load(sys.stdin))
    try:
        _say(result=_done(root, order, parsed(order.verb, order.words)))
    except MeshNetError as error:
        _say(problem=error.public, detail=error.private)
    except KeyboardInterrupt:
        _say(stopped=True)
    except Exception as error:  # of which nobody knows what its text holds
        _say(problem=f"the {order.verb} has failed ({type(error).__name__}); what there was before is still there")


def _stop(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _say(**told: Any) -> None:
    print(json.dumps(told), flush=True)


def _progress(done: int, total: int, *_: object) -> None:
    _say(done=done, total=total)


def _done(root: Root, order: Order, arguments: argparse.Namespace) -> dict[str, Any]:
    if order.verb == "inspect":
        with open_store(arguments.db) as store:
            found = checking.faults(store, _progress)
            return {"faults": {str(key): str(fault) for key, fault in found.items()}, "scans": len(store.scans())}
    listing, options = command.listing_of(arguments), command.options_of(arguments)
    _say(done=0, total=len(listing.rows))
    kept = _within(root, listing)
    return _told(import_scans(kept, arguments.db, options, dry_run=arguments.dry_run, progress=_progress))


def _within(root: Root, listing: Listing) -> Listing:
    """Leave out scans that a table or a link names elsewhere."""
    rows, left_out = [], list(listing.left_out)
    for row in listing.rows:
        if _is_within(root, row):
            rows.append(row)
        else:
            left_out.append(LeftOut(row.subject, row.session, _AWAY, str(row.image)))
    return Listing(tuple(rows), tuple(left_out))


def _is_within(root: Root, row: Row) -> bool:
    return root.holds(row.image) and (row.label is None or root.holds(row.label))


def _told(summary: ImportSummary) -> dict[str, Any]:
    odd = [asdict(scan) for scan in summary.taken if scan.warnings]
    return {
        "counts": summary.counts,
        "states": Counter(scan.state for scan in summary.taken),
        "mixed": summary.mixed,
        "taken": [asdict(scan) for scan in summary.taken[:_MOST]],
        "odd": odd[:_MOST],
        "left_out": [asdict(scan) for scan in summary.left_out[:_MOST]],
        "many": len(summary.left_out),
    }


if __name__ == "__main__":
    main(Path(os.fsdecode(sys.argv[1])))
