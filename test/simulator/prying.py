"""A stand-in computation that tries what a container must not let it do, and reports how far it came."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from computation.coinstac.admission import TOKEN
from computation.coinstac.server import Handler, run
from computation.entry import address


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


def pry(data: dict[str, Any]) -> dict[str, Any]:
    """Report everything; the others can be tried on the second call, when the centre has told their addresses."""
    state = data["state"]
    found = {
        "paths": state,
        "user": [os.getuid(), os.getgid()],
        "writes": {folder: writes(folder) for folder in ("/", "/opt", "/tmp", *map(str, folders(state)))},
        "inputs": sorted(path.name for path in Path("/input").iterdir()),
        "address": socket.gethostbyname(socket.gethostname()),
        "outside": data["input"].get("outside"),
        "reaches_outside": "outside" in data["input"] and reaches(data["input"]["outside"], 8881),
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
    output = {"addresses": addresses, "outside": reports["local0"]["outside"], "sites": reports, "centre": centre}
    return {"output": output, "success": data["state"]["iteration"] == 2}


def load(mode: str) -> Handler:
    """Return the handler of a mode."""
    return pry if mode == "local" else gather


if __name__ == "__main__":
    host, port = address(os.environ)
    run(load, port, host=host, token=os.environ.get(TOKEN, ""))
