"""Protocols by name: what each takes, and what is refused before anything has begun."""

import json

import numpy as np
import pytest

from computation.errors import PeersError
from peers import options
from peers.engines import virtual
from peers.options import Choice
from peers.protocols.gossip import Gossip
from peers.protocols.mixing import Mixing
from peers.protocols.push_sum import PushSum


@pytest.mark.parametrize("name", options.PROTOCOLS)
def test_each_protocol_can_be_made_and_runs_in_virtual_time(name):
    rule = Choice(name).rule()
    assert rule.needs <= options.ENGINES["virtual"] == virtual.OFFERS


def test_the_engines_carry_what_is_written_of_them():
    from peers.engines import torchrun

    assert options.ENGINES["torchrun"] == set(torchrun.OFFERS)


def test_zeromq_carries_what_is_written_of_it():
    pytest.importorskip("zmq", reason="THE MESH IS NOT TESTED: its extra is not installed")
    from peers.engines import zeromq

    assert options.ENGINES["zeromq"] == zeromq.OFFERS


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"protocol": "ring"}, "there is no protocol 'ring'; wanted one of gradient-mean"),
        ({"protocol": "gossip", "tau": 3}, "gossip takes no --tau"),
        ({"protocol": "push-sum", "mixing": "row"}, "push-sum takes column-stochastic mixing only, not row"),
        ({"protocol": "gossip", "graph": "star"}, "there is no graph 'star'"),
        ({"protocol": "gossip", "mixing": "doubly", "probability": 0.5}, "one kind only"),
        ({"protocol": "gossip", "mixing": "column"}, "wanted row or doubly, or push-sum"),
        ({"protocol": "gossip", "probability": 1.5}, "probability is 1.5; wanted a number from 0 to 1"),
        ({"protocol": "gossip", "noise": -1.0}, "noise is -1.0"),
        ({"protocol": "ring-broadcast", "tau": 0}, "tau is 0"),
        ({"protocol": "fedavg", "clients": 2.0}, "clients is 2.0"),
        ({"protocol": "fedavg", "clients": "many"}, "option clients is 'many'; wanted a number"),
        ({"protocol": "ring-broadcast", "tau": 2.5}, "option tau is 2.5"),
        ({"protocol": "gossip", "mixing": "row:nowhere.json"}, "the mixing matrix cannot be read"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, told):
    with pytest.raises(PeersError) as caught:
        Choice(**wrong).rule()
    assert told in caught.value.public


def test_a_matrix_comes_from_a_file_and_is_checked(tmp_path):
    path = tmp_path / "matrix.json"
    path.write_text(json.dumps([[0.5, 0.5], [0.25, 0.75]]))
    rule = Choice("gossip", mixing=f"row:{path}").rule()
    assert np.array_equal(rule.matrix, [[0.5, 0.5], [0.25, 0.75]])
    with pytest.raises(PeersError, match="column"):
        Choice("gossip", mixing=f"doubly:{path}").rule()
    for text in ("[[1, 2], [3]]", '{"a": 1}', "nothing", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(PeersError):
            Choice("gossip", mixing=f"row:{path}").rule()


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("gossip", Gossip(1.0)),
        ("gossip:probability=0.25", Gossip(0.25)),
        ("gossip:mixing=doubly,graph=ring", Mixing("doubly", "ring")),
        ("gossip:graph=ring", Mixing("doubly", "ring")),
        ("push-sum:graph=random", PushSum("random")),
    ],
)
def test_a_protocol_is_read_with_its_options(text, rule):
    assert Choice.read(text).rule() == rule


@pytest.mark.parametrize("text", ["", "gossip:speed=3", "gossip:probability", "gossip:=3", "gossip:protocol=fedavg"])
def test_what_is_no_protocol_with_options_is_refused(text):
    with pytest.raises(PeersError, match="no protocol"):
        Choice.read(text)
