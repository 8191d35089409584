"""`coinstac-meshnet swarm ...` where no network is needed, and the rooms behind it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from computation.cli import main
from computation.errors import PeersError
from peers.protocols.swarm import Swarm
from peers.slices import Kind
from peers.swarm import data, models
from peers.swarm.comparing import cohort, measured
from peers.swarm.store import Store

ROOT = Path(__file__).parents[3]


def test_the_command_is_light_and_says_which_extra_is_missing(monkeypatch, capsys):
    code = "import sys, peers.swarm.command; sys.exit(any(name in sys.modules for name in ('torch', 'libp2p', 'trio')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words = ["swarm", "node", "--key", "k", "--data", "d", "--output", "o"]
    assert main(words) == 2
    assert "pip install coinstac-meshnet[swarm]" in " ".join(capsys.readouterr().err.split())


def test_a_key_is_new_private_and_never_replaced(tmp_path):
    assert main(["swarm", "key", str(tmp_path / "key")]) == 0
    assert (tmp_path / "key").stat().st_mode & 0o77 == 0
    assert len(bytes.fromhex((tmp_path / "key").read_text().strip())) == 32
    assert main(["swarm", "key", str(tmp_path / "key")]) == 2


def test_shares_of_the_trial_data_are_parts_of_one_set(tmp_path):
    for node in range(3):
        words = ["--node", str(node), "--of", "3", "--samples", "31"]
        assert main(["swarm", "digits", str(tmp_path / f"{node}.npz"), *words]) == 0
    found = [data.read(tmp_path / f"{node}.npz", 4) for node in range(3)]
    assert [len(one.slices) for one in found] == [3, 3, 3]
    assert all(one.held_out[0].equal(found[0].held_out[0]) for one in found)
    assert main(["swarm", "digits", str(tmp_path / "x.npz"), "--node", "3", "--of", "3"]) == 2


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"inputs": np.zeros((2, 3), np.float32), "targets": np.zeros(3, int)},
        {"inputs": np.zeros((2, 3), np.float32), "targets": np.zeros(2)},
        {"inputs": np.array([object()] * 2), "targets": np.zeros(2, int)},
    ],
)
def test_data_of_another_form_are_refused(tmp_path, arrays):
    held = {"held_inputs": np.zeros((1, 3), np.float32), "held_targets": np.zeros(1, int)} if arrays else {}
    np.savez(tmp_path / "d.npz", **arrays, **held)
    with pytest.raises(PeersError):
        data.read(tmp_path / "d.npz", 2)


def test_models_are_the_same_at_all_nodes_and_fit_the_data():
    kind = Kind((8, 8), 10)
    for name in models.MODELS:
        first, second = (models.built(name, kind, 3).state_dict() for _ in range(2))
        assert all(first[key].equal(second[key]) for key in first)
    for name, other in (("giant", kind), ("convolutional", Kind((5,), 3)), ("linear", Kind((5,), 1))):
        with pytest.raises(PeersError):
            models.built(name, other, 0)


def test_a_store_has_bounds_and_what_is_pinned_stays(tmp_path):
    store = Store(tmp_path, 1000)
    for place in range(30):
        store.put(bytes([place]), bytes(100), pinned=place < 5)
    assert store.size == 1000
    assert {bytes([place]) for place in range(5)} <= set(store.cids())
    assert sum(path.stat().st_size for path in tmp_path.glob("*.block")) == 1000
    with pytest.raises(PeersError, match="no room"):
        store.put(b"big", bytes(600))
    assert store.put(bytes([0]), bytes(100))
    assert Store(tmp_path, 1000).size == store.size
    store.drop(bytes([0]))
    assert not store.has(bytes([0]))


def test_the_least_used_block_of_others_goes_first(tmp_path):
    store = Store(tmp_path, 300)
    for place in range(3):
        store.put(bytes([place]), bytes(100))
    store.get(bytes([0]))
    store.put(b"new", bytes(100))
    assert store.has(bytes([0])) and not store.has(bytes([1]))


def test_a_swarm_of_six_is_as_good_as_one_node_with_all_the_data():
    parts = [data.digits(900, node, 6) for node in range(6)]
    together = measured(cohort(parts, 50, 25, "linear", 0), 50, Swarm(share=True), 0)
    alone = measured(cohort([data.digits(900, 0, 1)], 50, 25, "linear", 0), 50, Swarm(), 0)
    assert together.accuracy > alone.accuracy - 0.03
    assert 0 < together.duplicates < 1
    assert together.averaged > 0 == alone.averaged
    assert together.resilience >= 1
    assert alone.sent == 0


def test_compare_prints_a_table_and_writes_it(tmp_path, capsys):
    words = ["--nodes", "3", "--samples", "120", "--sizes", "20", "--thresholds", "1,0", "--turns", "4"]
    assert main(["swarm", "compare", *words, "--output", str(tmp_path / "c.csv")]) == 0
    assert len((tmp_path / "c.csv").read_text().splitlines()) == 3
    assert "accur" in capsys.readouterr().out
    assert main(["swarm", "compare", "--sizes", "ten"]) == 2


def test_a_feed_is_begun_gone_on_with_and_read(tmp_path, capsys):
    pytest.importorskip("cryptography")
    from peers.swarm.entry import parsed
    from peers.swarm.feed import Log, Ticket

    (tmp_path / "seed").write_bytes(bytes(range(32)))
    state = tmp_path / "state.json"
    assert main(["swarm", "feed", str(state), "--new", "private", "--seed", str(tmp_path / "seed")]) == 0
    ticket = Ticket.parsed(capsys.readouterr().out)
    for place in range(3):
        (tmp_path / f"{place}").write_bytes(b"warm %d" % place)
        assert main(["swarm", "feed", str(state), str(tmp_path / f"{place}")]) == 0
    log = Log([ticket.author], tmp_path / "feed")
    assert [ticket.read(parsed(blob)) for blob in log.entries(ticket.author)] == [b"warm %d" % n for n in range(3)]
    assert main(["swarm", "feed", str(state), "--new", "private", "--seed", str(tmp_path / "seed")]) == 2
    assert main(["swarm", "feed", str(tmp_path / "none")]) == 2
