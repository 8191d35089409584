"""A service in real processes on loopback: `serve` as people start it, and sites as processes of their own.

Sites are forked from a process that has imported everything once, which takes seconds; so dozens of them can be
started, and killed, in one test.
"""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from computation import cli
from computation.isolation import variables
from service.client.address import Address
from service.client.backoff import Backoff
from service.client.bearer import Bearer
from service.client.credentials import Credentials
from service.client.link import Link
from service.place import Place

CLI = [sys.executable, str(Path(cli.__file__).resolve())]
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["computation.local", "service.client.joining", "service.command"])


class Service:
    """One data folder, the server on it, and its coordinator."""

    def __init__(self, folder: Path):
        self.folder, self.place, self.port, self.process = folder, Place(folder / "data"), 0, None
        self.accounts = self.place.accounts()
        self.accounts.add("coordinator", {"coordinator"}, "a long password of the tests")
        self.subjects, self.link = {}, None

    def start(self):
        """Start the server, on the port that it had before."""
        command = [*CLI, "serve", "--data", str(self.place.folder), "--port", str(self.port)]
        environment = {**os.environ, **variables(), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self.url = self.process.stdout.readline().split()[-1]
        self.port = int(self.url.rpartition(":")[2])
        self.link = self.link or self._logged_in()
        return self

    def _logged_in(self):
        refresh = self.place.local().login("coordinator", "a long password of the tests").refresh
        address = Address.parse(self.url)
        bearer = Bearer(address, lambda: Credentials(refresh=refresh))
        return Link(address, bearer, lambda: Backoff(random.Random(0), 60.0, first=0.05, most=0.5))

    def kill(self):
        """Kill the server; its worker dies with it."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """End the server as people do, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    @property
    def worker(self):
        """The worker's process id; 0 while there is none."""
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True).stdout.split()
        return int(found[0]) if found else 0

    def enrol(self, *sites):
        """Make accounts for sites, and files of their credentials."""
        for site in sites:
            account = self.accounts.add(site, {"site"})
            self.subjects[site] = account.sub
            path = self.credentials(site)
            path.touch(mode=0o600)
            path.write_text(json.dumps({"token": self.accounts.add_credential(account.sub, site)[1]}))

    def credentials(self, site):
        return self.folder / f"{site}.json"

    def invite(self, settings, *sites, **more):
        """Make a run and invite sites; they are called what their accounts are."""
        members = [{"subject": self.subjects[site], "site": site} for site in sites]
        spec = {"name": "tested", "settings": settings, "participants": members, "quorum": len(sites), **more}
        run = self.link.post("/v1/runs", spec)
        self.link.post(f"/v1/runs/{run['id']}/invite")
        return Run(self, run["id"], run["digest"])


class Run:
    """A run, as its coordinator sees it."""

    def __init__(self, service, id, digest):
        self.service, self.id, self.digest = service, id, digest
        self.at = f"/v1/runs/{id}"

    def join(self, site, data, *, prepare=None, given=()):
        """Start a site's process; `prepare` is called in it first."""
        output = self.service.folder / self.id / site
        output.mkdir(parents=True, exist_ok=True)
        arguments = ["join", self.service.url, "--data", str(data), "--output", str(output), "--run", self.id]
        arguments += ["--credentials", str(self.service.credentials(site)), "--consent", self.digest]
        arguments += ["--device", "cpu", *given]
        process = _PROCESSES.Process(target=_join, args=(arguments, output / "said.txt", prepare), daemon=True)
        process.start()
        return process

    def start(self):
        """Start as soon as all have accepted."""
        self.accepted(len(self.sites()))
        self.link.post(f"{self.at}/start")

    def accepted(self, sites):
        """Wait until so many have accepted."""
        while sum(one["state"] == "accepted" for one in self.sites()) < sites:
            time.sleep(0.05)

    @property
    def link(self):
        return self.service.link

    def sites(self):
        return [one for one in self.members() if one["role"] == "site"]

    def members(self):
        return self.link.get(f"{self.at}/members")["items"]

    def state(self):
        return self.link.get(self.at)

    def wait(self, step, *, seconds=60.0):
        """Wait until a step is over, and return what the centre answered to it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            told = self.link.get(f"{self.at}/rounds/{step}/result", seconds=5, wait=5) if self._reached(step) else {}
            if "message" in told:
                return told["message"]
            time.sleep(0.05)
        raise AssertionError(f"step {step} was not over in time: {self.state()}")

    def _reached(self, step):
        return self.link.get(f"{self.at}/round")["step"]["number"] >= step

    def end(self, *, seconds=90.0):
        """Wait until the run is completed, and return the centre's last message."""
        deadline = time.monotonic() + seconds
        while (state := self.state())["state"] in ("running", "paused"):
            assert time.monotonic() < deadline, state
            time.sleep(0.1)
        assert state["state"] == "completed", state
        return self.wait(state["step"])

    def digests(self, site):
        """Return the digest after each of a site's rounds, from its journal; a round that was done again is in it."""
        lines = (self.output(site) / "results" / "journal.jsonl").read_text().splitlines()
        rounds = [event for event in map(json.loads, lines) if event["event"] == "round"]
        found = {event["round"]: event["digest"] for event in rounds}
        assert all(found[event["round"]] == event["digest"] for event in rounds)
        return found

    def output(self, site):
        return self.service.folder / self.id / site

    def said(self, site):
        return (self.output(site) / "said.txt").read_text()


def _join(arguments, said, prepare):
    import torch

    torch.set_num_threads(1)
    with said.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if prepare is not None:
        prepare()
    sys.exit(cli.main(arguments))


def killing(step, moment):
    """Kill this process around the commit of a step, the way a machine dies."""
    from computation.coinstac.carried import Carried
    from service.client.journal import Journal
    from service.client.remote import RemoteRun

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    commit, keep, accept, call = RemoteRun.commit, Journal.keep, RemoteRun.accept, Carried.call

    def committed(self, answer, wait=0):
        if (answer.step, moment) == (step, "before its commit"):
            die()
        if (answer.step, moment) == (step, "after its commit"):
            commit(self, answer)
            die()
        return commit(self, answer, wait)

    def accepted(self, consent, answer):
        if (answer.step, moment) == (step, "before its commit"):
            die()
        accept(self, consent, answer)
        if (answer.step, moment) == (step, "after its commit"):
            die()

    def kept(self, answer):
        if (answer.step, moment) == (step, "before its answer is written down"):
            die()
        keep(self, answer)

    def called(self, iteration, *given, **named):
        if (iteration, moment) == (step + 1, "before it computes"):
            die()
        return call(self, iteration, *given, **named)

    RemoteRun.commit, RemoteRun.accept, Journal.keep, Carried.call = committed, accepted, kept, called


def slow(seconds):
    """Let every round take its time, so that something can happen in it."""
    from computation.training.trainer import Trainer

    batches = Trainer._batches

    def slowly(self, round):
        time.sleep(seconds)
        return batches(self, round)

    Trainer._batches = slowly


def by_url():
    """Let every file go and come by a signed URL, as those of large models do."""
    from service.client import remote

    remote._SENT_INLINE = remote._INLINE = 0
