"""Where tensors live: choosing the device, computing reproducibly on it, and saying plainly when it is full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from computation.errors import DeviceError

__all__ = ["choose", "computing"]


def choose(name: str) -> torch.device:
    """Return the device that a member's setting names.

    Parameters
    ----------
    name : str
        `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.

    Raises
    ------
    DeviceError
        If it is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not count):
        return torch.device("cpu")
    wanted = torch.device("cuda:0" if name in ("auto", "cuda") else name)
    if wanted.type != "cuda" or (wanted.index or 0) >= count:
        raise DeviceError(f'the device {name!r} is not there: this machine has {count} GPUs; set "device" to "auto"')
    return wanted


@contextmanager
def computing(device: torch.device) -> Iterator[None]:
    """Compute reproducibly, in the precision that was asked for; a full device becomes a `DeviceError`.

    On a GPU this takes cuDNN's deterministic kernels, without trials, and no TF32.

    Raises
    ------
    DeviceError
        If memory runs out.
    """
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    try:
        with exact if device.type == "cuda" else nullcontext():
            yield
    except (MemoryError, RuntimeError) as error:
        if not _is_full(error):
            raise
        if device.type == "cuda":
            torch.cuda.empty_cache()
        raise DeviceError(
            "the device ran out of memory; choose a smaller patch_size or batch_size, or a narrower model",
            str(error),
        ) from error


def _is_full(error: Exception) -> bool:
    """Tell whether memory ran out: on the CPU, PyTorch says so in a plain `RuntimeError` only."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
