"""What a machine has, found and not believed; what its owner gives of it is clipped to that, and told."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from computation.errors import PeersError
from peers.mesh.offers import DEVICES

__all__ = ["Machine", "given"]

_GIGABYTE = 1e9
#: What an owner who says nothing gives, as the report has it.
_MEMORY, _CORES = 8 * _GIGABYTE, 16
#: Less than this learns nothing.
_LEAST_MEMORY, _LEAST_DISK = 0.25 * _GIGABYTE, 0.05 * _GIGABYTE


@dataclass(frozen=True)
class Machine:
    """What is there.

    Attributes
    ----------
    device : str
        The best computing device.
    memory, disk : float
        Bytes.
    cores : int
    """

    device: str
    memory: float
    disk: float
    cores: int

    @classmethod
    def found(cls, folder: Path) -> Machine:
        """Look at this machine; its disk is that of a folder."""
        import torch

        cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
        memory = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cls("cuda" if cuda else "mps" if mps else "cpu", memory, float(shutil.disk_usage(folder).free), cores)


def given(
    machine: Machine,
    device: str = "",
    gigabytes: float | None = None,
    cores: int | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> Machine:
    """Return what an owner gives of a machine.

    Parameters
    ----------
    machine : Machine
        What it has.
    device : str
        Declared; what is not there becomes the CPU, and that is told.
    gigabytes, cores : float and int, optional
        8 and 16 by default; more than there is becomes what there is, and that is told.
    told : callable
        Hears of it.

    Raises
    ------
    PeersError
        If it is too little to learn anything, or there is no such kind of device.
    """
    if device not in ("", *DEVICES):
        raise PeersError(f"the device is {device[:20]!r}; wanted one of {', '.join(DEVICES)}")
    real = machine.device if device in ("", machine.device) else "cpu"
    if device and real != device:
        told(f"this machine has no {device}; it offers its CPU")
    memory = (
        _clipped(
            "GB of memory",
            (_MEMORY if gigabytes is None else gigabytes * _GIGABYTE) / _GIGABYTE,
            machine.memory / _GIGABYTE,
            told,
            gigabytes is not None,
        )
        * _GIGABYTE
    )
    count = _clipped("cores", _CORES if cores is None else cores, machine.cores, told, cores is not None)
    if memory < _LEAST_MEMORY or machine.disk < _LEAST_DISK or count < 1:
        raise PeersError(
            f"this node gives {memory / _GIGABYTE:.2f} GB of memory, {machine.disk / _GIGABYTE:.2f} GB of disk and "
            f"{count:g} cores; wanted {_LEAST_MEMORY / _GIGABYTE:g} GB, {_LEAST_DISK / _GIGABYTE:g} GB and 1 at least"
        )
    return Machine(real, memory, machine.disk, int(count))


def _clipped(what: str, wanted: float, there: float, told: Callable[[str], None], declared: bool) -> float:
    if wanted > there and declared:
        told(f"{wanted:g} {what} were declared and {there:.3g} are there; the node offers those")
    return min(wanted, there)
