"""`coinstac-meshnet export`: a model for other software."""

from __future__ import annotations

import argparse

from computation import terminal
from computation.commands import model as models
from computation.errors import ModelError
from computation.model.export_brainchop import save_brainchop
from computation.model.export_onnx import save_onnx
from computation.terminal import shown

__all__ = ["run"]


def run(options: argparse.Namespace) -> None:
    """Carry out `export`.

    Raises
    ------
    ModelError
        If nothing is asked for, or the model cannot be exported so.
    """
    if options.onnx is None and options.brainchop is None:
        raise ModelError("nothing to export to; add --onnx FILE or --brainchop FOLDER")
    console, model = terminal.console(), models.read(options.model)
    if options.onnx is not None:
        apart = save_onnx(options.onnx, model.network, model.metadata)
        console.print(f"[green]{shown(options.onnx)}[/]: ONNX Runtime's scores differ by {apart:.1e}")
        console.print(f"whoever runs it: {shown(model.preprocessing.as_json()['use'])}")
    if options.brainchop is not None:
        apart, cautions = save_brainchop(options.brainchop, model.network, model.metadata)
        console.print(f"[green]{shown(options.brainchop)}[/]: read back, its scores differ by {apart:.1e}")
        for caution in cautions:
            console.print(f"[yellow]{shown(caution)}")
