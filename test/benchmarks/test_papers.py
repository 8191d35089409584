"""The papers' experiments: network, shares, and that each kind of arm runs, on pictures made from a seed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.oasis import ledger
from benchmarks.papers import gossip, ring
from benchmarks.papers.__main__ import main
from benchmarks.papers.arms import ARMS
from benchmarks.papers.networks import gossip_network
from benchmarks.papers.pictures import made, stratified
from computation.model.network import parameter_count


def test_the_network_shrinks_28_to_2():
    convolutions = (3 * 25 + 1) * 64 + (64 * 25 + 1) * 128 + (128 * 9 + 1) * 64
    assert parameter_count(gossip_network(0)) == convolutions + (64 * 4 + 1) * 256 + 257 * 10


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 9))
def test_shares_of_each_class_differ_by_one_at_most_and_lose_nothing(labels, parts):
    labels = np.array(labels, np.int64)
    shares = stratified(labels, parts, 0) if len(labels) else []
    if shares:
        assert sorted(np.concatenate(shares).tolist()) == list(range(len(labels)))
        for label in np.unique(labels):
            sizes = [int((labels[share] == label).sum()) for share in shares]
            assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("name", ["centralised", "row-noise-0.1", "gosgd-shares", "fedavg"])
def test_an_arm_runs_and_ends_with_what_it_sent(name):
    train, test = made(40, 0)
    rows = gossip.Bench(ARMS[name], train, test, 1).run()
    assert [row["iteration"] for row in rows] == [1]
    assert all(math.isfinite(rows[0][key]) for key in ("train_loss", "test_loss", "accuracy", "distance"))
    assert rows[0]["messages"] > 0
    assert f"1 of {ARMS[name].paper}" in gossip.table([{key: str(value) for key, value in rows[0].items()}])


def test_arms_are_those_of_the_study():
    assert {arm.peers for name, arm in ARMS.items() if name not in ("centralised", "fedavg")} == {8}
    fedavg = ARMS["fedavg"]
    assert (fedavg.peers, fedavg.batch, fedavg.epochs, fedavg.rule(0).clients) == (100, 50, 5, 0.1)
    matrix = ARMS["row"].rule(0).matrix
    assert np.abs(matrix.sum(1) - 1).max() < 1e-12
    assert np.abs(matrix.sum(0) - 1).max() > 0.01


def test_speeds_are_against_one_worker():
    row = {"samples": "100", "collective": "ring", "batch": "8", "epochs": "1"}
    rows = [{**row, "workers": "1", "seconds": "3.0"}, {**row, "workers": "4", "seconds": "2.0"}]
    assert [line.split()[-4:] for line in ring.table(rows).splitlines()[1:]] == [
        ["3.00", "1.00", "4.6", "1.00"],
        ["2.00", "1.50", "3.4", "1.35"],
    ]


def test_a_swarm_and_one_node_with_all_of_it_are_in_one_table(tmp_path, capsys):
    words = ["swarm", "--out", str(tmp_path / "s.csv"), "--nodes", "3", "--turns", "4", "--made", "90", "--size", "10"]
    main(words)
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("swarm ", "one, "))]
    assert [row[0] for row in rows if row[-1] != "done"] == ["swarm", "one,", "one,"]
    arms = ledger.read(tmp_path / "s.csv")
    assert [(row["nodes"], row["turns"]) for row in arms] == [("3", "4"), ("1", "4"), ("1", "12")]
    assert int(arms[0]["sent"]) > 0 and int(arms[1]["sent"]) == 0
