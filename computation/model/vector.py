"""Any network as one flat vector and back: parameters first, then the batch-norm statistics that travel.

Which statistics travel is a named policy, never an accident: `sync` puts the running means and variances behind the
parameters; `local` and `frozen` leave them out. The counter `num_batches_tracked` never travels.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from computation.errors import ModelError
from computation.model.shapes import check
from computation.wire.payload import Manifest, Vector

__all__ = [
    "POLICIES",
    "check",
    "gather",
    "gradient",
    "load_gradient",
    "manifest",
    "parameters",
    "parts",
    "scatter",
    "statistics",
]

POLICIES = ("sync", "local", "frozen")


def parameters(model: nn.Module) -> Manifest:
    """Return the manifest of what training changes."""
    return _manifest(model.named_parameters())


def statistics(model: nn.Module) -> Manifest:
    """Return the manifest of the batch-norm running means and variances; empty for other normalisations.

    Of a network that is no MeshNet: of all the floating-point buffers that its state holds.
    """
    kept = model.state_dict().keys()
    buffers = ((name, buffer) for name, buffer in model.named_buffers() if name in kept)
    return _manifest((name, buffer) for name, buffer in buffers if buffer.is_floating_point())


def manifest(model: nn.Module, policy: str) -> Manifest:
    """Return names and shapes of the vector that sites exchange, in order.

    Parameters
    ----------
    model : torch.nn.Module
        Any network of the architecture.
    policy : str
        `sync`, `local` or `frozen`: what happens to batch-norm statistics.

    Raises
    ------
    ModelError
        If the policy is not one of the three.
    """
    if policy not in POLICIES:
        raise ModelError(f"there is no batch-norm policy {policy[:40]!r}; wanted one of {', '.join(POLICIES)}")
    travelling = statistics(model).entries if policy == "sync" else ()
    return Manifest(parameters(model).entries + travelling)


def _manifest(tensors: Iterable[tuple[str, Tensor]]) -> Manifest:
    return Manifest(tuple((name, tuple(tensor.shape)) for name, tensor in tensors))


def parts(parameters: Manifest, travelling: Manifest) -> dict[str, slice]:
    """Return where the parameters are in a vector that travels, and behind them the statistics if it has some."""
    size, whole = parameters.size, travelling.size
    return {"parameters": slice(0, size), **({"statistics": slice(size, whole)} if whole > size else {})}


def gather(model: nn.Module, manifest: Manifest) -> Vector:
    """Copy a network's values into one flat vector of the network's dtype.

    Parameters
    ----------
    model : torch.nn.Module
        On any device.
    manifest : Manifest
        Which arrays, in which order.

    Returns
    -------
    numpy.ndarray
        Shape `(manifest.size,)`, read-only.
    """
    tensors = _tensors(model)
    return _flat([tensors[name] for name, _ in manifest.entries], model)


def gradient(model: nn.Module) -> Vector:
    """Copy the gradient of every parameter into one flat vector; a parameter without one counts as zero.

    Returns
    -------
    numpy.ndarray
        Shape `(parameters(model).size,)`, read-only, in the network's dtype.
    """
    grads = [torch.zeros_like(value) if value.grad is None else value.grad for value in model.parameters()]
    return _flat(grads, model)


def load_gradient(model: nn.Module, values: Vector) -> None:
    """Copy a flat gradient into the `grad` of every parameter that is trained; a frozen one gets none.

    Parameters
    ----------
    model : torch.nn.Module
        On any device; changed.
    values : numpy.ndarray
        Shape `(parameters(model).size,)`.
    """
    like = _like(model)
    joined = torch.from_numpy(np.array(values)).to(device=like.device, dtype=like.dtype)
    slices = parameters(model).slices
    for name, parameter in model.named_parameters():
        parameter.grad = joined[slices[name]].view(parameter.shape) if parameter.requires_grad else None


def _flat(tensors: list[Tensor], model: nn.Module) -> Vector:
    # One concatenation on the device and one copy off it: on a GPU every copy waits for the queue.
    pieces = [tensor.detach().reshape(-1) for tensor in tensors]
    joined = torch.cat(pieces) if pieces else _like(model).new_zeros(0)
    values: Vector = joined.detach().cpu().numpy()
    values.flags.writeable = False
    return values


@torch.no_grad()
def scatter(model: nn.Module, manifest: Manifest, values: Vector) -> None:
    """Copy a flat vector into a network, in place.

    Parameters
    ----------
    model : torch.nn.Module
        On any device; changed.
    manifest : Manifest
        What the vector holds.
    values : numpy.ndarray
        Shape `(manifest.size,)`.

    Raises
    ------
    ModelError
        If the vector has another length, or a running variance is negative; the network is then unchanged.
    """
    check(manifest, values)
    tensors = _tensors(model)
    # A copy: torch must not write into, nor warn about, an array that is read-only.
    joined = torch.from_numpy(np.array(values)).to(_like(model).device)
    for name, place in manifest.slices.items():
        tensors[name].copy_(joined[place].view(tensors[name].shape))


def _like(model: nn.Module) -> Tensor:
    """Return a tensor of the network's dtype, on its device."""
    return next(model.parameters())


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
