"""The platform's provisioning container: one input file in, one run kit for each party out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from computation.errors import MeshNetError, unwritable
from neuroflame import contract, kits
from neuroflame.processes import exit_status
from neuroflame.words import say

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Provision a run.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command line; what the platform mounts by default.

    Returns
    -------
    int
        0, or 2 for what is wrong with the input.
    """
    parser = argparse.ArgumentParser(description="Provision a run on NeuroFLAME.")
    parser.add_argument(
        "--folder", type=Path, default=Path("/provisioning"), help="for runKits; default: /provisioning"
    )
    parser.add_argument("--input", type=Path, help="default: provision_input.json in the folder")
    options = parser.parse_args(arguments)
    return exit_status(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    consortium = contract.read(options.input or options.folder / "provision_input.json")
    _make(consortium, options.folder / "runKits")
    say(f"run kits for {len(consortium.names)} sites and the centre are made")
    return 0


def _make(consortium: contract.Consortium, folder: Path) -> None:
    try:
        kits.make(consortium, folder)
    except OSError as error:
        raise MeshNetError(unwritable("provisioning"), str(error)) from error
