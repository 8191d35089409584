"""The least computation that COINSTAC can run: the floor against which a real one's cost per round is measured.

Each site ships a file of random bytes and the centre ships one of the same size back, `rounds` times; the centre then
ends the run without files. Every file starts with its round. A site insists on it; the centre counts the files of an
earlier round (`stale`), because the platform leaves a site's archive unpacked when it overtakes the site's message,
which on one machine it does in most rounds that are shorter than some 20 ms. It shares no code with the product.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

NAME = "echo.bin"
KEPT: dict[str, int] = {}
STALE: list[str] = []
PAUSE: list[float] = []


def ship(state: dict[str, Any], size: int) -> None:
    """Write this round's file: its number in eight bytes, then random bytes, `size` in all."""
    content = int(state["iteration"]).to_bytes(8, "little") + os.urandom(max(0, size - 8))
    Path(state["transferDirectory"], NAME).write_bytes(content)


def arrived(file: Path, iteration: int, size: int) -> bool:
    """Whether `file` is the one shipped in `iteration`."""
    content = file.read_bytes() if file.exists() else b""
    return int.from_bytes(content[:8], "little") == iteration and len(content) == max(8, size)


def local(data: dict[str, Any]) -> dict[str, Any]:
    """A site's turn: keep the settings of the first call, check the centre's last file, ship one."""
    state, given = data["state"], data["input"]
    if state["iteration"] == 1:
        KEPT.update(rounds=int(given["rounds"]), size=int(given["size"]))
        PAUSE.append(float(given.get("seconds", 0)))
    elif not arrived(Path(state["baseDirectory"], NAME), state["iteration"] - 1, KEPT["size"]):
        raise ValueError("the centre's file is of another round or size")
    time.sleep(PAUSE[0])
    ship(state, KEPT["size"])
    return {"output": {"phase": "echo", **KEPT}}


def remote(data: dict[str, Any]) -> dict[str, Any]:
    """The centre's turn: check every site's file and ship one, or end the run."""
    state = data["state"]
    settings = next(iter(data["input"].values()))
    base, round_ = Path(state["baseDirectory"]), state["iteration"]
    STALE.extend(site for site in data["input"] if not arrived(base / site / NAME, round_, settings["size"]))
    if round_ == settings["rounds"]:
        return {"output": {"rounds": round_, "sites": len(data["input"]), "stale": len(STALE)}, "success": True}
    ship(state, settings["size"])
    return {"output": {"phase": "echo"}}


async def answer(connection: ServerConnection) -> None:
    """Serve one connection: nothing for a probe, one reply for a call."""
    try:
        call = json.loads(await connection.recv())
    except ConnectionClosed:
        return
    reply = {"type": "stdout", "data": {"local": local, "remote": remote}[call["mode"]](call["data"]), "end": True}
    await connection.send(json.dumps(reply))
    await connection.wait_closed()


async def main() -> None:
    """Serve until SIGTERM."""
    port = int(os.environ.get("COINSTAC_PORT", "8881"))
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with serve(answer, "0.0.0.0", port, max_size=None, ping_interval=None, compression=None):
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main())
