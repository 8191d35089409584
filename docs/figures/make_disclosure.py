"""Writes the table of `docs/disclosure.md` from `computation.wire.disclosed`: python docs/figures/make_disclosure.py"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from computation.wire.disclosed import ENVELOPE, EVALUATION, FILES, MESSAGES
from computation.wire.payload import PREFIX

PAGE = Path(__file__).parents[1] / "disclosure.md"
BEGIN, END = "<!-- made by figures/make_disclosure.py -->", "<!-- end -->"
#: Who sends a message, and when.
SENT = {
    "join message": "site, once",
    "plan": "centre to all sites, once",
    "contribution": "site, every round",
    "verdict": "centre to all sites, every round",
    "word on the masks": "centre to each site, every round with secure_aggregation",
    "answer on the masks": "site, every round with secure_aggregation",
    "finishing message": "site, twice",
    "results": "centre to all sites, once",
    "summary": "centre to all sites and the platform, once",
}
_RECORDS = ("validation.", "evaluations.")


def table() -> str:
    """Return all tables of the page."""
    parts = [
        *_rows("every message", ENVELOPE),
        *(line for name, fields in MESSAGES.items() for line in _rows(f"{name} ({SENT[name]})", _plain(fields))),
        *_rows("`validation`, `evaluations.valid`, `evaluations.test`", EVALUATION),
        *_rows("files", {f"{PREFIX}{name}.bin": text for name, text in FILES.items()}),
    ]
    return "\n".join(parts)


def _plain(fields: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in fields.items() if not name.startswith(_RECORDS)}


def _rows(title: str, fields: Mapping[str, str]) -> Iterator[str]:
    yield from ("", f"| {title} | what it tells |", "|---|---|")
    yield from (f"| `{name}` | {text} |" for name, text in fields.items())


def page(text: str) -> str:
    """Return the page with its tables made anew."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
