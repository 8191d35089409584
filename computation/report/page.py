"""One plain, self-contained page: no script, no network, nothing to install; for a site or for the centre."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from computation.report import sections
from computation.report.curves import curves
from computation.report.data import ReportData
from computation.report.markup import Markup, element, join
from computation.tracking import lines

__all__ = ["framed", "page", "write_centre_report", "write_site_report"]

_STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
#: COINSTAC shows the page in a window that may run programs; this forbids the page everything but its own styles.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"

_FOR_SITE = (
    "This page and the files it names stay at this site. It holds no image, but file names may tell whose scans they "
    "are: look before you pass it on. The centre's page holds metrics only."
)
_FOR_ALL = "This page holds metrics only: no image, no scan, no file name and no person."
_REFERENCES = (
    "MeshNet: A. Fedorov, J. Johnson, E. Damaraju, A. Ozerin, V. Calhoun, S. Plis, End-to-end learning of brain tissue "
    "segmentation from imperfect labeling, arXiv:1612.00940; A. Fedorov, E. Damaraju, V. Calhoun, S. Plis, Almost "
    "instant brain atlas segmentation for large-scale studies, arXiv:1711.00457. How to cite this computation: see "
    "CITATION.cff."
)


def write_site_report(folder: Path, data: ReportData) -> Path:
    """Write a site's own page.

    Parameters
    ----------
    folder : Path
        The site's output folder.
    data : ReportData
        What to show.

    Returns
    -------
    Path
        `folder/index.html`, written whole or not at all.

    Raises
    ------
    MeshNetError
        If the file cannot be written.
    """
    return _write(folder, page(data, f"site {data.site}", _FOR_SITE))


def write_centre_report(folder: Path, data: ReportData) -> Path:
    """Write the centre's page, which may go to every site: metrics only, whatever else the record holds.

    Parameters, return value and errors are those of `write_site_report`; predictions, files, the member's settings and
    the site's name are left out.
    """
    shared = replace(data, site="", member={}, predictions=(), files={})
    return _write(folder, page(shared, "all sites", _FOR_ALL))


def _write(folder: Path, markup: Markup) -> Path:
    path = folder / "index.html"
    lines.replace(path, markup)
    return path


def page(data: ReportData, whose: str, note: str) -> Markup:
    """Return a whole page as text.

    Parameters
    ----------
    data : ReportData
        What to show.
    whose : str
        Whom the page is about, for its title.
    note : str
        Who may see it, for its foot.
    """
    title = f"MeshNet, {whose}"
    return framed(f"{title}, run {data.run}", _header(data, title), _parts(data), note)


def framed(title: str, header: Markup, parts: Sequence[tuple[str, Markup | None]], note: str) -> Markup:
    """Return a whole page: a header, parts with a heading each, of which the empty ones are left out, and a foot."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(_STYLE)),
    )
    shown = [element("section", element("h2", name), body) for name, body in parts if body]
    body = element("body", header, element("main", *shown), _footer(note))
    return join(Markup("<!DOCTYPE html>\n"), element("html", head, body, lang="en"), "\n")


def _header(data: ReportData, title: str) -> Markup:
    return element(
        "header",
        element("p", "Federated segmentation of brain MRI · run ", element("code", data.run), class_="kicker"),
        element("h1", title),
        element("p", data.outcome, class_="lead"),
        sections.headline(data),
    )


def _parts(data: ReportData) -> list[tuple[str, Markup | None]]:
    return [
        ("Accuracy", join(sections.accuracy(data), sections.validations(data))),
        ("Course of the training", join(curves(data), sections.rounds(data))),
        ("Sites", sections.sites(data)),
        ("One model", sections.agreement(data)),
        ("Skipped, clipped, defaulted", sections.notices(data)),
        ("Settings", sections.settings(data)),
        ("How it was run", sections.summary(data)),
        ("Files at this site", sections.files(data)),
    ]


def _footer(note: str) -> Markup:
    return element("footer", element("p", note), element("p", _REFERENCES))
