"""The model card: what a stranger must know before using the model, as Markdown beside the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from computation.report import words
from computation.report.data import ReportData, Scores
from computation.settings import Settings, options
from computation.tracking import foreground, mean

__all__ = ["card"]

_SPLITS = ("train", "valid", "test")

_USE = """\
Research on segmenting T1-weighted brain MRI into the classes above, on scans like those that it learnt from: same kind
of image, same voxel size after conforming, people of similar age and health. Use it with `coinstac-meshnet predict`,
which prepares a scan exactly as training did, and look at the figure that it draws of every scan."""

_LIMITS = """\
- **Not a medical device.** It has not been tested for diagnosis, treatment or any decision about a person.
- Its labels imitate those that the sites provided, with their protocol and their errors; it knows no other protocol.
- Other scanners, sequences, ages and diseases than the sites' own lower its accuracy by an unknown amount. The scores
  below describe the sites' own scans only.
- Dice is pooled over voxels: it says little about small structures and nothing about the worst scan.
- A head that is cut, rotated far from upright, or of an image that is not T1-weighted gives labels that look whole and
  are wrong.
- A model trained on few people can betray facts about them to whoever holds its weights. No such test was made."""


def card(
    data: ReportData,
    *,
    parameters: int,
    preparation: Mapping[str, Any],
    site_scores: Mapping[str, Sequence[Scores]] | None = None,
) -> str:
    """Return the model card of a run.

    Parameters
    ----------
    data : ReportData
        What the page of this node shows. Images, file names and notices do not enter the card; neither does anything
        about a single scan.
    parameters : int
        Numbers that training changed.
    preparation : mapping
        What the model expects of a scan: the `preprocessing` in its JSON. At the centre, how each site prepared its
        scans, by site.
    site_scores : mapping of str to sequence of Scores, optional
        Accuracy on each site's own scans, where this node knows it.

    Returns
    -------
    str
        Markdown; for equal input the same text.
    """
    parts = [
        _head(data, parameters),
        _section("Intended use", _USE),
        _section("Limits", _LIMITS),
        _section("Data", _data(data)),
        _section("Privacy", _privacy(data)),
        _section("Accuracy", _accuracy(data, site_scores or {})),
        _section("Input", _pairs(*_input(data), preparation)),
        _section("Training", _training(data)),
        _section("Models", _digests(data)),
    ]
    return "\n".join(part for part in parts if part)


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}\n" if body else ""


def _head(data: ReportData, parameters: int) -> str:
    settings = data.settings
    name, width = settings.get("model", "MeshNet"), words.count(parameters)
    sites = f" between {len(data.scans)} sites" if len(data.scans) > 1 else ""
    rule = settings.get("rule", "mean")
    by = "" if rule == "mean" else f" and rule {_cell(rule)}"
    return (
        f"# Model card: {_cell(name)}, {len(data.classes)} classes\n\n"
        f"A fully convolutional network of {width} parameters, trained{sites} in run `{_cell(data.run)}` "
        f"with strategy {_cell(settings.get('strategy', ''))}{by}. {data.outcome}\n\n"
        f"Classes, in the order of the label values: {', '.join(map(_cell, data.classes))}.\n"
    )


def _data(data: ReportData) -> str:
    if not data.scans:
        return ""
    rows = [(site, *(scans.get(split, 0) for split in _SPLITS)) for site, scans in sorted(data.scans.items())]
    if len(rows) > 1:
        rows.append(("all sites", *(sum(one.get(split, 0) for one in data.scans.values()) for split in _SPLITS)))
    note = "Numbers of scans. `import` divides people, not scans, unless its table says who is in which split."
    others = "" if not data.site else " This site knows its own scans only; the centre's card lists all sites."
    return f"{_table(('site', *_SPLITS), rows)}\n\n{note}{others}"


def _privacy(data: ReportData) -> str:
    costs = [item.epsilon for item in data.rounds if item.epsilon is not None]
    if not costs:
        return ""
    settings = data.settings
    whose = "each of this site's training scans" if data.site else "each training scan, at the site that hides it least"
    return (
        f"Trained with differential privacy: epsilon {max(costs):.4g} at delta {settings.get('dp_delta', 0):g} for "
        f"{whose}, against whoever sees all that the site sends of its training (noise "
        f"{settings.get('dp_noise', 0):g}, clip {settings.get('dp_clip', 0):g}; Poisson sampling, privacy loss "
        "distributions). A person with several scans has several times that. Not covered: numbers of scans, and voxel "
        "counts of validation and test scans, which chose the best model."
    )


def _accuracy(data: ReportData, site_scores: Mapping[str, Sequence[Scores]]) -> str:
    rows = [_scored(score.name, score.dice, data.classes) for score in data.scores]
    for site, scores in sorted(site_scores.items()):
        rows += [_scored(f"{site}: {score.name}", score.dice, data.classes) for score in scores]
    best = [item for item in data.rounds if data.best >= 0 and item.validated == data.best and item.dice]
    rows += [_scored(f"Best model (round {data.best}), validation scans", item.dice, data.classes) for item in best[:1]]
    if not rows:
        return "Nothing was validated."
    note = "Dice from voxel counts summed over scans and divided once. The foreground mean leaves the background out."
    if data.best >= 0:
        note += " The best model was chosen on the validation scans, so its score there is optimistic."
    return f"{_table(('scans', *data.classes, 'foreground mean', 'mean with background'), rows)}\n\n{note}"


def _scored(name: str, dice: Mapping[str, float | None], classes: Sequence[str]) -> tuple[str, ...]:
    values = [dice.get(one) for one in classes]
    return (name, *map(words.score, values), words.score(foreground(dice, classes)), words.score(mean(values)))


def _input(data: ReportData) -> tuple[str, str]:
    """Return the headings: a site's card says what the model expects, the centre's how each site prepared its scans."""
    return ("expected of a scan", "value") if data.site else ("site", "how its scans were prepared")


def _training(data: ReportData) -> str:
    facts = {"rounds": f"{len(data.rounds)} of {data.planned}", **data.facts}
    usual = {name: json.dumps(default) for name, (default, _) in options(Settings).items()}
    rows = [
        (f"`{name}`", _value(value), "changed" if usual.get(name) != json.dumps(value) else "")
        for name, value in data.settings.items()
    ]
    return f"{_pairs('fact', 'value', facts)}\n\n{_table(('setting', 'value', 'from its default'), rows)}"


def _digests(data: ReportData) -> str:
    rows = [(name, f"`{digest}`") for name, digest in data.digests.items()]
    return _table(("model", "SHA-256 of its values"), rows) if rows else ""


def _pairs(left: str, right: str, values: Mapping[str, Any]) -> str:
    return _table((left, right), [(name, _value(value)) for name, value in values.items()]) if values else ""


def _value(value: Any) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    """Return text that stays inside its cell and is no markup: class and site names are the users' own."""
    flat = " ".join(str(value).split())
    return flat.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")
