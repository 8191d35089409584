"""What a run came to: metrics, models with their SHA-256, and the papers that the centre wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute

from computation.report import words
from computation.report.markup import Markup, element, join
from computation.report.tables import Column, table
from computation.tracking import foreground, summarise
from computation.wire.messages import JoinOffer, Results
from computation.wire.payload import PREFIX
from service.cases import looking, reading
from service.protocol import Unknown
from service.web.dashboard import guard
from service.web.dashboard.asking import Ask, page, render
from service.web.dashboard.course import Course
from service.web.dashboard.front import Front
from service.web.dashboard.runs import overview
from service.web.dashboard.templates import safe

__all__ = ["routes"]

#: Files of the last results: what each is, and what a browser saves it as.
_FILES: Mapping[str, tuple[str, str]] = {
    f"{PREFIX}best.bin": ("The best model's values", "best-model.bin"),
    f"{PREFIX}final.bin": ("The final model's values", "final-model.bin"),
    "index.html": ("The centre's report, one page that needs no network", "report.html"),
    "model-card.md": ("The model card", "model-card.md"),
    "metrics.csv": ("The numbers of every round", "metrics.csv"),
    "journal.jsonl": ("Everything that was decided, skipped or replaced", "journal.jsonl"),
}


def routes(front: Front) -> list[BaseRoute]:
    """Return the routes of this file."""
    return [
        page(front, "/runs/{run}/results", _show),
        page(front, "/runs/{run}/files/{step:int}/{name}", _fetch),
    ]


def _show(ask: Ask) -> Response:
    values = overview(ask)
    run, spec = values["run"], values["spec"]
    course = ask.front.courses.of(ask.who, run)
    classes = spec.settings["classes"]
    joined = looking.joined(ask.desk, ask.who, run.id)
    return render(
        ask,
        "results.html",
        **values,
        course=course,
        results=course.results,
        headline=_headline(course, classes),
        metrics=safe(_metrics(course.results, classes)) if course.results else "",
        sites=safe(_sites(course, joined)),
        files=[(*_FILES[file.name], step, file) for step, file in course.files if file.name in _FILES],
    )


def _headline(course: Course, classes: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return the few numbers that a reader looks for first: what, how much, a note."""
    done, found = course.rounds, course.results
    planned = course.plan.rounds if course.plan else 0
    cards = [("Rounds", words.count(len(done)), f"of {words.count(planned)} planned")]
    if found is not None:
        dice = words.score(foreground(found.test_dice or found.dice, classes))
        split = "test" if found.test_dice else "validation"
        best = "by pooled validation Dice" if found.chosen else "the last one"
        cards.insert(0, ("Foreground Dice", dice, f"final model, {split} scans"))
        cards.append(("Best model", f"round {words.count(found.best)}", best))
    if done:
        took = sum(item.seconds for item in done)
        cards.append(("Training took", words.seconds(took), f"{words.seconds(took / len(done))} a round"))
    return cards


def _metrics(found: Results, classes: Sequence[str]) -> Markup:
    rows = [("validation", found.dice, found.missing), ("test", found.test_dice, found.test_missing)]
    rows = [row for row in rows if row[1]]
    if not rows:
        return element("p", "No site had scans to measure the model on.", class_="empty")
    columns = [
        Column("final model on", [f"{split} scans" for split, _, _ in rows], ""),
        *(Column(name, [words.score(dice.get(name)) for _, dice, _ in rows]) for name in classes),
        Column("foreground mean", [words.score(foreground(dice, classes)) for _, dice, _ in rows], "number strong"),
        Column("without", [words.listed([f"{site} ({lack})" for site, lack in gone.items()]) for *_, gone in rows], ""),
    ]
    note = "Dice coefficients from voxel counts summed over all sites' scans and divided once."
    return join(table(columns), element("p", note, class_="quiet"))


def _sites(course: Course, joined: Mapping[str, JoinOffer]) -> Markup:
    shares = {one.site: one for one in summarise(course.rounds)}
    names = sorted({*shares, *joined})
    if not names:
        return element("p", "No site yet.", class_="empty")
    splits = [
        Column(f"{split} scans", [words.count(joined[one].scans[split]) if one in joined else "–" for one in names])
        for split in ("train", "valid", "test")
    ]
    counted = [words.count(shares[one].counted) if one in shares else "0" for one in names]
    skipped = [words.count(shares[one].skipped) if one in shares else "0" for one in names]
    ends = ["the final model" if one in course.sites else "–" for one in names]
    columns = [
        Column("site", names, ""),
        *splits,
        Column("rounds counted", counted),
        Column("not counted", skipped),
        Column("ended with", ends, ""),
    ]
    return table(columns)


def _fetch(ask: Ask) -> Response:
    """Return a file of a published result, to be saved and never shown: it is not the page's."""
    run, number, name = ask.path("run"), int(ask.path("step")), ask.path("name")
    if name not in _FILES:
        raise Unknown("file", "there is no such file in a published result of this run")
    if not ask.front.streams:  # nor could an answer have the megabytes of a model there
        return RedirectResponse(reading.link(ask.desk, ask.who, run, number, name)[1].url, 303, dict(guard.HEADERS))
    content = reading.content(ask.desk, ask.who, run, number, name)
    headers = {
        **guard.HEADERS,
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Content-Disposition": f'attachment; filename="{_saved(run, name)}"',
        "Content-Length": str(len(content)),
    }
    return StreamingResponse(_parts(content), headers=headers, media_type="application/octet-stream")


def _saved(run: str, name: str) -> str:
    return f"{re.sub(r'[^0-9a-f]', '', run)[:12]}-{_FILES[name][1]}"


def _parts(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 2**20):
        yield content[start : start + 2**20]
