"""Volumes that no brain has: a sign that a model was given what it does not know.

The bounds leave room for everybody from two years to old age, for disease and for coarse voxels; only what lies far
outside is told. Twelve people of OASIS-1, 19 to 34 years old, have 0.73 to 0.95 litres of grey matter, 0.47 to 0.62 of
white and 1.22 to 1.54 of both. Normative values: Courchesne et al., Radiology 216, 2000 (19 months to 80 years);
Kruggel, NeuroImage 30, 2006 (502 healthy adults). At birth a brain has about 0.4 litres (Knickmeyer et al., Journal of
Neuroscience 28, 2008): it is told, in words that say so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["implausible"]

#: Millilitres of each tissue, by names of classes in small letters.
_BOUNDS: dict[str, tuple[float, float]] = {
    "white matter": (150, 950),
    "grey matter": (250, 1200),
}
_BRAIN = (500, 2200)

#: A field of view with a shorter side, in millimetres, need not hold a whole brain: the smallest are about as wide.
_SHORTEST = 110.0


def implausible(names: Sequence[str], ml: Sequence[float], view: Sequence[float]) -> tuple[str, ...]:
    """List volumes that no brain has.

    Only for models whose classes are grey and white matter among others, and only where a whole head is in view.

    Parameters
    ----------
    names : sequence of str
        Of the classes, the background first.
    ml : sequence of float
        Millilitres of each.
    view : sequence of float
        Millimetres that the scan covers along each axis.

    Returns
    -------
    tuple of str
        Sentences.
    """
    tissues = [_tissue(name) for name in names]
    if min(view) < _SHORTEST or not set(_BOUNDS) <= set(tissues):
        return ()
    volumes = {tissue: sum(v for t, v in zip(tissues, ml, strict=True) if t == tissue) for tissue in _BOUNDS}
    found = [_told(tissue, volume, *_BOUNDS[tissue]) for tissue, volume in volumes.items()]
    found.append(_told("grey and white matter together", sum(volumes.values()), *_BRAIN))
    return tuple(text for text in found if text)


def _tissue(name: str) -> str:
    """Return the tissue that a class belongs to; nothing for others, such as ventricles."""
    words = re.sub(r"[^a-z]+", " ", name.lower()).replace("gray", "grey")
    if "white matter" in words:
        return "white matter"
    cortex = "cortex" in words or words.startswith("ctx ")
    return "grey matter" if cortex or "grey matter" in words else ""


def _told(what: str, ml: float, low: float, high: float) -> str:
    if low <= ml <= high:
        return ""
    text = f"{ml / 1000:.2f} litres of {what}, where people of two years or more have {low / 1000:g} to {high / 1000:g}"
    return f"{text}; look at the labels before you use them"
