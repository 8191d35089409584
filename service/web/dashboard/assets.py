"""Styles, scripts and the icon: few, our own, and named by their content, so that browsers may keep them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

import computation.report
from service.web.dashboard import guard

__all__ = ["VERSION", "routes"]

_FOLDER = Path(__file__).parents[1] / "static"
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
#: The report's own styles come first: charts, tables and colours are the same on its pages and here.
_FILES = {
    "report.css": (Path(computation.report.__file__).parent / "page.css").read_bytes(),
    **{path.name: path.read_bytes() for path in sorted(_FOLDER.iterdir()) if path.suffix in _KINDS},
}
#: Names the folder: what is in it under one name never changes.
VERSION = hashlib.sha256(b"\0".join(_FILES.values())).hexdigest()[:12]


def _answer(name: str, kept: str) -> Response:
    if name not in _FILES:
        return Response("not found", 404, dict(guard.HEADERS), "text/plain")
    headers = {**guard.HEADERS, "Cache-Control": kept}
    return Response(_FILES[name], 200, headers, _KINDS[Path(name).suffix])


def _static(request: Request) -> Response:
    current = request.path_params["version"] == VERSION
    kept = "public, max-age=31536000, immutable" if current else "no-store"
    return _answer(request.path_params["name"], kept)


def _icon(request: Request) -> Response:
    return _answer("icon.svg", "public, max-age=3600")


def routes() -> list[BaseRoute]:
    """Return the routes of this file; anybody may ask."""
    return [Route("/static/{version}/{name}", _static), Route("/favicon.ico", _icon)]
