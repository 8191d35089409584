"""The parts of a page, one function each; every part takes the whole record and shows what it is about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from computation.report import words
from computation.report.data import ReportData, Scores
from computation.report.markup import Markup, element, join
from computation.report.tables import Column, fold, table
from computation.settings import Settings, options
from computation.tracking import Notice, RoundNumbers, SiteSummary, foreground, mean, summarise, totals
from computation.wire.messages import REASONS

__all__ = [
    "accuracy",
    "agreement",
    "files",
    "headline",
    "notices",
    "rounds",
    "settings",
    "sites",
    "summary",
    "validations",
]

#: Rows that a browser still opens at once; metrics.csv has all of them.
_MOST_ROWS = 2000
#: Rows of what other nodes named: sites, models, notices.
_MOST_NAMES = 200


def headline(data: ReportData) -> Markup:
    """Return the few numbers that a reader looks for first."""
    sums = totals(data.rounds)
    last = _final(data)
    cards = [
        ("Foreground Dice", words.score(foreground(last.dice, data.classes)), last.name) if last else None,
        ("Rounds", words.count(sums.rounds), f"of {words.count(data.planned)} planned"),
        ("Sites", words.count(max((item.sites for item in data.rounds), default=0)), _attendance(data.rounds)),
        (
            "Time per round",
            words.seconds(sums.seconds_per_round or None),
            f"{words.seconds(sums.seconds or None)} in all",
        ),
        ("Sent per round", words.size(sums.sent_per_round or None), f"{words.size(sums.sent or None)} in all"),
        (
            "Received per round",
            words.size(sums.received_per_round or None),
            f"{words.size(sums.received or None)} in all",
        ),
    ]
    return element("dl", *(_card(*card) for card in cards if card), class_="cards")


def _card(name: str, value: str, note: str) -> Markup:
    return element("div", element("dt", name), element("dd", value), element("dd", note, class_="quiet"))


def _attendance(done: Sequence[RoundNumbers]) -> str:
    full = sum(len(item.counted) == item.sites for item in done)
    return f"all of them in {words.count(full)} of {words.count(len(done))} rounds" if done else "no round yet"


def _final(data: ReportData) -> Scores | None:
    """Return the accuracy to put first: the first one given, else the last validation."""
    checked = [item for item in data.rounds if item.validated >= 0 and item.dice]
    if data.scores:
        return data.scores[0]
    if not checked:
        return None
    return Scores(f"validation scans of all sites, round {checked[-1].validated}", checked[-1].dice)


def summary(data: ReportData) -> Markup | None:
    """Return the facts as a list of pairs."""
    pairs = [element("div", element("dt", name), element("dd", value)) for name, value in data.facts.items()]
    return element("dl", *pairs, class_="facts") if pairs else None


def accuracy(data: ReportData) -> Markup | None:
    """Return the final accuracies, per class and as both means."""
    rows = [*data.scores] or [last for last in [_final(data)] if last]
    if not rows:
        return element("p", "No validation yet.", class_="empty")
    columns = [
        Column("model and scans", [row.name for row in rows], ""),
        Column("scans", [words.count(row.scans) for row in rows]),
        *_dice_columns([row.dice for row in rows], data.classes),
    ]
    note = (
        "Dice coefficients from voxel counts summed over all scans and divided once. The foreground mean leaves the "
        "background out; the mean of all classes, which the background lifts, is there to compare with older reports."
    )
    return join(table(columns), element("p", note, class_="quiet"))


def _dice_columns(rows: Sequence[Mapping[str, float | None]], classes: Sequence[str], whose: str = "") -> list[Column]:
    scored = [Column(f"{whose}{name}", [words.score(row.get(name)) for row in rows]) for name in classes]
    return [
        *scored,
        Column(f"{whose}foreground mean", [words.score(foreground(row, classes)) for row in rows], "number strong"),
        Column(f"{whose}mean of all", [words.score(mean([row.get(name) for name in classes])) for row in rows]),
    ]


def validations(data: ReportData) -> Markup | None:
    """Return Dice per class of every validation."""
    done = [item for item in data.rounds if item.validated >= 0]
    if not done:
        return None
    columns = [
        Column("model of round", [words.count(item.validated) for item in done]),
        *_dice_columns([item.dice for item in done], data.classes),
        Column(
            "without",
            [words.listed([f"{site} ({lack})" for site, lack in sorted(item.missing.items())]) for item in done],
            "",
        ),
        *_dice_columns([item.own_dice for item in done], data.classes, "own "),
    ]
    body = table(columns, marked=[item.validated == data.best for item in done])
    return fold("Every validation", len(done), body)


def sites(data: ReportData) -> Markup:
    """Return each site's share: scans, rounds, sub-volumes, skips."""
    shares = {share.site: share for share in summarise(data.rounds, data.site)}
    names = sorted({*shares, *data.scans, *data.site_digests, *data.keys})
    if not names:
        return element("p", "No site yet.", class_="empty")
    rows = [shares.get(name, SiteSummary(name, 0, 0)) for name in names]
    splits = [
        Column(f"{split} scans", [words.count(data.scans.get(name, {}).get(split)) for name in names])
        for split in ("train", "valid", "test")
    ]
    columns = [
        Column("site", names, "code"),
        *splits,
        Column("rounds counted", [words.count(row.counted) for row in rows]),
        Column("skipped", [words.count(row.skipped) for row in rows]),
        Column("because", [_because(row) for row in rows], ""),
        Column("scaled down", [words.count(row.clipped) for row in rows]),
        Column("largest update, times the others'", [words.number(row.multiple, 2) for row in rows]),
        Column("mean cosine to the others'", [words.number(row.cosine, 2) for row in rows]),
        Column("largest drift", [words.number(row.drift, 2) for row in rows]),
        Column("sub-volumes", [words.count(row.samples) for row in rows]),
        Column("unreadable scans", [words.count(row.unreadable) for row in rows]),
        Column("last loss", [words.number(row.loss) for row in rows]),
        Column("time per round", [words.seconds(row.seconds) for row in rows]),
        Column("received from it", [words.size(row.received) for row in rows]),
        Column("signs with key", [data.keys.get(name, "") for name in names], "code"),
    ]
    return table(columns, most=_MOST_NAMES)


def _because(row: SiteSummary) -> str:
    return words.listed([f"{REASONS.get(reason, reason)} ({times})" for reason, times in sorted(row.reasons.items())])


def agreement(data: ReportData) -> Markup:
    """Return the digests of the models, and whether all sites ended with the same one."""
    known = sorted(set(data.site_digests.values()))
    one = f"The {len(data.site_digests)} sites ended with one and the same model."
    verdict = [
        element("p", one, class_="good") if len(known) == 1 and len(data.site_digests) > 1 else None,
        element("p", "The sites did not end with the same model.", class_="bad") if len(known) > 1 else None,
    ]
    rows = [*data.digests.items(), *((f"at {site}", digest) for site, digest in sorted(data.site_digests.items()))]
    if not rows:
        return element("p", "No model yet.", class_="empty")
    columns = [
        Column("model", [name for name, _ in rows], ""),
        Column("SHA-256 of its values", [digest for _, digest in rows], "code"),
    ]
    return join(*verdict, table(columns, most=_MOST_NAMES))


def notices(data: ReportData) -> Markup:
    """Return what was skipped, clipped, defaulted or replaced: nothing is hidden."""
    found = [*_derived(data), *data.notices]
    if not found:
        return element("p", "Nothing was skipped, clipped, defaulted or replaced.")
    columns = [
        Column("kind", [item.kind for item in found], ""),
        Column("what", [item.text for item in found], ""),
        Column("times", [words.count(item.times) for item in found]),
    ]
    return table(columns, most=_MOST_NAMES)


def _derived(data: ReportData) -> list[Notice]:
    """Return what the rounds themselves tell, whether or not anyone noted it."""
    sums = totals(data.rounds)
    found = [
        Notice("skipped site", f"{share.site} did not count: {REASONS.get(reason, reason)}", times)
        for share in summarise(data.rounds, data.site)
        for reason, times in sorted(share.reasons.items())
    ]
    if sums.void:
        found.append(Notice("void round", "too few sites contributed and nothing was applied", sums.void))
    if sums.unreadable:
        found.append(Notice("skipped scan", "a scan could not be read and was left out", sums.unreadable))
    if sums.rounds < data.planned:
        found.append(Notice("cut short", f"{sums.rounds} of {data.planned} planned rounds were run"))
    if _final(data) is not None and data.best < 0:
        found.append(Notice("fallback", "no validation was whole, so the 'best' model is only the last one"))
    if _final(data) is None:
        found.append(Notice("fallback", "nothing was validated, so the 'best' model is only the last one"))
    if sums.rounds > _MOST_ROWS:
        found.append(Notice("shortened", f"the table of rounds shows the last {_MOST_ROWS}; metrics.csv has them all"))
    kept = _defaults(data)
    if kept:
        found.append(Notice("default", f"{kept} settings have their default value; the settings' table marks the rest"))
    return found


def _defaults(data: ReportData) -> int:
    blank = Settings().as_json()
    return sum(name in blank and value == blank[name] for name, value in data.settings.items())


def settings(data: ReportData) -> Markup:
    """Return the owner's settings, those that differ from their default marked, and the site's own."""
    known, blank = options(Settings), Settings().as_json()
    names = list(data.settings)
    changed = [name in blank and data.settings[name] != blank[name] for name in names]
    columns = [
        Column("setting", names, "code"),
        Column("value", [_shown(data.settings[name]) for name in names], ""),
        Column("default", [_shown(blank[name]) if name in blank else "–" for name in names], "quiet"),
        Column("what it does", [known[name][1].help if name in known else "" for name in names], "quiet"),
    ]
    own = {name: _shown(_without_key(value)) for name, value in data.member.items()}
    member = [
        element("h3", "This site's own"),
        table([Column("setting", list(own), "code"), Column("value", list(own.values()), "")]),
    ]
    title = f"Owner's settings, {sum(changed)} changed from their default"
    return join(fold(title, len(names), table(columns, marked=changed), short=0), *(member if own else ()))


def _without_key(value: Any) -> Any:
    """Return a setting in which a Weights & Biases key is replaced by the fact that there is one."""
    if isinstance(value, Mapping):
        return {name: "(hidden)" if "key" in str(name).lower() else item for name, item in value.items()}
    return value


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, default=str) if value else "none"
    return "none" if value in ("", None) else str(value)


def rounds(data: ReportData) -> Markup | None:
    """Return every round as a row of a folded table."""
    done = data.rounds[-_MOST_ROWS:]
    if not done:
        return None
    columns = [
        Column("round", [words.count(item.round) for item in done]),
        Column("loss, pooled", [words.number(item.loss) for item in done]),
        Column("loss, own", [words.number(item.own_loss) for item in done]),
        Column("learning rate", [words.number(item.learning_rate, 3) for item in done]),
        Column("sites", [f"{len(item.counted)}/{item.sites}{' void' if item.void else ''}" for item in done]),
        Column("sub-volumes", [words.count(item.samples) for item in done]),
        Column("unreadable", [words.count(item.unreadable) for item in done]),
        Column("time", [words.seconds(item.seconds or None) for item in done]),
        Column("computing", [words.seconds(item.own_seconds or None) for item in done]),
        Column("sent", [words.size(item.sent) for item in done]),
        Column("received", [words.size(item.received) for item in done]),
        *_spent(done),
        Column("model", [item.digest[:12] for item in done], "code"),
    ]
    return fold("Every round", len(data.rounds), table(columns))


def _spent(done: Sequence[RoundNumbers]) -> list[Column]:
    """Return what the rounds cost a scan's privacy, where a run has that."""
    if all(item.epsilon is None for item in done):
        return []
    return [Column("epsilon so far", [words.number(item.epsilon, 4) for item in done])]


def files(data: ReportData) -> Markup | None:
    """Return the site's predictions and other files; for the site's own page."""
    parts = []
    if data.predictions:
        rows = data.predictions
        columns = [
            Column("prediction", [row.file for row in rows], "code"),
            Column("of", [row.note for row in rows], ""),
            *_dice_columns([row.dice for row in rows], data.classes),
        ]
        parts.append(fold("Predictions", len(rows), table(columns)))
    if data.files:
        columns = [Column("file", list(data.files), "code"), Column("what it is", list(data.files.values()), "")]
        parts.append(fold("Other files in this folder", len(data.files), table(columns)))
    return join(*parts) if parts else None
