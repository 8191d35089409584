"""Build the demo sites' scan databases: ``python -m sqlite_fixtures.build FOLDER``.

These are made from a template, not from people. Each subject is the MNI152 (ICBM 2009a, symmetric) T1 with its grey and
white matter maps, which nilearn ships, moved by a seeded smooth deformation; each site adds its own contrast (gamma),
bias field, noise and intensity scale. What the demo learns is therefore real anatomy of one average brain, and its
Dice says that the software works, not how well MeshNet segments patients.

The databases are equal to the byte whenever they are built with the same arguments and versions on the same machine.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from computation.errors import ImportScanError
from computation.scans.making import images, labels
from computation.scans.making.stripped import is_stripped
from computation.scans.store import geometry, normalise, writer
from computation.scans.store.provenance import versions
from computation.scans.store.records import SPLITS, affine_of

__all__ = ["Site", "Subjects", "Template", "build", "load_template", "site_of"]

_LABELS = "gwm-white1-grey2"

#: Largest displacement, in millimetres, and how smooth it is: heads differ by centimetres over centimetres.
_SHIFT_MM, _SMOOTH_MM = 6.0, 24.0

#: Field of view along each axis, in millimetres; the template's head fits with room for its deformation.
_VIEW_MM = 216.0

#: Streams of random numbers that must not be the same.
_SITE, _SUBJECT = 1, 2


@dataclass(frozen=True)
class Subjects:
    """How many subjects a site has in each part of the split."""

    train: int = 8
    valid: int = 2
    test: int = 1


@dataclass(frozen=True)
class Site:
    """How a site's scanner differs from the others'.

    Attributes
    ----------
    gamma : float
        Exponent of the contrast.
    noise : float
        Standard deviation of Rician noise, as a share of the brightest tissue.
    bias : float
        Strength of the bias field: 0.2 is +-20 %.
    scale : float
        Brightest tissue, in the scanner's units.
    """

    gamma: float
    noise: float
    bias: float
    scale: float


@dataclass(frozen=True, eq=False)
class Template:
    """The template at 1 mm: intensity and tissue probabilities from 0 to 1, and their affine."""

    t1: NDArray[np.float32]
    white: NDArray[np.float32]
    grey: NDArray[np.float32]
    affine: NDArray[np.float64]


def build(
    folder: Path | str,
    *,
    sites: int = 2,
    subjects: Subjects = Subjects(),
    spacing_mm: float = 3.0,
    seed: int = 20,
) -> list[Path]:
    """Write one database a site.

    Parameters
    ----------
    folder : Path
        ``local<k>/simulatorRun/site.db`` is written under it, which is where the COINSTAC simulator looks.
    sites : int
        Number of sites.
    subjects : Subjects
        Subjects of each site.
    spacing_mm : float
        Voxel size; the field of view stays 216 mm, so 3 mm gives 72 voxels a side.
    seed : int
        Of everything.

    Returns
    -------
    list of Path
        The databases, by site.
    """
    template = _antialiased(load_template(), spacing_mm)
    return [_build_site(Path(folder), template, site, subjects, spacing_mm, seed) for site in range(sites)]


def load_template() -> Template:
    """Read the template out of the nilearn package; nothing is downloaded.

    Raises
    ------
    ImportScanError
        If nilearn is not installed, or its template is not where it was.
    """
    # Found but not imported: that would take longer than everything else here.
    spec = importlib.util.find_spec("nilearn")
    if spec is None or spec.origin is None:
        raise ImportScanError("the demo needs the nilearn package; install this software with its `demo` extra")
    folder = Path(spec.origin).parent / "datasets" / "data"
    names = (f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz" for kind in ("t1", "wm", "gm"))
    maps = [images.load(folder / name) for name in names]
    t1, white, grey = (np.asarray(one.dataobj, np.float32) / np.float32(255) for one in maps)
    return Template(t1, white, grey, np.asarray(maps[0].affine, np.float64))


def site_of(index: int, seed: int) -> Site:
    """Draw a site's scanner."""
    generator = np.random.default_rng([seed, _SITE, index])
    # Neighbouring sites get opposite contrasts, so that even two of them differ visibly.
    low, high = (0.7, 0.85) if index % 2 == 0 else (1.2, 1.4)
    return Site(
        gamma=float(generator.uniform(low, high)),
        noise=float(generator.uniform(0.01, 0.03)),
        bias=float(generator.uniform(0.05, 0.2)),
        scale=float(np.rint(generator.uniform(300, 3000))),
    )


def _build_site(folder: Path, template: Template, index: int, subjects: Subjects, spacing_mm: float, seed: int) -> Path:
    path = folder / f"local{index}" / "simulatorRun" / "site.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [part for part, count in zip(SPLITS, astuple(subjects), strict=True) for _ in range(count)]
    with writer.create(path, _header(seed, spacing_mm)) as out:
        for entry in _entries(template, index, parts, spacing_mm, seed):
            out.add(entry)
    return path


def _header(seed: int, spacing_mm: float) -> writer.Header:
    chosen = labels.named(_LABELS)
    made = {
        "made": "from the MNI152 template, not from people",
        "versions": {**versions(), "nilearn": version("nilearn")},
    }
    return writer.Header(
        label_set=chosen.name,
        label_names=chosen.names,
        label_colours=chosen.colours,
        normalisation="quantile",
        split={"by": "construction"},
        provenance={**made, "parameters": {"seed": seed, "spacing_mm": spacing_mm}},
    )


def _entries(template: Template, index: int, parts: list[str], spacing_mm: float, seed: int) -> Iterator[writer.Entry]:
    side = round(_VIEW_MM / spacing_mm)
    affine = geometry.rescaled(template.affine, template.t1.shape, (spacing_mm,) * 3, (side,) * 3)
    site = site_of(index, seed)
    for number, part in enumerate(parts):
        generator = np.random.default_rng([seed, _SUBJECT, index, number])
        t1, white, grey = _deformed(template, affine, side, spacing_mm, generator)
        label = np.stack([1 - white - grey, white, grey]).argmax(axis=0).astype(np.uint8)
        stored, slope = images.storable(_scanned(t1, site, spacing_mm, generator))
        low, high = (slope * value for value in normalise.constants(stored, "quantile"))
        name = f"template-{index}-{number:02d}"
        known = is_stripped(stored, (spacing_mm,) * 3, label)
        yield writer.Entry(name, "", part, affine_of(affine.tolist()), low, high, stored, label, slope, stripped=known)


def _antialiased(template: Template, spacing_mm: float) -> Template:
    """Blur the template as a scanner with larger voxels would; see `conform` for the source of the formula."""
    sigma = np.sqrt(max(0.0, spacing_mm**2 - 1) / (8 * np.log(2)))
    t1, white, grey = (ndimage.gaussian_filter(one, sigma) for one in (template.t1, template.white, template.grey))
    return Template(t1, white, grey, template.affine)


def _deformed(
    template: Template, affine: NDArray[np.float64], side: int, spacing_mm: float, generator: np.random.Generator
) -> list[NDArray[np.float32]]:
    """Read the three maps at smoothly displaced places of the new grid."""
    steps = np.linalg.solve(template.affine, affine)
    grid = np.indices((side,) * 3, np.float32)
    places = np.empty_like(grid)
    for axis in range(3):
        # The template has 1 mm voxels, so millimetres are voxels.
        places[axis] = steps[axis, axis] * grid[axis] + steps[axis, 3]
        places[axis] += _SHIFT_MM * _smooth_noise(side, spacing_mm, generator)
    maps = (template.t1, template.white, template.grey)
    return [ndimage.map_coordinates(one, places, order=1, prefilter=False) for one in maps]


def _smooth_noise(side: int, spacing_mm: float, generator: np.random.Generator) -> NDArray[np.float32]:
    """Draw a smooth field whose largest value is 1."""
    field = ndimage.gaussian_filter(generator.standard_normal((side,) * 3, np.float32), _SMOOTH_MM / spacing_mm)
    return np.asarray(field / np.abs(field).max(), np.float32)


def _scanned(t1: NDArray[Any], site: Site, spacing_mm: float, generator: np.random.Generator) -> NDArray[Any]:
    """Give a head the site's contrast, bias field and Rician noise; outside the head stays exactly 0."""
    head = t1 > 0.02
    signal = np.clip(t1, 0, 1) ** site.gamma * (1 + site.bias * _smooth_noise(len(t1), spacing_mm, generator))
    real, imaginary = (site.noise * generator.standard_normal(t1.shape, np.float32) for _ in range(2))
    magnitude = np.hypot(signal + real, imaginary)
    return np.where(head, np.maximum(np.rint(magnitude * site.scale), 1), 0).astype(np.float32)


def main() -> None:
    """Build the demo databases from the command line."""
    parser = argparse.ArgumentParser(description="Build demo scan databases from the MNI152 template.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sites", type=int, default=2)
    parser.add_argument("--spacing", type=float, default=3.0, help="voxel size in mm")
    parser.add_argument("--seed", type=int, default=20)
    arguments = parser.parse_args()
    for path in build(arguments.folder, sites=arguments.sites, spacing_mm=arguments.spacing, seed=arguments.seed):
        print(path)


if __name__ == "__main__":
    main()
