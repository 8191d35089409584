"""Nodes that are processes of their own: they average, outlive one that is killed, and count what really travels."""

import csv
import hashlib
import json
import signal
import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
import waiting

pytest.importorskip("libp2p", reason="THE SWARM IS NOT TESTED: its extra is not installed")

from station import Station, content

from computation.cli import main
from computation.tracking import journal
from computation.wire.payload import PREFIX

ROOT = Path(__file__).parents[3]
until = partial(waiting.until, seconds=200.0)


@pytest.fixture
def stations(tmp_path):
    """Begin stations, each joining the first, and end them."""
    found = []

    def begin(count, *join, join_first=True):
        for _ in range(count):
            first = [found[0].address] if found and join_first else []
            found.append(Station(tmp_path, f"n{len(found)}", *join, *first))
        return found

    yield begin
    for one in found:
        one.kill()


def all_met(stations):
    until(lambda: all(len(one.ask("peers")) == len(stations) for one in stations))


def digest(seed, size):
    return hashlib.sha256(content(seed, size)).hexdigest()


def test_what_is_announced_is_fetched_from_process_to_process(stations):
    three = stations(3)
    all_met(three)
    for one in three[1:]:
        one.begin("fetch", 60.0)
    until(lambda: three[0].ask("announce", 1, 386_000, "a"))
    for one in three[1:]:
        assert one.answer()[0] == digest(1, 386_000)


def test_o26_a_provider_killed_after_one_re_provide_is_still_served_and_before_is_named_as_gone(stations):
    four = stations(4)
    all_met(four)
    first, provider, holder, late = four
    kept, lost = (provider.ask("put", seed, 386_000) for seed in (1, 2))
    assert holder.ask("get", kept, 60.0)[0] == digest(1, 386_000)
    provider.kill()
    assert late.ask("get", kept, 60.0)[0] == digest(1, 386_000)
    found, seconds = first.ask("get", lost, 3.0)
    assert found is None and seconds < 10.0  # nobody hangs
    assert first.ask("get", kept, 60.0)[0] == digest(1, 386_000)


class Proxy:
    """Passes bytes on between whoever connects and one address, and counts them."""

    def __init__(self, address):
        self.target = int(address.split("/")[4])
        self.listener = socket.create_server(("127.0.0.1", 0))
        port = self.listener.getsockname()[1]
        self.address = address.replace(f"/tcp/{self.target}/", f"/tcp/{port}/")
        self.sent, self.ends = {"in": 0, "out": 0}, []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                caller, _ = self.listener.accept()
            except OSError:
                return
            called = socket.create_connection(("127.0.0.1", self.target))
            self.ends += [caller, called]
            for one, other, way in ((caller, called, "in"), (called, caller, "out")):
                threading.Thread(target=self._pass_on, args=(one, other, way), daemon=True).start()

    def _pass_on(self, one, other, way):
        try:
            while data := one.recv(65_536):
                self.sent[way] += len(data)
                other.sendall(data)
        except OSError:
            pass

    def close(self):
        for one in [self.listener, *self.ends]:
            one.close()


def test_o27_what_a_node_counts_is_what_an_independent_proxy_saw_and_two_nodes_get_nothing_twice(stations, tmp_path):
    (provider,) = stations(1)
    proxy = Proxy(provider.address)
    *_, other = stations(1, proxy.address, join_first=False)
    all_met([provider, other])
    address, size = provider.ask("put", 7, 3_000_000), 3_000_000
    before = dict(proxy.sent)
    assert other.ask("get", address, 90.0)[0] == digest(7, size)
    travelled = proxy.sent["out"] - before["out"]
    received, again = other.ask("counts")
    assert again == 0
    # The content is in seven blocks, the last of which lists the others, 56 bytes each and their sizes.
    assert size < received < size + 1000
    # Around it are frames, tags and addresses; the same content twice would be far more.
    assert received < travelled < 1.05 * received
    proxy.close()


def node(folder, name, *more):
    words = ["--key", folder / "key", "--data", folder / f"{name}.npz", "--output", folder / name, "--turns", "100000"]
    command = [sys.executable, "-m", "computation.cli", "swarm", "node", *words, "--slices", "--share-slices", *more]
    return subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.DEVNULL)


def mixed(folder, name):
    turns = [one for one in journal.read(folder / name / "journal.jsonl") if one["event"] == "turn"]
    return any(len(one["counted"]) == 2 and one["kept"] == 12 for one in turns)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_three_processes_average_and_each_leaves_a_model_a_page_and_measures(tmp_path):
    assert main(["swarm", "key", str(tmp_path / "key")]) == 0
    for place in range(3):
        share = ["--node", str(place), "--of", "3"]
        assert main(["swarm", "digits", str(tmp_path / f"n{place}.npz"), *share]) == 0
    began = [node(tmp_path, "n0")]
    try:
        address = tmp_path / "n0" / "address.txt"
        until(address.exists)
        began += [node(tmp_path, f"n{place}", "--join", address.read_text().strip()) for place in (1, 2)]
        until(lambda: any(mixed(tmp_path, f"n{place}") for place in range(3)))
        for one in began:
            one.send_signal(signal.SIGTERM)
        assert [one.wait(60.0) for one in began] == [0, 0, 0]
    finally:
        for one in began:
            one.kill()
    for place in range(3):
        folder = tmp_path / f"n{place}"
        result = json.loads((folder / "result.json").read_text())
        assert result["accuracy"] > 0.5 and result["maturity"] > 0 and result["averaged"] >= 0
        assert len((folder / "metrics.csv").read_text().splitlines()) > 2
        assert result["digest"][:12] in (folder / "index.html").read_text()
        assert (folder / f"{PREFIX}model").exists()


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_sizes_and_thresholds_are_compared_with_real_processes(tmp_path):
    words = ["--nodes", "4", "--sizes", "100", "--thresholds", "2", "--samples", "1200", "--processes", "30"]
    assert main(["swarm", "compare", *words, "--output", str(tmp_path / "rows.csv")]) == 0
    with (tmp_path / "rows.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["accuracy"]) > 0.3 and int(row["cycles"]) > 0
    assert int(row["averaged"]) > 0 and int(row["sent"]) > 100_000  # they exchanged models and slices
    assert 0 <= float(row["duplicates"]) < 1
