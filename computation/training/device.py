"""Where tensors live: choosing the device, computing reproducibly on it, and saying plainly when it is full.

What a GPU computes with is decided here and nowhere else:

=========================  =====  =====================================================================================
flag                       value  why
=========================  =====  =====================================================================================
cuDNN deterministic        on     a site that is restarted must compute the bits of the unbroken run
cuDNN benchmark (trials)   off    trials choose a kernel by its time, so the choice, and the bits, differ between starts
TF32                       off    `float32` means float32; who wants speed sets `bfloat16`, and every site then has it
bfloat16 autocast          asked  convolutions in bfloat16, weights, statistics, loss and gradients' sums in float32
float16                    never  its range needs a gradient scaler, whose state would differ between sites
=========================  =====  =====================================================================================

`torch.use_deterministic_algorithms` stays off: only cuDNN's convolutions have a choice on this path, and it would fill
all new memory. Two kinds of GPU may still differ in the last bits of a gradient. That never parts the models: every
site applies the one combined vector that it is sent, in NumPy.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch

from computation.errors import DeviceError

__all__ = ["Choice", "arithmetic", "autocast", "choose", "computing", "decide"]

#: How memory that ran out reads where it is not an `OutOfMemoryError`: the CPU's allocator, and libraries on a GPU.
_FULL = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


@dataclass(frozen=True)
class Choice:
    """A device and how it was come by.

    Attributes
    ----------
    device : torch.device
        Where to compute.
    reason : str
        One line for the journal.
    fallback : bool
        Whether a GPU is there and yet the CPU computes, which nobody asked for.
    """

    device: torch.device
    reason: str
    fallback: bool = False


def choose(name: str) -> torch.device:
    """Return the device that a member's setting names; see `decide`."""
    return decide(name).device


def decide(name: str) -> Choice:
    """Find the device that a member's setting names, and try it.

    Parameters
    ----------
    name : str
        `auto` (a GPU if there is one that works), `cpu`, `cuda` or `cuda:N`.

    Returns
    -------
    Choice
        The device, and why it is this one.

    Raises
    ------
    DeviceError
        If there is no such name, or a GPU was asked for by name and is not there, or does not work.
    """
    if name == "cpu":
        return Choice(torch.device("cpu"), "cpu: set so")
    wanted = _gpu(name)
    obstacle, private = _obstacle(wanted)
    if not obstacle:
        found = torch.cuda.get_device_properties(wanted)
        return Choice(wanted, f"{wanted}: {found.name}, {found.total_memory / 2**30:.1f} GiB")
    if name == "auto":
        return Choice(torch.device("cpu"), f"cpu: {obstacle}", fallback=_count() > 0)
    raise DeviceError(f'the device {name!r} is not there: {obstacle}; set "device" to "auto"', private)


def _gpu(name: str) -> torch.device:
    try:
        device = torch.device("cuda:0" if name in ("auto", "cuda") else name)
    except RuntimeError:
        device = None
    if device is None or device.type != "cuda":
        raise DeviceError(f"there is no device {name[:40]!r}; wanted auto, cpu, cuda or cuda:N, such as cuda:1")
    return device


def _count() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _obstacle(device: torch.device) -> tuple[str, str]:
    """Say why a device cannot compute, publicly and privately; nothing if it can."""
    count = _count()
    if (device.index or 0) >= count:
        built = "" if torch.version.cuda or torch.version.hip else ", and PyTorch is built without CUDA"
        return f"this machine has {count} GPU{'' if count == 1 else 's'}{built}", ""
    try:
        torch.ones(1, device=device).add(1).item()
    except (RuntimeError, AssertionError) as error:
        # Too old for this PyTorch, taken by another process, or full: only an attempt tells.
        return f"GPU {device.index or 0} refuses to compute ({type(error).__name__})", str(error)
    return "", ""


def arithmetic(device: torch.device, precision: str) -> str:
    """Say in one line for the journal how a device computes.

    Parameters
    ----------
    device : torch.device
        From `choose`.
    precision : str
        `float32`, `bfloat16` or `float64`.
    """
    if device.type != "cuda":
        return "bfloat16 autocast, without the native kernels" if precision == "bfloat16" else precision
    with torch.cuda.device(device):
        emulated = precision == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False)
    asked = "bfloat16 autocast" + " (emulated by this GPU, slow)" * emulated if precision == "bfloat16" else precision
    return f"{asked}, TF32 off, cuDNN deterministic and without trials"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context in which a network computes: bfloat16 where asked for, else as it is.

    bfloat16 has float32's range, so gradients neither vanish nor overflow and no gradient scaler is needed.
    """
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


@contextmanager
def computing(device: torch.device) -> Iterator[None]:
    """Compute reproducibly, in the precision that was asked for; a full device becomes a `DeviceError`.

    The error holds none of the tensors of calls that ended with it, so the memory is free again when it is caught.

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
        # A traceback keeps the activations of the pass that failed alive, for as long as anybody holds the error.
        traceback.clear_frames(error.__traceback__)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        raise DeviceError(
            "the device ran out of memory; choose a smaller patch_size or batch_size, or a narrower model",
            str(error),
        ) from error


def _is_full(error: Exception) -> bool:
    """Tell whether memory ran out: on the CPU, PyTorch says so in a plain `RuntimeError` only."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in _FULL)
