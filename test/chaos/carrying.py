"""COINSTAC's message path in one process, and whatever a scenario does to it.

Handlers, files, checkpoints and the text of every message are the product's own; what is moved between folders is moved
as the platform does. A node that dies is started again and asked again, as the simulator does; a run that was stopped
may be gone on with from its last whole iteration, as `simulate --resume` does.
"""

import io
import json
import random
import shutil
import tarfile
import time
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from types import SimpleNamespace
from unittest.mock import patch

from chaos import null
from chaos.crash import Crash, armed
from chaos.scenario import CENTRE
from computation import remote
from computation.coinstac.server import Responder
from computation.federation import centre, site
from computation.tracking import journal

FILE = "__cx_contribution.bin"
#: Files that only grow, and of which a power cut may leave half of the last line.
GROWING = ("journal.jsonl", "metrics.csv", "run.log")


class Stopped(Exception):
    """The run has ended with a reason, which every site reads."""


class Platform:
    """One run of a scenario.

    Parameters
    ----------
    folder : Path
        Of the run and nothing else.
    scenario : Scenario
        Sites, settings and faults.
    databases : mapping of Path
        By site.
    inputs : mapping
        What a site is told at first.
    missing : mapping of str
        Why a site is left out, by (site, round): how the oracle repeats another run's course. Who was refused there
        loses its file here, and everybody else fails.
    """

    def __init__(self, folder, scenario, databases, inputs, missing=None):
        self.folder, self.scenario, self.inputs = folder, scenario, inputs
        self.dice = random.Random(f"{scenario.seed} on its way")
        failing = [one for one in scenario.faults if one.kind == "failed"]
        failed = {(one.client, one.iteration - 1) for one in failing}
        self.refused = {place for place, why in (missing or {}).items() if why.startswith("refused")}
        failed |= set(missing or {}) - self.refused
        self.make = {CENTRE: remote.create} | dict.fromkeys(scenario.sites, null.make(failed))
        self.clocks = dict.fromkeys((*scenario.sites, CENTRE), 0.0)
        self.nodes, self.caches, self.spent = {}, {}, set()
        self.said = dict.fromkeys(scenario.sites)
        self.verdicts, self.old, self.resumed = [], {}, 0
        for client in self.clocks:
            for kind in ("input", "output", "transfer"):
                self.at(kind, client).mkdir(parents=True)
            self.start(client)
        for name, path in databases.items():
            shutil.copy(path, self.at("input", name) / "site.db")
            (self.at("input", CENTRE) / name).mkdir()

    def at(self, kind, client):
        return self.folder / kind / client / "simulatorRun"

    def start(self, client):
        """Start a node, which knows nothing but what is in its folders; its clock is another."""
        make = self.make[client]
        self.nodes[client] = Responder(lambda mode: make())
        self.clocks[client] = self.dice.uniform(-1e6, 1e6)

    def run(self):
        """Return the centre's last message; raises `Stopped`."""
        with self._skewed():
            return self._run()

    def _run(self):
        messages = {name: json.dumps(self.inputs) for name in self.scenario.sites}
        iteration = 1
        while True:
            before = {name: dict(cache) for name, cache in self.caches.items()}
            try:
                reply = self._iterate(iteration, messages)
            except Stopped:
                if not self._goes_on(iteration):
                    raise
                self.caches = before
                for name in self.clocks:
                    self._clear(name)
                    self.start(name)
                continue
            if reply.get("success"):
                return reply["output"]
            messages = dict.fromkeys(self.scenario.sites, json.dumps(reply["output"]))
            self.verdicts.append(reply["output"])
            iteration += 1

    def _goes_on(self, iteration):
        """Somebody has made room on the disk, and resumes."""
        made_room = any(self.scenario.at(name, iteration, "full-resumed") for name in self.clocks)
        self.resumed += made_room
        return made_room and self.resumed < 10

    def _iterate(self, iteration, messages):
        answers = {}
        for name in self.scenario.sites:
            self._damage_arrivals(name, iteration)
            text = self._damage_text(name, iteration, messages[name], "message-from-centre")
            answer = self._call(name, iteration, text)["output"]
            answers[name] = self._on_its_way(name, iteration, json.dumps(answer))
            self._deliver(name, iteration)
            if (name, answer.get("round")) in self.refused:
                (self.at("input", CENTRE) / name / FILE).unlink(missing_ok=True)
        order = list(answers)
        self.dice.shuffle(order)
        gathered = "{" + ",".join(f"{json.dumps(name)}:{answers[name]}" for name in order) + "}"
        reply = self._call(CENTRE, iteration, gathered)
        files = sorted(self.at("transfer", CENTRE).iterdir())
        for name in self.scenario.sites:
            for file in files:
                shutil.copy(file, self.at("output" if reply.get("success") else "input", name) / file.name)
        self._clear(CENTRE)
        return reply

    # --- a node is called, dies, and is called again ---------------------------------------------------------------

    def _call(self, client, iteration, text):
        for fault in self.scenario.at(client, iteration, "kill-before", "kill", "torn", "kill-after", "again"):
            if fault in self.spent:
                continue
            self.spent.add(fault)
            if fault.kind == "kill-before":
                self.start(client)
                continue
            lengths = self._lengths(client)
            crash = self._crash("kill" if fault.kind in ("kill", "torn") else "none", fault.number, client)
            self._ask(client, iteration, text, crash)
            if fault.kind == "torn":
                self._tear(client, lengths, fault.number)
            if fault.kind != "again" or iteration == 1:  # a process that lives takes no second run
                self.start(client)
            self._clear(client)
        full = [one for one in self.scenario.at(client, iteration, "full", "full-resumed") if one not in self.spent]
        self.spent.update(full[:1])
        crash = self._crash("full" if full else "none", full[0].number if full else 0, client)
        reply = self._ask(client, iteration, text, crash)
        if reply is None or reply["type"] == "stderr":
            raise Stopped(f"{client}: {reply['data'] if reply else 'died'}")
        self.caches[client] = {**self.caches.get(client, {}), **reply["data"].get("cache", {})}
        return reply["data"]

    def _crash(self, kind, number, client):
        return Crash(kind, number, [str(self.at(folder, client)) for folder in ("input", "output", "transfer")])

    def _ask(self, client, iteration, text, crash):
        """Return a node's reply; None if it died over the call."""
        places = {"base": "input", "output": "output", "transfer": "transfer"}
        state = {f"{name}Directory": str(self.at(folder, client)) for name, folder in places.items()}
        state |= {"clientId": client, "iteration": iteration, "cacheDirectory": "/tmp"}
        rest = json.dumps({"cache": self.caches.get(client, {}), "state": state})
        mode = "remote" if client == CENTRE else "local"
        request = f'{{"mode":"{mode}","data":{{"input":{text},{rest[1:]}}}'
        try:
            with armed(crash):
                self._clock = self.clocks[client]
                reply = json.loads(self.nodes[client](request))
        except BaseException:
            if not crash.struck:
                raise
            reply = None
        return None if crash.struck and crash.kind == "kill" else reply

    def _clear(self, client):
        for path in self.at("transfer", client).iterdir():
            path.unlink()

    def _lengths(self, client):
        return {name: self._length(client, name) for name in GROWING}

    def _length(self, client, name):
        path = self.at("output", client) / name
        return path.stat().st_size if path.exists() else 0

    def _tear(self, client, lengths, number):
        """Leave only a part of what a call has appended to a file."""
        for name, before in lengths.items():
            path, after = self.at("output", client) / name, self._length(client, name)
            if before < after:
                with path.open("r+b") as file:
                    file.truncate(before + number * (after - before) // 24)

    # --- what was sent is damaged on its way -----------------------------------------------------------------------

    def _on_its_way(self, name, iteration, text):
        if self.scenario.at(name, iteration, "stale-message") and self.said[name]:
            text, self.said[name] = self.said[name], text
            return text
        self.said[name] = text
        return self._damage_text(name, iteration, text, "garbled", "cut")

    def _damage_text(self, name, iteration, text, *kinds):
        """Return a message that is still JSON, as what carries it sees to, but not what was said."""
        for fault in self.scenario.at(name, iteration, *kinds):
            said = json.loads(text)
            field = sorted(said)[fault.number % len(said)]
            if fault.kind == "cut":
                del said[field]
            else:
                said[field] = [None, "?", -1, [], {}, 1e300][fault.number % 6]
            text = json.dumps(said)
        return text

    def _deliver(self, name, iteration):
        """Move what a site has sent to the centre."""
        source, target = self.at("transfer", name), self.at("input", CENTRE) / name
        packed = self.scenario.at(name, iteration, "packed")
        if packed and any(source.iterdir()):
            _pack(source, target / f"run-{name}-tempOutput.tar.gz.0")
            self._clear(name)
            return
        before = {path.name: path.read_bytes() for path in target.iterdir()}
        for path in list(source.iterdir()):
            shutil.move(path, target / path.name)
        for fault in self.scenario.at(name, iteration, "lost", "truncated", "flipped", "longer", "emptied"):
            _damage(target / FILE, fault)
        if self.scenario.at(name, iteration, "stale") and FILE in before:
            (target / FILE).write_bytes(before[FILE])
        if self.scenario.at(name, iteration, "another's"):
            for other in self.scenario.sites:
                there = self.at("input", CENTRE) / other / FILE
                if other != name and there.exists():
                    shutil.copy(there, target / FILE)

    def _damage_arrivals(self, name, iteration):
        for fault in self.scenario.at(name, iteration, "file-from-centre"):
            for path in self.at("input", name).glob("__cx_*.bin"):
                _damage(path, fault)

    # --- clocks -------------------------------------------------------------------------------------------------------

    def _skewed(self):
        """Give every node clocks of its own: of the wall, and the one that never goes back, until a restart."""
        run = self

        class Skewed(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.now(tz) + timedelta(seconds=run._clock)

        clock = SimpleNamespace(monotonic=lambda: time.monotonic() + run._clock)
        return replaced((journal, "datetime", Skewed), (centre, "time", clock), (site, "time", clock))


@contextmanager
def replaced(*what):
    """Let names of modules stand for other values inside."""
    with ExitStack() as stack:
        for module, name, value in what:
            stack.enter_context(patch.object(module, name, value))
        yield


def _damage(path, fault):
    if not path.exists():
        return
    content = bytearray(path.read_bytes())
    place = fault.number * len(content) // 24
    if fault.kind == "lost":
        path.unlink()
        return
    if fault.kind == "truncated":
        del content[place:]
    elif fault.kind == "emptied":
        content.clear()
    elif fault.kind == "longer":
        content += content[:place]
    elif content:
        content[place] ^= 1 << fault.number % 8
    path.unlink()
    path.write_bytes(content)


def _pack(source, target):
    with tarfile.open(target, "w:gz") as archive:
        for path in sorted(source.iterdir()):
            content = path.read_bytes()
            member = tarfile.TarInfo(f"./{path.name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
