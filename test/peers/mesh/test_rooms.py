"""The mesh's parts by themselves: leases, places, slots, wishes, machines, letters, keys, figures."""

import random
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from computation.errors import MessageError, PeersError
from peers.mesh import letters, metrics, models
from peers.mesh.keys import Known, pair
from peers.mesh.machine import Machine
from peers.mesh.machine import given as lent
from peers.mesh.messages_pb2 import Node, PayloadMessage
from peers.mesh.node import Contact
from peers.mesh.offers import Criteria, Offer
from peers.mesh.place import Place, distance, refuted
from peers.mesh.registry import Registry
from peers.mesh.slot import Slot
from peers.mesh.wish import settled

ROOT = Path(__file__).parents[3]
WATERLOO, TEHRAN = Place(43.47, -80.54), Place(35.7, 51.4)


def offer(name, role="provider", **more):
    return Offer(name, "tcp://127.0.0.1:9", b"k" * 40, role, memory=8e9, cores=4, **more)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_4_12_an_entry_that_is_not_renewed_goes_with_its_lease_so_there_are_no_ghosts():
    clock = Clock()
    registry = Registry(lease=10.0, clock=clock)
    registry.renew(offer("a"))
    clock.now = 6.0
    registry.renew(offer("b"))
    clock.now = 9.0
    registry.renew(offer("a"))
    clock.now = 16.5
    assert [one.name for one in registry.offers()] == ["a"]
    assert registry.leave("a")
    assert not registry.leave("a")
    assert len(registry) == 0


def test_ten_thousand_registrations_are_flat_in_memory_however_often_they_are_renewed():
    clock, registry = Clock(), None
    registry = Registry(lease=1e6, clock=clock)
    offers = [offer(f"n{index}") for index in range(10_000)]
    for one in offers:
        registry.renew(one)
    tracemalloc.start()
    for _ in range(3):
        clock.now += 1
        for one in offers:
            registry.renew(one)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(registry) == 10_000
    assert grown < 4e6
    with pytest.raises(PeersError, match="10000 nodes here already"):
        full = Registry(most=10_000)
        for one in [*offers, offer("more")]:
            full.renew(one)


def test_the_nearest_that_fit_are_found_first_and_the_busy_not_at_all():
    registry = Registry()
    registry.renew(offer("far", place=TEHRAN))
    registry.renew(offer("near", place=WATERLOO))
    registry.renew(offer("nowhere"))
    registry.renew(offer("busy", place=WATERLOO, busy=True))
    registry.renew(offer("gpu", device="cuda", place=TEHRAN))
    here = Criteria(place=WATERLOO)
    assert [one.name for one in registry.find(here, 9)] == ["near", "far", "gpu", "nowhere"]
    assert [one.name for one in registry.find(Criteria(place=WATERLOO, kilometres=100.0), 9)] == ["near"]
    assert [one.name for one in registry.find(Criteria(device="cuda"), 9)] == ["gpu"]
    assert registry.find(Criteria(memory=9e9), 9) == ()
    assert registry.find(Criteria(cores=5), 9) == ()


def test_4_3_a_place_is_a_hint_that_a_quick_answer_refutes():
    assert distance(WATERLOO, TEHRAN) == pytest.approx(9_900, rel=0.02)
    assert distance(Place(0, 0), Place(0, 180)) == pytest.approx(np.pi * 6371)
    assert refuted(9_900, 0.001)
    assert not refuted(9_900, 0.2)
    assert not refuted(10, 0.5)
    for text in ("91,0", "x", "1,2,3", "nan,0"):
        with pytest.raises(PeersError, match="no place"):
            Place.read(text)


def test_4_21_a_thousand_races_have_one_winner_each():
    chance = random.Random(0)
    for _ in range(1000):
        slot, won, gate = Slot(), [], threading.Barrier(2)

        def race(name, slot=slot, won=won, gate=gate):
            gate.wait()
            if slot.take(name, name, 10.0) and slot.keep(name, name):
                won.append(name)

        names = ["one", "two"]
        chance.shuffle(names)
        threads = [threading.Thread(target=race, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1


def test_4_21_in_every_order_of_steps_one_wins_and_a_reservation_ends():
    for seed in range(1000):
        chance, clock = random.Random(seed), Clock()
        slot, began = Slot(clock), []
        steps = {name: ["take", "keep"] for name in ("one", "two", "three")}
        while any(steps.values()):
            name = chance.choice([name for name, left in steps.items() if left])
            step = steps[name].pop(0)
            if step == "take" and not slot.take(name, name, 10.0):
                steps[name] = []
            elif step == "keep" and slot.keep(name, name):
                began.append(name)
        assert len(began) == 1
        assert slot.busy
        assert not slot.keep(began[0], began[0])
        clock.now = 1e9
        assert slot.busy
        assert slot.free(began[0], began[0])
    clock = Clock()
    slot = Slot(clock)
    assert slot.take("one", "a", 10.0)
    clock.now = 10.0
    assert slot.take("two", "b", 10.0)
    assert not slot.keep("one", "a")
    assert not slot.free("one", "a")


@pytest.mark.parametrize(
    ("given", "name", "value", "told"),
    [
        ({}, "batch", 16, ""),
        ({"batch": 0}, "batch", 16, "16 is taken"),
        ({"batch": 10**9}, "batch", 16, "16 is taken"),
        ({"batch": "64"}, "batch", 64, ""),
        ({}, "rate", 0.001, ""),
        ({"rate": -1}, "rate", 0.001, "0.001 is taken"),
        ({"rate": 50}, "rate", 50.0, "unusually high"),
        ({"epochs": 2.9}, "epochs", 2, "2 are taken"),
        ({"epochs": 10**9}, "epochs", 1000, "1000 are taken"),
        ({"epochs": 0}, "epochs", 1, "1 are taken"),
        ({"device": "gpu"}, "device", "cuda", ""),
        ({"device": None}, "device", "", ""),
    ],
)
def test_4_6_to_4_10_a_wish_is_kept_clipped_or_replaced_and_told(given, name, value, told):
    heard = []
    assert getattr(settled(given, heard.append), name) == value
    assert bool(heard) == bool(told)
    assert told in "".join(heard)


@pytest.mark.parametrize(
    "wrong", [{"rate": 100}, {"rate": "fast"}, {"batch": float("nan")}, {"device": "abacus"}, {"configuration": [1]}]
)
def test_4_7_a_wish_that_can_only_be_a_mistake_is_refused(wrong):
    with pytest.raises(PeersError, match=r"wanted"):
        settled(wrong, lambda _: None)


def test_4_18_to_4_20_a_machine_is_described_truthfully():
    heard = []
    machine = Machine("cpu", 16e9, 1e11, 4)
    assert lent(machine, told=heard.append) == Machine("cpu", 8e9, 1e11, 4)
    assert heard == []
    assert lent(machine, "cuda", 64.0, 32, heard.append) == Machine("cpu", 16e9, 1e11, 4)
    assert ["no cuda" in heard[0], "64 GB" in heard[1], "32 cores" in heard[2]] == [True] * 3
    assert lent(Machine("cuda", 16e9, 1e11, 4), "cpu").device == "cpu"
    for wrong in ({"gigabytes": 0.01}, {"cores": 0}, {"device": "abacus"}):
        with pytest.raises(PeersError, match="wanted"):
            lent(machine, **wrong)
    with pytest.raises(PeersError, match="GB of disk"):
        lent(Machine("cpu", 16e9, 1e6, 4))


def test_models_are_counted_without_being_made_and_bounded():
    assert models.model("simple-cnn").parameters == 1_147_466  # the report's number
    assert models.model("resnet-18", '{"classes": 10}').parameters == 11_173_962
    assert models.model("unet").parameters > 8_600_000
    assert models.model("meshnet").parameters > 1000
    hundred_billion = models.model("simple-cnn", '{"side": 4096, "hidden": 4096}')
    assert hundred_billion.parameters > 1e11
    for wrong in (
        '{"side": "x"}',
        '{"side": 8.5}',
        '{"side": 1e99}',
        '{"code": 1}',
        "[",
        '{"hidden": -1}',
        '{"side": true}',
    ):
        with pytest.raises(PeersError):
            models.model("simple-cnn", wrong)
    with pytest.raises(PeersError, match="no model type"):
        models.model("__import__('os')")
    with pytest.raises(PeersError, match="cannot be found"):
        models.install("mine=nowhere:nothing")


@given(blob=st.binary(max_size=200))
def test_garbage_is_one_named_error(blob):
    with pytest.raises(MessageError):
        letters.read(blob, "node1")


def test_letters_are_of_their_sender_whole_and_of_one_kind():
    good = letters.letter("node1", "tcp://127.0.0.1:5", acknowledgement={"note": "x"})
    blob = good.SerializeToString()
    assert letters.read(blob, "node1").acknowledgement.note == "x"
    odd = PayloadMessage.FromString(blob)
    odd.payloadType = 6
    silent = PayloadMessage(id="x", senderId="node1", payloadType=13)
    nameless = PayloadMessage.FromString(blob)
    nameless.id = ""
    wrongs = [(one.SerializeToString(), "node1") for one in (odd, silent, nameless)]
    for wrong, sender in [*wrongs, (blob, "node2"), (blob + bytes(letters.LONGEST), "node1")]:
        with pytest.raises(MessageError):
            letters.read(wrong, sender)
    with pytest.raises(MessageError):
        letters.read(blob[:-3], "node1")


def test_the_field_numbers_are_the_reports():
    numbers = {field.name: field.number for field in PayloadMessage.DESCRIPTOR.fields}
    assert numbers == {
        "id": 1, "senderId": 2, "senderIpAddress": 3, "payloadType": 4, "discoveryRequest": 6, "discoveryResponse": 7,
        "registration": 8, "registrationResponse": 9, "taskRequest": 10, "taskResponse": 11,
        "modelStateDictParams": 12, "acknowledgement": 13,
    }  # fmt: skip


def test_the_generated_code_is_what_protoc_makes(tmp_path):
    pytest.importorskip("grpc_tools", reason="PROTOC IS NOT RUN: grpcio-tools is not installed")
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([*command, "peers/mesh/messages.proto"], cwd=ROOT, check=True)
    for name in ("messages_pb2.py", "messages_pb2.pyi"):
        assert (tmp_path / "peers/mesh" / name).read_bytes() == (ROOT / "peers/mesh" / name).read_bytes()


@pytest.mark.parametrize(
    "wrong",
    [{"id": "../x"}, {"address": "udp://x:1"}, {"address": "tcp://x:99999"}, {"key": b"short"}, {"role": "king"},
     {"device": "abacus"}, {"memory": float("inf")}, {"memory": -1.0}, {"cores": 1 << 20}],
)  # fmt: skip
def test_an_offer_that_cannot_be_is_refused(wrong):
    good = {**offer("a").node(), "id": "a"}
    assert Offer.read(Node(**good)) == offer("a")
    with pytest.raises(MessageError):
        Offer.read(Node(**{**good, **wrong}))


def test_keys_are_made_once_and_secrets_are_private(tmp_path):
    first = pair(tmp_path, "node1")
    assert pair(tmp_path, "node1") == first
    assert (tmp_path / "node1.secret").stat().st_mode & 0o077 == 0
    assert repr(first) == "Pair('node1')"
    known = Known(tmp_path)
    assert (known.name(first.public), known.name(b"x" * 40)) == ("node1", "")
    with pytest.raises(PeersError, match=r"known/node2\.key"):
        known.key("node2")
    for wrong in ("", "../x", "a" * 65, "a b"):
        with pytest.raises(PeersError, match="a node is named"):
            pair(tmp_path, wrong)


@pytest.mark.parametrize("text", ["x", "a@b", "a@b:0", "a@b:70000", "a@:5"])
def test_a_contact_that_is_none_is_refused(text):
    with pytest.raises(PeersError, match="wanted NAME@HOST:PORT"):
        Contact.read(text)


def test_figures_are_those_of_the_definitions():
    matrix = metrics.confusion([0, 0, 1, 1, 2, 2, 2, 2], [0, 1, 1, 1, 2, 2, 0, 2], 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 3]]
    found = metrics.figures(matrix, [(1.0, 6), (2.0, 2)], 3.0)
    assert found["accuracy"] == 6 / 8
    assert found["loss"] == 1.25
    assert found["precision"] == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)
    assert found["recall"] == pytest.approx((1 / 2 + 1 + 3 / 4) / 3)
    f1 = [0.5, 0.8, 6 / 7]
    assert found["f1"] == pytest.approx(sum(f1) / 3)
    assert found["dice"] == pytest.approx(sum(f1[1:]) / 2)
    nothing = metrics.figures(np.zeros((2, 2), np.int64), [], 0.0)
    assert (nothing["accuracy"], nothing["f1"], nothing["loss"]) == (0.0, 0.0, 0.0)
