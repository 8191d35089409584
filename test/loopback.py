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

RUN = "simulatorRun"


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

    def folder(self, kind: str, client: str) -> Path:
        return self.root / kind / client / RUN

    def restart(self, client: str) -> None:
        """Forget everything a process would forget."""
        self.handlers[client] = self.make["remote" if client == "remote" else "local"]()

    def call(self, client: str, iteration: int, message: dict) -> dict:
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

    @staticmethod
    def _move(source: Path, target: Path) -> None:
        target.mkdir(parents=True, exist_ok=True)
        for file in source.iterdir():
            shutil.move(file, target / file.name)
