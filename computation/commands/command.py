"""What the commands accept. Their code, and PyTorch with it, is imported only when one of them runs."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["add_commands"]

_MODEL = "JSON of an exported model, or its folder (the best model there)"
_DEVICE = "auto, cpu, cuda or cuda:N"


def add_commands(commands: Any) -> None:
    """Register `predict`, `evaluate`, `train`, `disclose` and `export` among the sub-commands of an argument parser."""
    for name, (text, declare) in _COMMANDS.items():
        parser = commands.add_parser(name, help=text, description=text)
        declare(parser)
        parser.set_defaults(run=_later(name))


def _later(name: str) -> Callable[[argparse.Namespace], int | None]:
    def run(options: argparse.Namespace) -> int | None:
        status: int | None = importlib.import_module(f"computation.commands.{name}").run(options)
        return status

    return run


def _predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help=_MODEL)
    parser.add_argument("scans", type=Path, nargs="+", metavar="scan.nii.gz", help="T1 images; any format of nibabel")
    parser.add_argument("--output", type=Path, default=Path("predictions"), help="folder for everything")
    parser.add_argument("--flips", action="store_true", help="average with the mirrored scan; takes twice as long")
    parser.add_argument("--tile", type=_side, metavar="N", help="side of the tiles in voxels; default: the model's own")
    parser.add_argument("--device", default="auto", help=_DEVICE)
    parser.add_argument("--no-figure", action="store_true", help="draw no PNG")


def _side(text: str) -> int:
    side = int(text) if text.isdecimal() else 0
    if not 4 <= side <= 1024:
        raise argparse.ArgumentTypeError(f"wanted a whole number from 4 to 1024, found {text!r}")
    return side


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("subject", type=Path, metavar="MODEL|PREDICTION", help=f"{_MODEL}; or a label map")
    parser.add_argument("truth", type=Path, metavar="site.db|TRUTH", help="a scan database; or the true label map")
    splits = ("train", "valid", "test", "all")
    parser.add_argument("--split", choices=splits, help="which scans of the database; default: test")
    parser.add_argument("--labels", metavar="SET[:SOURCE]", help="label set that turns the true values into classes")
    parser.add_argument("--flips", action="store_true", help="average with the mirrored scan")
    parser.add_argument("--device", default="auto", help=_DEVICE)
    parser.add_argument("--csv", type=Path, default=None, help="write every scan and class here")


def _train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("db", type=Path, metavar="site.db", help="a scan database, made by `import`")
    parser.add_argument("--output", type=Path, default=Path("run-alone"), help="folder for everything the run writes")
    parser.add_argument(
        "--setting",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting as JSON, such as epochs=20 or patch_size=[64,64,64]; `settings` lists them",
    )
    from simulator.changes import add_options

    add_options(parser)


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help=_MODEL)
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="write ONNX; needs the `export` extra")
    parser.add_argument("--brainchop", type=Path, metavar="FOLDER", help="write what brainchop loads in a browser")


def _disclose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN", help="a run's folder, or the output folder of one node")
    parser.add_argument("--csv", type=Path, default=None, help="write every line here")


_COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "predict": ("label raw scans with an exported model: labels in each scan's own space, volumes, a figure", _predict),
    "evaluate": (
        "Dice, Hausdorff distance and volumes per class: of a model on a database, or of a label map",
        _evaluate,
    ),
    "train": ("train a model on one scan database, alone", _train),
    "disclose": ("list every field and file that left a site or the centre, with sizes and how often", _disclose),
    "export": ("write an exported model as ONNX or for brainchop, each checked against the original", _export),
}
