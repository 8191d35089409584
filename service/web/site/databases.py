"""What a scan database holds, as `coinstac-meshnet inspect` says it, with pictures."""

from __future__ import annotations

import io
import shlex
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from computation.scans import figure
from computation.scans.store.opening import SqliteStore, Store, open_store
from computation.scans.store.records import SPLITS, Scan
from service.protocol import Conflict, Unknown
from service.site.folder import is_database
from service.site.order import Order
from service.site.work import Work
from service.web.dashboard import guard
from service.web.dashboard.asking import Ask, go
from service.web.dashboard.front import Front
from service.web.site.places import page, place, query, show

__all__ = ["draws", "opened", "picture", "routes", "wanted"]

#: Rows of a table.
_MOST = 500
#: Bytes of a database that is not ours.
_LONGEST = 256 * 2**20
#: Drawing takes memory and one processor; a page asks for several pictures at once.
_DRAWING = threading.Lock()


def routes(front: Front, work: Work) -> list[BaseRoute]:
    """Return the routes of this file."""
    return [
        page(front, work, "/database", _show, form=_check),
        page(front, work, "/database/picture", _picture),
    ]


def _show(work: Work, ask: Ask) -> Response:
    path = work.root.file(place(ask))
    with opened(path) as store:
        scans = store.scans()
        chosen = wanted(scans, ask) if scans else None
        told: dict[str, Any] = {
            "scans": scans,
            "chosen": chosen,
            "classes": store.label_names,
            "facts": _facts(store, scans),
            "counts": {part: len(store.scans(part)) for part in SPLITS},
            "left_out": _left_out(store),
            "most": _MOST,
            "draws": draws(),
            "shown": shlex.quote(str(path)),
        }
    return show(ask, work, "site-database.html", **told)


def opened(path: Path) -> Store:
    """Open a database; raises `Conflict` for one that is read whole on being opened and is long."""
    if not is_database(path) and path.stat().st_size > _LONGEST:
        text = "the prototype's table is read whole when it is opened, and this one is long; inspect it at a terminal"
        raise Conflict("database", text)
    return open_store(path)


def draws() -> bool:
    """Tell whether pictures can be drawn here."""
    return find_spec("matplotlib") is not None


def wanted(scans: Sequence[Scan], ask: Ask) -> Scan:
    """Return the scan that an address asks for, the first if it names none.

    Raises
    ------
    Unknown
        If there is no such scan.
    """
    asked = query(ask).get("scan", "")
    found = [scan for scan in scans if str(scan.key) == asked] if asked else list(scans[:1])
    if not found:
        raise Unknown("scan", "the database holds no such scan")
    return found[0]


def _facts(store: Store, scans: Sequence[Scan]) -> dict[str, str]:
    meta: Mapping[str, Any] = store.meta if isinstance(store, SqliteStore) else {}
    made = meta.get("provenance")
    versions = made.get("versions") if isinstance(made, Mapping) else None
    own = versions.get("coinstac-meshnet") if isinstance(versions, Mapping) else None
    return {
        "Format": "this software's" if isinstance(store, SqliteStore) else "the prototype's table",
        "Label set": str(meta.get("label_set", "")) or "unknown",
        "Normalisation": store.normalisation,
        "Divided by": _divided(meta.get("split")),
        "Voxels": _several(" x ".join(map(str, scan.shape)) for scan in scans),
        "Spacing": _several(" x ".join(f"{size:g}" for size in scan.spacing) + " mm" for scan in scans),
        "Axes": _several(scan.axes for scan in scans),
        "Heads": _several(scan.head for scan in scans),
        "Made with": str(own or "unknown"),
    }


def _divided(split: Any) -> str:
    how = split if isinstance(split, Mapping) else {}
    if how.get("by") == "table":
        return "its table"
    return f"people, seed {how['seed']}" if "seed" in how else "unknown"


def _several(values: Any) -> str:
    found = Counter(values)
    return "; ".join(f"{value} ({count})" if len(found) > 1 else value for value, count in found.most_common(5))


def _left_out(store: Store) -> list[Mapping[str, Any]]:
    """Return which scans the import left out, and why."""
    noted = store.meta.get("skipped", []) if isinstance(store, SqliteStore) else []
    return [one for one in noted if isinstance(one, Mapping)] if isinstance(noted, list) else []


def _check(work: Work, ask: Ask) -> Response:
    """Begin to check every voxel."""
    name = place(ask)
    work.begin(Order("inspect", (str(work.root.file(name)),), name, name))
    return go("/work")


def _picture(work: Work, ask: Ask) -> Response:
    with opened(work.root.file(place(ask))) as store:
        return picture(store, wanted(store.scans(), ask))


def picture(store: Store, scan: Scan, predicted: Mapping[int, Any] | None = None) -> Response:
    """Return a picture of a scan, and of what a model made of it; see `figure.mosaic`."""
    drawn = io.BytesIO()
    with _DRAWING:
        figure.mosaic(store, [scan], drawn, predicted)
    return Response(drawn.getvalue(), headers=dict(guard.HEADERS), media_type="image/png")
