"""Time of one round of the embedded service without training: server and worker as `serve` starts them, loopback.

Run: `.venv/bin/python -m benchmarks.service_round [--sites 4] [--rounds 200]`. A site is a thread without training:
it commits a contribution and waits for the result, as `join` does, in two requests a round. Everything else is the
product. A round is from one result to the next, at the first site. Prints one table and writes
benchmarks/results/service_round.csv.
"""

from __future__ import annotations

import argparse
import base64
import csv
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from computation.settings import Settings, parse
from computation.wire.messages import FinishOffer, JoinOffer, RoundOffer
from computation.wire.payload import CONTRIBUTION, HEADER_BYTES, Payload, encode
from service.place import Place

FILE = "__cx_contribution.bin"
SERVE = (
    "import sys; from pathlib import Path; from service.serving import Wanted, serve;"
    "serve(Wanted(Path(sys.argv[1]), port=0), lambda url: print(url, flush=True))"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--model", default="meshnet-10x5")
    options = parser.parse_args()
    rows = [measure(sites, options.model, options.rounds) for sites in options.sites]
    print(f"load average: {os.getloadavg()[0]:.1f}; {os.cpu_count()} cores; milliseconds a round, warm")
    print(" ".join(f"{name:>12}" for name in rows[0]))
    for row in rows:
        print(" ".join(f"{value:>12}" if isinstance(value, str) else f"{value:>12,.5g}" for value in row.values()))
    target = Path(__file__).parent / "results" / "service_round.csv"
    target.parent.mkdir(exist_ok=True)
    with target.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)


def measure(sites: int, model: str, rounds: int) -> dict[str, float | str]:
    """Run null sites over HTTP and return what their warm rounds took."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        accounts = Place(data).accounts()
        coordinator = accounts.add("coordinator", {"coordinator"}, "a long pass phrase of nobody")
        names = [f"local{index}" for index in range(sites)]
        subjects = {name: accounts.add(name, {"site"}).sub for name in names}
        tokens = {name: accounts.add_credential(sub, "bench")[1] for name, sub in subjects.items()}
        assert coordinator
        server = subprocess.Popen([sys.executable, "-c", SERVE, str(data)], stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout
            port = int(server.stdout.readline().rpartition(":")[2])
            return {**_measured(port, subjects, tokens, model, rounds), "model": model}
        finally:
            server.terminate()
            server.wait()


def _measured(
    port: int, subjects: dict[str, str], tokens: dict[str, str], model: str, rounds: int
) -> dict[str, float | str]:
    owner = Caller(port, "")
    owner.token = owner("POST", "/v1/auth/login", {"name": "coordinator", "password": "a long pass phrase of nobody"})[
        "access"
    ]
    spec = {
        "name": "bench",
        "settings": {"model": model, "epochs": rounds, "validate_every": 10 * rounds},
        "participants": [{"subject": subject, "site": name} for name, subject in subjects.items()],
    }
    run = owner("POST", "/v1/runs", spec)
    owner("POST", f"/v1/runs/{run['id']}/invite", {})
    made = [Null(Caller(port, tokens[name]), name, run["id"], spec["settings"]) for name in subjects]
    for one in made:
        one.accept(run["digest"])
    owner("POST", f"/v1/runs/{run['id']}/start", {})
    threads = [threading.Thread(target=one.go) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    warm = sorted(1e3 * seconds for seconds in np.diff(made[0].times)[10:-3])
    return {
        "sites": len(made),
        "values": made[0].size,
        "rounds": len(warm),
        "median_ms": statistics.median(warm),
        "p10_ms": warm[len(warm) // 10],
        "p95_ms": warm[95 * len(warm) // 100],
    }


class Caller:
    """One connection that stays."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self.token = token

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        if not self.token:
            del headers["Authorization"]
        self._connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status not in (200, 201):
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:500]!r}")
        return json.loads(content)


class Null:
    """A site that computes nothing."""

    def __init__(self, call: Caller, name: str, run: str, settings: dict[str, Any]) -> None:
        self._call, self._name, self._run, self._at = call, name, run, f"/v1/runs/{run}"
        self._settings: Settings = parse(settings)[0]
        self.times: list[float] = []
        self.size = 0

    def accept(self, digest: str) -> None:
        """Consent, with one scan."""
        none = {"valid": 0, "test": 0}
        scans = {"train": 1, **none}
        classes = self._settings.classes
        offer = JoinOffer(self._settings.as_json(), classes, scans, none, none, 1, {}, "cpu", {})
        self._call("POST", f"{self._at}/accept", {"consent": digest, "message": offer.as_json()})

    def go(self) -> None:
        """Go on to the end of the run."""
        number, manifest, message = 0, "", None
        values = np.zeros(0, "<f4")
        while True:
            result = self._call("GET", f"{self._at}/rounds/{number}/result?wait=20&inline=1048576")
            self.times.append(time.perf_counter())
            message, number = result["message"], number + 1
            if result["last"]:
                return
            if not manifest:
                manifest, payload = message["manifest"], result["files"][0]["size"]
                self.size = (payload - HEADER_BYTES) // 4
                values = np.random.default_rng(0).normal(size=self.size).astype("<f4")
            told, inline = self._answer(message, number, manifest, values)
            body = {"base": result["digest"], "message": told, "inline": inline}
            self._call("POST", f"{self._at}/rounds/{number}/updates", body)

    def _answer(self, message: dict[str, Any], number: int, manifest: str, values: Any) -> tuple[Any, dict[str, str]]:
        if "final" in message:
            return FinishOffer("done", message["final"]).as_json(), {}
        if message.get("last"):
            return FinishOffer("evaluated", message["model"]).as_json(), {}
        shapes: Any = SimpleNamespace(digest=manifest)
        item = Payload(CONTRIBUTION, number, shapes, values, message["model"], self._name, self._run)
        offer = RoundOffer(number, "ok", "", 1, 1.0, message["model"])
        return offer.as_json(), {FILE: base64.b64encode(encode(item)).decode()}


if __name__ == "__main__":
    main()
