"""What makes sites differ: a scanner's contrast, noise and bias field, who is scanned, and how many.

Training people's images change, or move to another site; validation and test people stay as they are. Strengths are
fixed and random fields are seeded by the person, so a data base made twice is the same.

- `contrast`: the image to the power 0.6, 0.8, 1.25 or 1.6, by site.
- `noise`: Rician noise of 1, 2, 3.5 or 5 % of the bright tissue, by site.
- `bias`: a smooth field of up to 10, 20, 30 or 40 %, the same for all of a site's people.
- `scanner`: all three.
- `elderly`: the people sorted by age, so that the last site holds the oldest. Training people are 19 to 34, so "oldest"
  is relative; the test people up to 83 years old are what the training people are not.
- `unequal`: one, two, four and nine training people at the four sites.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

SITES = ("site0", "site1", "site2", "site3")
EFFECTS = ("none", "contrast", "noise", "bias", "scanner", "elderly", "unequal")

_GAMMAS = (0.6, 0.8, 1.25, 1.6)
_NOISES = (0.01, 0.02, 0.035, 0.05)
_BIASES = (0.1, 0.2, 0.3, 0.4)
_COUNTS = (1, 2, 4, 9)
#: Streams of random numbers that must not be the same.
_NOISE, _BIAS = 1, 2


@dataclass(frozen=True)
class Person:
    """A row of subjects.csv, with whole paths. Test people have no site."""

    subject: str
    site: str
    split: str
    age: str
    image: Path
    label: Path


@dataclass(frozen=True)
class Scanner:
    """How a site's images differ; a gamma of 1 and strengths of 0 change nothing."""

    gamma: float = 1.0
    noise: float = 0.0
    bias: float = 0.0


def scanner(effect: str, site: str) -> Scanner:
    """Return the scanner of a site under an effect."""
    index = SITES.index(site)
    return Scanner(
        _GAMMAS[index] if effect in ("contrast", "scanner") else 1.0,
        _NOISES[index] if effect in ("noise", "scanner") else 0.0,
        _BIASES[index] if effect in ("bias", "scanner") else 0.0,
    )


def assigned(people: Sequence[Person], effect: str) -> list[Person]:
    """Give the training people to the sites as the effect wants; the others stay where they are."""
    train = [person for person in people if person.split == "train"]
    rest = [person for person in people if person.split != "train"]
    if effect == "elderly":
        train = sorted(train, key=lambda person: (int(person.age), person.subject))
        return [
            replace(person, site=SITES[place * len(SITES) // len(train)]) for place, person in enumerate(train)
        ] + rest
    if effect == "unequal":
        shares = [round(len(train) * sum(_COUNTS[:end]) / sum(_COUNTS)) for end in range(1, len(SITES) + 1)]
        return [
            replace(person, site=SITES[int(np.searchsorted(shares, place, side="right"))])
            for place, person in enumerate(train)
        ] + rest
    return [*train, *rest]


def changed(person: Person, effect: str, folder: Path) -> Person:
    """Write a training person's image as the site's scanner would have made it, and return the person with it."""
    if person.split != "train" or scanner(effect, person.site) == Scanner():
        return person
    image = nibabel.load(person.image)
    voxels = np.asarray(image.dataobj, dtype=np.float32)
    # Not compressed: it is read once and goes.
    path = folder / f"{person.subject}.nii"
    seen = scanned(voxels, scanner(effect, person.site), SITES.index(person.site), int(person.subject))
    nibabel.save(nibabel.Nifti1Image(np.rint(seen).astype(np.int16), image.affine), path)
    return replace(person, image=path)


def scanned(image: np.ndarray, how: Scanner, site: int, person: int) -> np.ndarray:
    """Return the image that a site's scanner would have made: contrast, then bias field, then noise.

    Parameters
    ----------
    image : ndarray of float32
        Background 0, which stays 0: these images are skull-stripped.
    how : Scanner
        What it does.
    site, person : int
        Seeds of the field and of the noise.

    Returns
    -------
    ndarray of float32
        In the image's own units.
    """
    head = image > 0
    bright = float(np.quantile(image[head], 0.98))
    values = bright * (np.clip(image, 0, None) / bright) ** how.gamma
    if how.bias:
        values *= 1 + how.bias * _field(image.shape, np.random.default_rng([_BIAS, site]))
    if how.noise:
        draw = np.random.default_rng([_NOISE, person])
        real, imaginary = draw.normal(0, how.noise * bright, (2, *image.shape)).astype(np.float32)
        values = np.hypot(values + real, imaginary)
    return np.where(head, np.maximum(values, 1.0), 0.0).astype(np.float32)


def _field(shape: tuple[int, ...], draw: np.random.Generator) -> np.ndarray:
    """Return a smooth field whose largest absolute value is 1."""
    knots = draw.uniform(-1, 1, (4, 4, 4)).astype(np.float32)
    field = ndimage.zoom(knots, np.array(shape) / 4, order=3, mode="nearest", grid_mode=True)
    return field / np.abs(field).max()
