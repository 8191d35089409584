"""COINSTAC's `compspec.json`, generated from the settings so that form and check can never disagree.

The shape follows what COINSTAC 6.9.8 validates when a computation is registered (its Joi schema and GraphQL input), and
what its desktop app renders: members get only input types whose editor keeps what was typed.
"""

from __future__ import annotations

from typing import Any

from computation import __version__
from computation.settings import Member, Option, Settings, options

__all__ = ["IMAGE", "compspec", "inputspec"]

#: Name of the image, without a tag: the platform pulls `:latest`, and lists only names that start with "coinstac".
IMAGE = "coinstacteam/coinstac-meshnet"

_COMMAND = ["python", "/opt/application/computation/entry.py"]


def compspec() -> dict[str, Any]:
    """Return the computation's specification as plain JSON."""
    container = {"type": "docker", "dockerImage": IMAGE, "command": _COMMAND}
    return {
        "meta": {
            "id": "coinstac-meshnet",
            "name": "MeshNet: federated brain segmentation",
            "version": f"v{__version__}",
            "repository": "https://github.com/trendscenter/coinstac-meshnet",
            "description": "Trains one MeshNet on the labelled MRI of several sites; the scans never leave them.",
            "compspecVersion": 2,
            "tags": ["deep learning", "segmentation", "structural MRI"],
        },
        "computation": {
            **container,
            "remote": container,
            "input": _inputs(),
            "output": _outputs(),
            "display": [{"type": "iframe"}, {"type": "table"}],
        },
    }


def inputspec() -> list[dict[str, Any]]:
    """Return a ready two-site run over the demo databases, for coinstac-simulator and for our own."""
    site = {
        "data": {"value": ["site.db"]},
        "model": {"value": "meshnet-10x5"},
        "epochs": {"value": 75},
        "validate_every": {"value": 100},
        "seed": {"value": 1},
        # The demo's people are made from a template, and a site has two of them to validate on.
        "min_scans": {"value": 1},
    }
    return [site, site]


def _inputs() -> dict[str, Any]:
    specs: dict[str, Any] = {}
    for source, record in (("member", Member), ("owner", Settings)):
        for name, (default, option) in options(record).items():
            specs[name] = _input(name, default, option, source, len(specs))
    return specs


#: Inputs without a default. The desktop app's mapping screen demands whatever has one, and its editors for objects and
#: CSV files lose or refuse what is typed there; without one these stay out of the form, for inputspec.json and vaults.
_UNASKED = ("data_csv", "device", "wandb")


def _input(name: str, default: Any, option: Option, source: str, order: int) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "label": name.replace("_", " ").capitalize(),
        "type": option.kind,
        "source": source,
        "order": order,
        "group": option.group,
        "tooltip": option.help,
    }
    if name not in _UNASKED:
        spec["default"] = _default(name, default)
    if option.kind == "select":
        spec["values"] = list(option.values)
    if option.kind == "files":
        spec |= {"items": ["Scan database"], "extensions": ["db", "sqlite", "json", "safetensors"]}
    if option.kind == "csv":
        spec |= {"items": ["string"], "extensions": ["csv"]}
    if option.low is not None:
        spec |= {"min": option.low, "max": option.high}
    return spec


def _default(name: str, default: Any) -> Any:
    """Return a default as the form holds it: a cubic patch as its one side, a tuple as a list."""
    if name == "patch_size":
        return default[0]
    return list(default) if isinstance(default, tuple) else default


def _outputs() -> dict[str, Any]:
    labels = {
        "rounds": ("number", "Rounds"),
        "stopped": ("string", "Why it ended before the planned rounds"),
        "describes": ("object", "Which model each number and the predictions are of"),
        "foreground_dice": ("number", "Foreground Dice, pooled validation"),
        "dice": ("object", "Dice of each class, pooled and per site"),
        "not_in_dice": ("object", "Sites that the pooled validation lacks"),
        "best_round": ("number", "Round of the best model"),
        "best_foreground_dice": ("number", "Foreground Dice of the best model"),
        "test_foreground_dice": ("number", "Foreground Dice, pooled test"),
        "test_dice": ("object", "Dice of each class, pooled test"),
        "not_in_test_dice": ("object", "Sites that the pooled test lacks in part"),
        "model": ("string", "Architecture"),
        "strategy": ("string", "Strategy"),
        "model_digest": ("string", "Digest of the final model"),
        "sites": ("object", "Sites"),
    }
    return {name: {"type": kind, "label": label} for name, (kind, label) in labels.items()}
