"""COINSTAC's message path in one process: real handlers, real files, no sockets. For laws that need many short runs.

It moves transfer files as the platform does (coinstac-platform.md, section 4) and passes every message through JSON.
A `between` hook sees the consortium before each call, to restart a node, tamper with it, or look at it.
"""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from computation import local, remote
from computation.wire.messages.seal import sealed
from computation.wire.signing import digest_of

RUN = "simulatorRun"


def sign_anew(origin, message, folder: Path):
    """Return a changed message with its sender's seal, over the files as they are in a folder now."""
    body = {name: value for name, value in message.items() if name not in ("files", "signature")}
    before = message.get("files") if isinstance(message.get("files"), dict) else {}
    files = before | {
        path.name: path.read_bytes()[152:184].hex().ljust(64, "0") for path in sorted(folder.glob("__cx_*.bin"))
    }
    phase = message.get("phase")
    charter = "" if phase in ("join", "plan") else origin.charter.digest
    try:
        signed = sealed(body, origin.key, origin.name, charter, files)
    except (ValueError, OverflowError, RecursionError):  # what is no JSON nobody can sign
        return message
    if phase == "join":
        origin.said = digest_of(signed)
    return signed


class Loopback:
    def __init__(self, root: Path, specs: dict[str, dict], databases: dict[str, Path], *, order_seed=None, **makers):
        self.root, self.order = root, random.Random(order_seed) if order_seed is not None else None
        self.specs = specs
        self.make = {
            "local": makers.get("make_local", local.create),
            "remote": makers.get("make_remote", remote.create),
        }
        self.handlers = {}
        for site in [*specs, "remote"]:
            for kind in ("input", "output", "transfer"):
                self.folder(kind, site).mkdir(parents=True, exist_ok=True)
            self.restart(site)
        for site, database in databases.items():
            shutil.copy(database, self.folder("input", site) / database.name)
        self.caches = {site: {} for site in self.handlers}
        self.log = []
        #: Nodes that lie: what is changed of theirs on the way they sign anew, files and all, as their owner could.
        self.liars: set[str] = set()

    def folder(self, kind: str, client: str) -> Path:
        return self.root / kind / client / RUN

    def restart(self, client: str) -> None:
        """Forget everything a process would forget."""
        self.handlers[client] = self.make["remote" if client == "remote" else "local"]()

    def call(self, client: str, iteration: int, message: dict) -> dict:
        if client == "remote":
            message = {site: self._signed(site, said) for site, said in message.items()}
        else:
            message = self._signed("remote", message)
        state = {
            "clientId": client,
            "iteration": iteration,
            **{
                f"{name}Directory": str(self.folder(kind, client))
                for name, kind in (("base", "input"), ("output", "output"), ("transfer", "transfer"))
            },
            "cacheDirectory": "/tmp",
        }
        data = json.loads(json.dumps({"input": message, "cache": self.caches[client], "state": state}))
        reply = json.loads(json.dumps(self.handlers[client](data), allow_nan=False))
        self.caches[client].update(reply.get("cache", {}))
        self.log.append((client, iteration, reply))
        return reply

    def run(self, between: Callable | None = None, most: int = 1000) -> dict:
        """Run to the centre's success and return its final output."""
        between = between or (lambda loop, client, iteration: None)
        messages = dict(self.specs)
        for iteration in range(1, most):
            outputs = {}
            for site in self.specs:
                between(self, site, iteration)
                outputs[site] = self.call(site, iteration, messages[site])["output"]
                self._move(self.folder("transfer", site), self.folder("input", "remote") / site)
            sites = list(outputs)
            if self.order:
                self.order.shuffle(sites)
            between(self, "remote", iteration)
            reply = self.call("remote", iteration, {site: outputs[site] for site in sites})
            final = reply.get("success", False)
            files = sorted(self.folder("transfer", "remote").iterdir())
            for site in self.specs:
                target = self.folder("output" if final else "input", site)
                for file in files:
                    shutil.copy(file, target / file.name)
            for file in files:
                file.unlink()
            if final:
                return reply["output"]
            messages = dict.fromkeys(self.specs, reply["output"])
        raise AssertionError("the run did not end")

    def _signed(self, sender: str, message):
        if sender not in self.liars or not isinstance(message, dict) or "phase" not in message:
            return message
        folder = self.folder("input", "remote") / sender
        if sender == "remote":
            folder = self.folder("input", next(iter(self.specs)))
        return sign_anew(self.handlers[sender]._run.origin, message, folder)

    @staticmethod
    def _move(source: Path, target: Path) -> None:
        target.mkdir(parents=True, exist_ok=True)
        for file in source.iterdir():
            shutil.move(file, target / file.name)
