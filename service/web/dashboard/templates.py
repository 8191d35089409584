"""The pages' templates; whatever comes out of a value is escaped as in the report's pages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from computation.report import markup, words
from service.web.dashboard import words as own
from service.web.dashboard.assets import VERSION

__all__ = ["FOLDER", "safe", "template"]

_ISO = "%Y-%m-%dT%H:%M:%SZ"
FOLDER = Path(__file__).parents[1] / "templates"


def safe(value: markup.Markup) -> Markup:
    """Return the report's markup as the templates'."""
    return Markup(value)


def _shown(value: Any) -> Any:
    """Escape what a template prints, hidden characters too; nothing is printed as nothing."""
    if value is None:
        return ""
    return value if hasattr(value, "__html__") else Markup(markup.text(value))


def _when(at: int) -> Markup:
    """Return a time in milliseconds as an element that scripts can tell relative to now."""
    if not at:
        return Markup(markup.element("span", "never", class_="quiet"))
    return Markup(markup.element("time", _text(at, "%Y-%m-%d %H:%M UTC"), datetime=_text(at, _ISO), data_at=at))


def _moment(at: int) -> Markup:
    """Return a time that stays as it is written."""
    return Markup(markup.element("time", _text(at, "%Y-%m-%d %H:%M:%S UTC"), datetime=_text(at, _ISO)))


def _text(at: int, form: str) -> str:
    return datetime.fromtimestamp(at / 1000, timezone.utc).strftime(form)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: Mapping[str, Any] = {
        "when": _when,
        "moment": _moment,
        "pretty": _pretty,
        "count": words.count,
        "score": words.score,
        "number": words.number,
        "size": words.size,
        "seconds": words.seconds,
        "duration": own.duration,
        "event": own.event,
        "setting": own.setting,
    }
    made.filters.update(filters)
    made.globals.update(RUNS=own.RUNS, SITES=own.SITES, STATIC=f"/static/{VERSION}", DAY=86_400_000)
    return made


_MADE = _environment()


def template(name: str) -> Template:
    """Return a template by its file's name."""
    return _MADE.get_template(name)
