"""Checks of the values that are more than a choice or a number: each returns the clean one, or says what was wanted."""

from __future__ import annotations

import re
from typing import Any

from computation.checks import is_digest, is_number

__all__ = [
    "check_classes",
    "check_csv",
    "check_device",
    "check_files",
    "check_initial",
    "check_patch",
    "check_wandb",
    "check_weights",
]


def check_classes(value: Any) -> tuple[str, ...]:
    """Return label names."""
    names = tuple(value) if isinstance(value, list | tuple) else ()
    clean = all(isinstance(name, str) and 0 < len(name) <= 64 and name.isprintable() for name in names)
    if not clean or not 2 <= len(names) <= 256 or len(set(names)) != len(names):
        raise ValueError("a list of 2 to 256 different label names, the first of which is the background")
    return names


def check_initial(value: Any) -> str:
    """Return a model's digest, or an empty text."""
    if value == "" or is_digest(value):
        return str(value)
    raise ValueError("the digest in an exported model's JSON, 64 hexadecimal digits, or an empty text")


def check_patch(value: Any) -> tuple[int, int, int]:
    """Return the sides of a sub-volume, of which one may stand for all three."""
    sides = (value,) * 3 if is_number(value) else tuple(value) if isinstance(value, list | tuple) else ()
    if len(sides) == 3 and all(is_number(side) and side == int(side) and 0 <= side <= 1024 for side in sides):
        clean = (int(sides[0]), int(sides[1]), int(sides[2]))
        if clean == (0, 0, 0) or min(clean) >= 4:
            return clean
    raise ValueError("one side or three sides of 4 to 1024 voxels, or 0 for the whole volume")


def check_weights(value: Any) -> tuple[float, ...]:
    """Return a weight for each class, or none."""
    weights = tuple(value) if isinstance(value, list | tuple) else (None,)
    if all(is_number(weight) and 0 <= weight <= 1000 for weight in weights) and (not weights or sum(weights) > 0):
        return tuple(float(weight) for weight in weights)
    raise ValueError("a list with one weight from 0 to 1000 for each class, or an empty list for equal weights")


def check_files(value: Any) -> tuple[str, ...]:
    """Return names of files."""
    names = tuple(value) if isinstance(value, list | tuple) else ()
    if all(isinstance(name, str) and name and "\0" not in name for name in names) and isinstance(value, list | tuple):
        return names
    raise ValueError("a list of file names")


def check_csv(value: Any) -> tuple[str, ...]:
    """Return names of files, sorted, from what COINSTAC makes of a CSV file."""
    if isinstance(value, dict) and all(isinstance(name, str) and name and "\0" not in name for name in value):
        return tuple(sorted(value))
    raise ValueError("an object whose keys are file names, as COINSTAC makes it from a CSV file")


_DEVICE = re.compile(r"auto|cpu|cuda(:(0|[1-9][0-9]?))?")


def check_device(value: Any) -> str:
    """Return a device's name, which may stand in an object, as COINSTAC sends it."""
    name = value.get("device", "") if isinstance(value, dict) else value
    if isinstance(name, str) and _DEVICE.fullmatch(name):
        return name
    raise ValueError('"auto", "cpu", "cuda" or "cuda:N"')


def check_wandb(value: Any) -> dict[str, str]:
    """Return what Weights & Biases is to be told of a run."""
    allowed = ("project", "entity", "name", "group", "mode", "api_key")
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError(f"an object of texts with any of {', '.join(allowed)}, or an empty object for off")
    unknown = sorted(set(value) - set(allowed))
    if unknown or value.get("mode", "offline") not in ("offline", "online"):
        raise ValueError(f"an object with any of {', '.join(allowed)}; mode is offline or online")
    return dict(value)
