"""A stand-in computation that tries what a container must not let it do, and reports how far it came."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from computation.entry import address
from computation.server import Handler, run


def writes(folder: str) -> bool:
    """Whether a file can be made in a folder."""
    try:
        Path(folder, "__cx_try").write_bytes(b"")
        Path(folder, "__cx_try").unlink()
    except OSError:
        return False
    return True


def reaches(host: str, port: int) -> bool:
    """Whether a connection opens."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def has_way_out() -> bool:
    """Whether there is a default route, whatever may lie behind it."""
    routes = Path("/proc/net/route").read_text().splitlines()[1:]
    return any(route.split()[1] == "00000000" for route in routes)


def pry(data: dict[str, Any]) -> dict[str, Any]:
    """Report everything, and on the second call whether the addresses named by the centre can be reached."""
    state = data["state"]
    found = {
        "paths": state,
        "user": [os.getuid(), os.getgid()],
        "writes": {folder: writes(folder) for folder in ("/", "/opt", "/tmp", *map(str, folders(state)))},
        "inputs": sorted(path.name for path in Path("/input").iterdir()),
        "address": socket.gethostbyname(socket.gethostname()),
        "outside": reaches("1.1.1.1", 53) or has_way_out(),
        "others": [reaches(host, 8881) for host in data["input"].get("addresses", [])],
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }
    return {"output": found}


def folders(state: dict[str, Any]) -> list[Path]:
    """Return the folders that COINSTAC names."""
    return [Path(state[f"{kind}Directory"]) for kind in ("base", "output", "transfer", "cache")]


def gather(data: dict[str, Any]) -> dict[str, Any]:
    """Hand every site the addresses of all, then end with what they report."""
    reports = data["input"]
    centre = pry({"state": data["state"], "input": {}})["output"]
    addresses = [report["address"] for report in [*reports.values(), centre]]
    success = data["state"]["iteration"] == 2
    return {"output": {"addresses": addresses, "sites": reports, "centre": centre}, "success": success}


def load(mode: str) -> Handler:
    """Return the handler of a mode."""
    return pry if mode == "local" else gather


if __name__ == "__main__":
    host, port = address(os.environ)
    run(load, port, host=host)
