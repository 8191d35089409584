"""The form of an import: what the command line asks for, with the same words and the same defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from computation.checks import is_plain_name
from computation.errors import ImportScanError
from computation.scans import command
from computation.scans.making import images, labels
from computation.scans.making.conform import LIKE
from computation.scans.store import normalise
from service.protocol import Conflict, Malformed, Refusal, Unknown
from service.site.folder import Kind, entry_of, is_database
from service.site.order import Order, parsed
from service.site.root import Root
from service.site.work import Work
from service.web.dashboard.asking import Ask, go, status_of
from service.web.dashboard.front import Front
from service.web.dashboard.making import Field
from service.web.site.places import page, place, show

__all__ = ["routes"]

#: What is done with a database that is there already: the word of the command line for it, and what it means.
_MODES = {"do nothing": "", "add what is new or changed": "--update", "make it anew": "--overwrite"}
_END = ".db"
#: Fields of one kind of source alone: name, label, what it says.
_OWN: Mapping[Kind, tuple[tuple[str, str, str], ...]] = {
    "freesurfer": (
        ("volume", "Volume", "T1, norm or orig."),
        ("segmentation", "Segmentation", "aseg, aparc+aseg and so on; empty for none."),
    ),
    "bids": (
        ("derivatives", "Derivatives", "The folder that holds the labels; may be empty where there is one alone."),
        ("desc", "desc of the labels", "The entity by which they are told from others; empty for those without."),
    ),
}
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9}")
_SPLIT = "Train, valid and test; drawn over people, not scans, where the table does not say."


@dataclass(frozen=True)
class _Source:
    """What is to be imported.

    Attributes
    ----------
    name : str
        Below the root.
    kind : str
        `table`, `freesurfer` or `bids`.
    path : str
        Absolute.
    """

    name: str
    kind: Kind
    path: str

    @property
    def words(self) -> list[str]:
        """What names it on the command line."""
        return [self.path] if self.kind == "table" else [f"--{self.kind}={self.path}"]


def routes(front: Front, work: Work) -> list[BaseRoute]:
    """Return the routes of this file."""
    return [page(front, work, "/import", _empty, form=_begin)]


def _source(root: Root, name: str) -> _Source:
    path = root.find(name)
    found = entry_of(path)
    if found is None or found.kind not in ("table", *_OWN):
        text = "this is no table of scans, no SUBJECTS_DIR and no BIDS dataset; wanted one of these to import"
        raise Malformed("source", text)
    return _Source(name, found.kind, str(path))


def _empty(work: Work, ask: Ask) -> Response:
    return _form(work, ask, _source(work.root, place(ask)))


def _form(work: Work, ask: Ask, source: _Source, status: int = 200, problem: str = "", wrong: str = "") -> Response:
    known = vars(parsed("import", [*source.words, "--db=scans.db"]))
    groups = {
        "Where to": _fields(ask, _target(source)),
        "How": _fields(ask, _how(source, known)),
        "Which part each person is in": _fields(ask, _parts(known)),
    }
    told = {"source": source, "groups": groups, "problem": problem, "wrong": wrong}
    return show(ask, work, "site-import.html", status, **told)


def _fields(ask: Ask, usual: list[Field]) -> list[Field]:
    """Return fields as they were sent, or as usual."""
    return [replace(one, value=ask.said(one.name)) if one.name in ask.form else one for one in usual]


def _target(source: _Source) -> list[Field]:
    near = f"{PurePosixPath(source.name).with_suffix('') if source.kind == 'table' else source.name or 'site'}{_END}"
    help = f"Its name below the folder that these pages show; it ends in {_END}."
    return [
        Field("target", "Database", help, near),
        Field("mode", "If it is there already", "It stays until the new one is complete.", _first(_MODES), "select",
              tuple(_MODES)),
    ]  # fmt: skip


def _how(source: _Source, known: Mapping[str, Any]) -> list[Field]:
    text = "A set, or SET:SOURCE where the label files have other values; a name that ends in .json is a file here."
    return [
        Field("labels", "Classes", text, known["labels"], values=labels.specs()),
        Field("spacing", "Spacing, mm", "One or three numbers; 0 keeps each image's own.", "1", numeric=True),
        Field("like", "Grid like", "Ours, or FreeSurfer's.", known["like"], "select", LIKE),
        Field("normalise", "Normalisation", "How intensities become comparable.", known["normalise"], "select",
              tuple(normalise.SCHEMES)),
        Field("storage", "Storage", "Precision of the image.", known["storage"], "select", images.STORAGES),
        *(Field(name, label, help, known[name]) for name, label, help in _OWN.get(source.kind, ())),
    ]  # fmt: skip


def _parts(known: Mapping[str, Any]) -> list[Field]:
    shares = " ".join(f"{share:g}" for share in known["split"])
    return [
        Field("split", "Shares", _SPLIT, shares, numeric=True),
        Field("seed", "Seed", "Of the draw: a whole number from 0.", str(known["seed"]), numeric=True),
    ]


def _first(values: Mapping[str, str]) -> str:
    return next(iter(values))


def _begin(work: Work, ask: Ask) -> Response:
    source = _source(work.root, place(ask))
    try:
        work.begin(_order(work.root, ask, source))
    except (Refusal, ImportScanError) as error:
        refusal = error if isinstance(error, Refusal) else Malformed("labels", str(error))
        wrong = refusal.code if any(refusal.code == name for name in ask.form) else ""
        return _form(work, ask, source, status_of(refusal), refusal.public, wrong)
    return go("/work")


def _order(root: Root, ask: Ask, source: _Source) -> Order:
    """Return what the form asks for, refused where the command line would refuse it.

    Raises
    ------
    Refusal
        With the field's name as its code.
    ImportScanError
        If there is no such way of importing.
    """
    mode = _MODES.get(ask.said("mode"), "")
    target = _written(root, ask.said("target").strip(), mode)
    words = [
        *source.words,
        f"--db={target}",
        f"--labels={_labels(root, ask.said('labels').strip())}",
        "--spacing",
        *_numbers(ask, "spacing", (1, 3)),
        *(f"--{name}={ask.said(name)}" for name in ("like", "normalise", "storage")),
        "--split",
        *_numbers(ask, "split", (3,)),
        f"--seed={_numbers(ask, 'seed', (1,))[0]}",
        *(f"--{name}={_plain(ask, name)}" for name, *_ in _OWN.get(source.kind, ())),
        *([mode] if mode else []),
        *(["--dry-run"] if ask.said("verb") == "try" else []),
    ]
    arguments = parsed("import", words)
    command.options_of(arguments)
    labels.named(arguments.labels)
    return Order("import", tuple(words), source.name, root.name(target))


def _written(root: Root, name: str, mode: str) -> Path:
    """Return the database to be written, which takes no other file's place."""
    try:
        target = root.target(name, _END)
    except Unknown:
        text = "the database's folder is not there; wanted one below the folder that these pages show"
        raise Malformed("target", text) from None
    if target.exists() and not is_database(target):
        raise Conflict("target", "another file has that name; choose another one")
    if target.exists() and not mode:
        raise Conflict("target", "the database exists already; choose another name, or what is done with it")
    return target


def _labels(root: Root, spec: str) -> str:
    """Return a label set; a file is one below the root."""
    name, colon, source = spec.partition(":")
    if not name.endswith(".json"):
        return spec
    try:
        return f"{root.file(name)}{colon}{source}"
    except Unknown:
        raise Malformed("labels", "there is no such file below the folder that these pages show") from None


def _numbers(ask: Ask, name: str, counts: tuple[int, ...]) -> list[str]:
    """Return numbers, each as a word that is nothing else."""
    found = ask.said(name).replace(",", " ").split()
    if len(found) not in counts or not all(map(_NUMBER.fullmatch, found)):
        raise Malformed(name, f"wanted {' or '.join(map(str, counts))} numbers with blanks between, such as 0.5")
    return found


def _plain(ask: Ask, name: str) -> str:
    """Return a part of files' names, which leads into no other folder."""
    text = ask.said(name).strip()
    if text and not is_plain_name(text):
        raise Malformed(name, "wanted a name, without a folder")
    return text
