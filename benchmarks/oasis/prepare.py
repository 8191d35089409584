"""From the folder with the scans to scan databases: one a site, one of all sites, and one of the test people.

They are kept in the work folder under a name that says what went into them, so a second run imports nothing.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.oasis.effects import SITES, Person, assigned, changed
from computation.scans.ingest import import_table, versions
from computation.scans.store import Store, open_store

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
    ages : dict of str
        Of every person, in years.
    """

    sites: dict[str, Store]
    pooled: Store
    test: Store
    ages: dict[str, str]

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
    folder = work / f"{spacing:g}mm-{effect}-{normalisation}-{_digest(everybody, spacing, effect, normalisation)}"
    parts = {site: [person for person in everybody if person.site == site] for site in SITES}
    parts["pooled"] = [person for person in everybody if person.site]
    # Test people are the same under every effect, but a database a folder is simpler than a link.
    parts["test"] = [person for person in everybody if person.split == "test"]
    missing = [name for name in parts if not (folder / f"{name}.db").exists()]
    if missing:
        print(f"importing {', '.join(missing)} at {spacing:g} mm, effect {effect}, {normalisation}", flush=True)
        _import(folder, {name: parts[name] for name in missing}, spacing, effect, normalisation)
    stores = {name: open_store(folder / f"{name}.db", cache_bytes=_CACHE) for name in parts}
    ages = {person.subject: person.age for person in everybody}
    return Bench({site: stores[site] for site in SITES}, stores["pooled"], stores["test"], ages)


def _digest(everybody: Sequence[Person], spacing: float, effect: str, normalisation: str) -> str:
    facts = [
        [person.subject, person.site, person.split, str(person.image), person.image.stat().st_size]
        for person in everybody
    ]
    text = json.dumps([facts, spacing, effect, normalisation, LABELS, VIEW, versions()])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _import(folder: Path, parts: dict[str, list[Person]], spacing: float, effect: str, normalisation: str) -> None:
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    made: dict[str, Person] = {}
    for name, persons in parts.items():
        for person in persons:
            if person.subject not in made:
                made[person.subject] = changed(person, effect, images)
        table = folder / f"{name}.csv"
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["subject", "image", "label", "split"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(vars(made[person.subject]) for person in persons)
        import_table(
            table,
            folder / f"{name}.db",
            spacing=spacing,
            grid=round(VIEW / spacing),
            label_set=LABELS,
            normalisation=normalisation,
            strict=True,
            jobs=2,
        )
