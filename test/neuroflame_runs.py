"""Provisioned runs of small sites, and ways to hurt them: real processes, found and killed by their ids."""

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

from consortium import SHORT, database

from simulator import nvflare
from simulator.layout import CENTRE, Layout

#: Patience of tests; a busy machine's torch takes ten seconds and more to start.
LIMITS = ("--pulse", "1", "--silence", "10", "--start", "90", "--farewell", "10", "--joining", "150")

#: What a site says that was frozen while the run ended, or whose centre was.
WOKEN = (
    "the centre cannot be reached for 10 s",
    "the centre has not answered for 10 s",
    "the run was ended at the centre",
    "this site's job process has ended before the run did",
)


def inputs(root, sites=2):
    """Make the sites' databases and return their folder."""
    for index in range(sites):
        database(root / "in" / f"local{index}" / "simulatorRun/site.db", seed=index)
    return root / "in"


def spec(**changes):
    return {name: {"value": value} for name, value in {**SHORT, **changes}.items() if value is not None}


def run(root, sites=2, *, disturb=None, limits=(), ended=None, **changes):
    """Run a consortium; returns its result or the error, and its folders.

    The nodes' exit statuses come into `ended`, None for one that had to be killed in the end.
    """
    layout = Layout(root / "run")

    def begun(nodes):
        for client, node in nodes.items() if ended is not None else ():
            node.kill = partial(note_and_kill, client, node, node.kill, ended)
        if disturb:
            threading.Thread(target=disturb, args=(nodes, layout)).start()

    try:
        result = nvflare.run(
            spec(**changes),
            inputs=root / "in",
            output=layout.root,
            sites=sites,
            limits=(*LIMITS, *limits),
            disturb=begun,
        )
    except Exception as error:
        return error, layout
    return result, layout


def note_and_kill(client, node, kill, ended):
    ended[client] = node.status
    kill()


def hook(root, monkeypatch, text):
    """Have every process of the run do something first."""
    (root / "hook").mkdir()
    (root / "hook/sitecustomize.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(root / "hook"))


def said(layout, client):
    """Return the last line that a node's script said."""
    return (layout.log(client).read_text().splitlines() or [""])[-1]


def wait(condition, seconds=150):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)
    return found


def descendants(pid):
    """Return the ids and command lines of all processes that a process started."""
    parents, found, wanted = {}, {}, {pid}
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            try:
                parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
                parents[int(place.name)] = (parent, (place / "cmdline").read_bytes().decode(errors="replace"))
            except (OSError, IndexError):
                continue
    while True:
        more = {one: command for one, (parent, command) in parents.items() if parent in wanted and one not in found}
        if not more:
            return found
        found |= more
        wanted |= set(more)


def job_process(node):
    """Return the id of the job process that NVFlare started for a node, or None."""
    for pid, command in descendants(node.pid).items():
        if "worker_process" in command or "runner_process" in command:
            return pid
    return None


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def signal_all(node, number):
    """Send a signal to a node's script and everything under it at once, as to a container."""
    for pid in (node.pid, *descendants(node.pid)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def hold(nodes, client):
    """Freeze all of a node until the centre has ended."""
    signal_all(nodes[client], signal.SIGSTOP)
    try:
        wait(lambda: nodes[CENTRE].status is not None)
    finally:
        signal_all(nodes[client], signal.SIGCONT)


def kill_all(node):
    """End a node's script and everything under it at once, as a container's end does."""
    signal_all(node, signal.SIGKILL)


def rounds(layout, client="local0"):
    """Return how many rounds a site has written down."""
    path = layout.output(client) / "journal.jsonl"
    return (
        path.read_text().count('"event": "round"') + path.read_text().count('"event":"round"') if path.exists() else 0
    )
