"""What a run has left at the site: its numbers, its own page, and pictures of what its best model made of the scans."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response
from starlette.routing import BaseRoute

from computation.files import plain
from computation.report import words
from computation.scans.making import images
from computation.scans.making.labels import whole
from computation.scans.store.records import Scan
from computation.tracking import RoundNumbers, foreground
from service.protocol import Conflict, Unknown
from service.site.root import Root
from service.site.run import Left, database, left, own_page, predictions
from service.site.work import Work
from service.web.dashboard import guard
from service.web.dashboard.asking import Ask
from service.web.dashboard.charts import figures
from service.web.dashboard.front import Front
from service.web.dashboard.templates import safe
from service.web.site.databases import draws, opened, picture, wanted
from service.web.site.places import page, place, query, show

__all__ = ["routes"]

#: Pictures of one page, and bytes of a run's own page.
_MOST, _LONGEST = 12, 64 * 2**20
#: A run's page brings its styles along, runs nothing, and can do nothing in its reader's name.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; sandbox"


def routes(front: Front, work: Work) -> list[BaseRoute]:
    """Return the routes of this file."""
    return [
        page(front, work, "/run", _show),
        page(front, work, "/run/page", _page),
        page(front, work, "/run/picture", _picture),
    ]


def _show(work: Work, ask: Ask) -> Response:
    found = left(work.root, place(ask))
    keys = sorted(found.predictions)
    first = _first(ask, len(keys))
    told: dict[str, Any] = {
        "left": found,
        "headline": _headline(found),
        "figures": safe(figures(found.rounds, found.classes, "this site's")),
        "keys": keys[first : first + _MOST],
        "first": first,
        "most": _MOST,
        "older": _is_older(work.root, found),
        "draws": draws(),
    }
    return show(ask, work, "site-run.html", **told)


def _first(ask: Ask, count: int) -> int:
    asked = query(ask).get("from", "")
    return int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 9 and int(asked) < count else 0


def _headline(found: Left) -> list[tuple[str, str, str]]:
    cards = [("Rounds", words.count(len(found.rounds)), f"of {words.count(found.planned)} planned")]
    checked = [one for one in found.rounds if one.validated >= 0]
    if checked:
        cards += _scores(checked[-1], found)
    if found.best >= 0:
        chosen = "the final one" if found.page and found.best == len(found.rounds) else "by pooled validation Dice"
        cards.append(("Best model", f"round {words.count(found.best)}", chosen))
    return cards


def _scores(last: RoundNumbers, found: Left) -> list[tuple[str, str, str]]:
    note = f"foreground, model of round {words.count(last.validated)}"
    own, all = (words.score(foreground(dice, found.classes)) for dice in (last.own_dice, last.dice))
    return [("Dice of all sites", all, note), ("Dice at this site", own, note)]


def _is_older(root: Root, found: Left) -> bool:
    """Tell whether the database was written after a prediction: the same number may then be another scan."""
    if not found.database or not found.predictions:
        return False
    made = min(root.file(name).stat().st_mtime for name in found.predictions.values())
    return root.file(found.database).stat().st_mtime > made


def _page(work: Work, ask: Ask) -> Response:
    """Return the page that the run wrote, as a document that can do nothing."""
    try:
        with plain(own_page(work.root, place(ask))) as file:
            content = file.read(_LONGEST)
    except OSError:
        raise Unknown("page", "the run's page cannot be read") from None
    return Response(content, headers={**guard.HEADERS, "Content-Security-Policy": _POLICY}, media_type="text/html")


def _picture(work: Work, ask: Ask) -> Response:
    at = place(ask)
    work.root.subfolder(at)
    lent = database(work.root, at)
    if not lent:
        raise Conflict("database", "there is no run here, or its scans lie outside the folder that these pages show")
    with opened(work.root.file(lent)) as store:
        scan = wanted(store.scans(), ask)
        name = predictions(work.root, at).get(scan.key)
        if name is None:
            raise Unknown("scan", "the run has left no prediction of this scan")
        return picture(store, scan, {scan.key: _labels(work.root, name, scan)})


def _labels(root: Root, name: str, scan: Scan) -> NDArray[Any]:
    image = images.load(root.file(name))
    if image.shape != scan.shape or not np.allclose(image.affine, scan.affine, atol=1e-3):
        text = "the prediction is on another grid than the scan; the database was made anew since"
        raise Conflict("prediction", text)
    return whole(np.asanyarray(image.dataobj))
