"""Where the processes of a run meet, read from what their launcher set, and checked before anything is waited for."""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from computation.errors import PeersError

__all__ = ["Place", "interface", "place", "reach"]

#: Seconds between two attempts to reach the master.
_AGAIN = 0.1
#: Linux's number for asking for an interface's address.
_INTERFACE_ADDRESS = 0x8915


@dataclass(frozen=True)
class Place:
    """Who this process is among the others, and where all meet.

    Attributes
    ----------
    rank, size : int
        Of this process, and how many there are.
    host, port : str, int
        Of the meeting point.
    hosted : bool
        Whether a launcher keeps it; else rank 0 does.
    attempt : str
        That a launcher which starts all again counts up.
    """

    rank: int
    size: int
    host: str
    port: int
    hosted: bool
    attempt: str

    @property
    def keeps(self) -> bool:
        """Whether this process keeps the meeting point."""
        return self.rank == 0 and not self.hosted


def place(peers: int, master: str, given: Mapping[str, str]) -> Place:
    """Read who this process is.

    Parameters
    ----------
    peers : int
        How many there are to be.
    master : str
        HOST:PORT, or nothing where the environment says it.
    given : mapping of str
        The environment: what torchrun sets, or what Slurm sets.

    Raises
    ------
    PeersError
        If it says nothing, contradicts itself, or there are not as many processes as peers.
    """
    ranks = next(
        (pair for pair in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")) if pair[0] in given), None
    )
    if ranks is None:
        raise PeersError(
            "nobody says which of the peers this process is: neither RANK and WORLD_SIZE nor SLURM_PROCID and "
            "SLURM_NTASKS are set; start it with `torchrun`, with `srun`, or with this package's own launcher"
        )
    rank, size = (_whole(name, given.get(name, "")) for name in ranks)
    if size != peers or not 0 <= rank < size:
        raise PeersError(
            f"this is process {rank} of {size} ({' and '.join(ranks)}), and there are {peers} peers; "
            "wanted one process for each, counted from 0"
        )
    host, port = _master(master, given)
    hosted = not master and given.get("TORCHELASTIC_USE_AGENT_STORE", "") == "True"
    return Place(rank, size, host, port, hosted, given.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise PeersError(f"{name} is {text!r}; wanted a whole number, as the launcher sets it")
    return int(text)


def _master(master: str, given: Mapping[str, str]) -> tuple[str, int]:
    """Return host and port of the meeting point."""
    if not master and not ("MASTER_ADDR" in given and "MASTER_PORT" in given):
        raise PeersError(
            "nobody says where the peers meet: MASTER_ADDR and MASTER_PORT are not set; give --master HOST:PORT, the "
            "address of the machine with rank 0 and a free port there"
        )
    host, _, port = master.rpartition(":") if master else (given["MASTER_ADDR"], "", given["MASTER_PORT"])
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise PeersError(f"the peers are to meet at {host}:{port}; wanted HOST:PORT, the port from 1 to 65535")
    return host.strip("[]"), int(port)


def interface(name: str, host: str) -> str:
    """Return the name of the network interface to use, or nothing where it cannot be told.

    Left to itself gloo takes the address that the machine's own name has, which may be a loopback one.

    Parameters
    ----------
    name : str
        As wanted, or nothing.
    host : str
        Of the meeting point: without a wish, it is the interface that leads there.

    Raises
    ------
    PeersError
        If there is none of that name.
    """
    present = [known for _, known in socket.if_nameindex()]
    if name and name not in present:
        raise PeersError(f"network interface {name} is unknown here; wanted one of {', '.join(present)}")
    if name:
        return name
    if _loopback(host):
        return next((known for known in present if known in ("lo", "lo0")), "")
    own = _address_towards(host)
    return next((known for known in present if own and _address_of(known) == own), "")


def _address_towards(host: str) -> bytes:
    """Return this machine's IPv4 address on the way to another, or nothing; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError:
            return b""
        return socket.inet_aton(probe.getsockname()[0])


def _address_of(interface: str) -> bytes:
    """Return an interface's IPv4 address, on Linux, or nothing."""
    if sys.platform != "linux":
        return b""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            found = fcntl.ioctl(any_socket.fileno(), _INTERFACE_ADDRESS, struct.pack("256s", interface.encode()[:15]))
        except OSError:  # it has none
            return b""
    return found[20:24]


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def reach(meeting: Place, first: str, seconds: float) -> None:
    """Wait until somebody answers at the meeting point.

    Parameters
    ----------
    meeting : Place
        Where that is.
    first : str
        Name of the peer with rank 0.
    seconds : float
        To wait at most.

    Raises
    ------
    PeersError
        If nobody does.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((meeting.host, meeting.port), max(deadline - time.monotonic(), _AGAIN)).close()
            return
        except OSError as error:
            if time.monotonic() >= deadline:
                keeper = "the launcher" if meeting.hosted else f"{first} (rank 0)"
                raise PeersError(
                    f"{keeper} does not answer at {meeting.host}:{meeting.port} after {seconds:g} seconds; wanted it "
                    "started, and that address to be the one of its machine, with no firewall between",
                    str(error),
                ) from error
            time.sleep(_AGAIN)
