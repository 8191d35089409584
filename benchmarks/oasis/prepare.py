"""From the folder with the scans to scan databases: one a site, one of all sites, and one of the test people.

They are kept in the work folder under a name that says what went into them, so a second run imports nothing.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Sequence, Set
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.oasis.effects import SITES, Person, Scanner, assigned, changed, scanner
from computation.scans.making.ingest import import_table
from computation.scans.store.opening import SqliteStore, Store, open_store
from computation.scans.store.provenance import versions
from computation.scans.store.writer import Header, create

LABELS = "gwm-white1-grey2:oasis-tissue"
#: Field of view along each axis, in millimetres.
VIEW = 216
#: Of decoded blocks: each site keeps all its scans at 2 mm, so that no arm waits for the disk.
_CACHE = 512 << 20


@dataclass(frozen=True)
class Bench:
    """Who trains on what, and who is tested.

    Attributes
    ----------
    sites : dict of Store
        Each site's training and validation people.
    pooled : Store
        All of these.
    test : Store
        The test people.
    people : dict of Person
        Everybody by subject, with the files that the scans were made from.
    """

    sites: dict[str, Store]
    pooled: Store
    test: Store
    people: dict[str, Person]

    @property
    def ages(self) -> dict[str, str]:
        """Of every person, in years."""
        return {subject: person.age for subject, person in self.people.items()}

    def close(self) -> None:
        """Close all databases."""
        for store in (*self.sites.values(), self.pooled, self.test):
            store.close()


def people(data: Path) -> list[Person]:
    """Read subjects.csv."""
    with (data / "subjects.csv").open(newline="", encoding="utf-8") as file:
        return [
            Person(
                row["subject"],
                row["site"],
                row["split"],
                row["age"],
                (data / row["image"]).resolve(),
                (data / row["label"]).resolve(),
            )
            for row in csv.DictReader(file)
        ]


def prepare(data: Path, work: Path, spacing: float, effect: str, normalisation: str) -> Bench:
    """Import what is not in the work folder yet, and open everything.

    Parameters
    ----------
    data : Path
        Folder with subjects.csv.
    work : Path
        Where the databases are kept.
    spacing : float
        Voxel size in millimetres.
    effect : str
        One of `effects.EFFECTS`.
    normalisation : str
        One of `normalise.SCHEMES`.
    """
    everybody = assigned(people(data), effect)
    # Effects that only move people share their images.
    imaged = effect if any(scanner(effect, site) != Scanner() for site in SITES) else "none"
    folder = work / f"{spacing:g}mm-{imaged}-{normalisation}-{_digest(people(data), spacing, imaged, normalisation)}"
    parts = {site: [person for person in everybody if person.site == site] for site in SITES}
    parts["pooled"] = [person for person in everybody if person.site]
    parts["test"] = [person for person in everybody if person.split == "test"]
    if not (folder / "all.db").exists():
        print(f"importing at {spacing:g} mm, effect {imaged}, {normalisation}", flush=True)
        _import(folder, everybody, spacing, imaged, normalisation)
    paths = {name: folder / f"{effect}-{name}.db" for name in parts}
    for name in parts:
        if not paths[name].exists():
            _extract(folder / "all.db", paths[name], {person.subject for person in parts[name]})
    stores = {name: open_store(path, cache_bytes=_CACHE) for name, path in paths.items()}
    known = {person.subject: person for person in everybody}
    return Bench({site: stores[site] for site in SITES}, stores["pooled"], stores["test"], known)


def _digest(everybody: Sequence[Person], spacing: float, effect: str, normalisation: str) -> str:
    # The age decides who is where under an effect, and the bytes are all that is read from a file.
    facts = [
        [person.subject, person.site, person.split, person.age, _hash(person.image), _hash(person.label)]
        for person in everybody
    ]
    text = json.dumps([facts, spacing, effect, normalisation, LABELS, VIEW, versions()])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _import(folder: Path, everybody: Sequence[Person], spacing: float, effect: str, normalisation: str) -> None:
    """Make one database of everybody; an import that was cut goes on where it was."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    with (folder / "all.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["subject", "image", "label", "split"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(vars(changed(person, effect, images)) for person in everybody)
    import_table(
        folder / "all.csv",
        folder / "all.db",
        spacing=spacing,
        grid=round(VIEW / spacing),
        label_set=LABELS,
        normalisation=normalisation,
        strict=True,
        jobs=2,
        progress=_tell,
    )
    shutil.rmtree(images)


def _tell(done: int, total: int, subject: str) -> None:
    if done % 5 == 0 or done == total:
        print(f"  {done} of {total} scans", flush=True)


def _extract(source: Path, target: Path, subjects: Set[str]) -> None:
    """Copy some people's scans, as they are, into a database of their own."""
    with SqliteStore(source) as store:
        names = [item.name for item in fields(Header)]
        header = Header(**{name: _frozen(store.meta[name]) for name in names})
        with create(target, header) as out:
            for scan in store.scans():
                if scan.subject in subjects:
                    out.copy(store, scan, subject=scan.subject, split=scan.split)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
