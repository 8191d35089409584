"""From a wish to a model: providers of one process on the loopback, with real sockets, data and learning."""

import json
import threading
import time

import numpy as np
import pytest
from meshes import SMALL, pictures

from computation.errors import PeersError
from computation.tracking.journal import read
from peers.mesh.diary import Diary, cycles, duration
from peers.mesh.offers import Criteria
from peers.mesh.task import Task
from peers.mesh.wish import settled


def wished(**more):
    return settled({**SMALL, "epochs": 40, "rate": 0.01, "batch": 8, **more}, lambda _: None)


def test_start_to_finish_with_two_providers_detached_and_come_back_for(mesh, tmp_path):
    contact = mesh.contact(mesh.bootstrap())
    for name in ("provider1", "provider2"):
        mesh.provider(name, contact)
    data = pictures(tmp_path / "data")
    task = mesh.requester(contact).begin(data, wished(providers=2, aggregations=2), Criteria(), share=True)
    assert sorted(name for name, _, _ in task.workers) == ["provider1", "provider2"]
    folder = tmp_path / "requester1-task"
    assert (folder / "task.json").stat().st_mode & 0o077 == 0
    # Another process of the same requester, later.
    found = mesh.requester(contact).result(Task.read(folder), data, 120)
    assert set(found) == {"loss", "accuracy", "precision", "recall", "f1", "dice", "confusion", "seconds"}
    assert found["accuracy"] > 0.9
    assert json.loads((folder / "metrics.json").read_text())["accuracy"] == found["accuracy"]
    with np.load(folder / "model.npz") as model:
        assert all(np.isfinite(model[name]).all() for name in model)
    journal = [json.loads(line) for line in (folder / "journal.jsonl").open()]
    assert next(one["event"] for one in journal if one["event"] != "told") == "task"
    cycles = [one for one in journal if one["event"] == "cycle"]
    assert {one["provider"] for one in cycles} == {"provider1", "provider2"}
    assert (folder / "metrics.csv").read_text().count("\n") == 1 + len(cycles)
    page = (folder / "index.html").read_text()
    assert f"Accuracy {found['accuracy']:.3f}" in page and "src=" not in page
    # The providers keep no data, and are free for the next: the one whose result came first is so at once.
    limit = time.monotonic() + 30
    while any(node.slot.busy for node in mesh.nodes[1:]) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not list(tmp_path.glob("provider*/tasks/*/data"))
    assert not any(node.slot.busy for node in mesh.nodes[1:])


def test_4_13_a_provider_that_vanished_before_the_start_is_told_and_the_others_go_on(mesh, tmp_path):
    contact = mesh.contact(mesh.bootstrap())
    staying, going = mesh.provider("provider1", contact), mesh.provider("provider2", contact)
    requester = mesh.requester(contact)
    usual = requester._still

    def vanished(one, *rest):
        if one.offer.name == "provider2" and going in mesh.nodes:
            mesh.nodes.remove(going)
            going._server.close()
        return usual(one, *rest)

    requester._still = vanished
    data = pictures(tmp_path / "data")
    task = requester.begin(data, wished(providers=2, epochs=1), Criteria(), share=True)
    assert [name for name, _, _ in task.workers] == ["provider1"]
    assert any("provider2 has gone between" in text for text in mesh.told)
    assert requester.result(task, data, 60) is not None
    assert staying.address
    going._member.leave()


def test_4_13_a_provider_that_vanished_before_the_start_is_replaced_by_another(mesh, tmp_path):
    contact = mesh.contact(mesh.bootstrap())
    for name in ("provider1", "provider2"):
        mesh.provider(name, contact)
    requester = mesh.requester(contact)
    usual, gone = requester._still, []

    def vanished(one, *rest):
        if not gone:
            gone.append(one.offer.name)
            node = next(node for node in mesh.nodes[1:] if node.offer.name == one.offer.name)
            mesh.nodes.remove(node)
            node._server.close()
            node._member.leave()
        return usual(one, *rest)

    requester._still = vanished
    data = pictures(tmp_path / "data")
    task = requester.begin(data, wished(providers=1, epochs=1), Criteria(), share=True)
    assert {gone[0], task.workers[0][0]} == {"provider1", "provider2"}
    assert any("another one is looked for" in text for text in mesh.told)
    assert requester.result(task, data, 60) is not None


def test_4_22_a_provider_that_leaves_is_named_by_none_of_its_neighbours_any_more(mesh):
    contact = mesh.contact(mesh.bootstrap())
    mesh.provider("provider1", contact)
    later = mesh.provider("provider2", contact)
    assert "provider1" in [one.name for one in later._neighbours.offers()]
    mesh.nodes.remove(first := mesh.nodes[1])
    assert first.close()
    assert not [one for one in later._neighbours.offers() if one.name == "provider1"]


def test_4_22_nobody_says_farewell_for_another(mesh):
    contact = mesh.contact(mesh.bootstrap())
    mesh.provider("provider1", contact)
    later = mesh.provider("provider2", contact)
    liar = mesh.member("liar", contact)
    content = {"node": mesh.nodes[1].offer.node(), "leave": True}
    liar.ask(later.address, later.offer.key, tries=1, registration=content)
    assert [one for one in later._neighbours.offers() if one.name == "provider1"]


def test_4_12_a_provider_that_is_asked_to_leave_at_work_finishes_first(mesh, tmp_path):
    contact = mesh.contact(mesh.bootstrap())
    provider = mesh.provider("provider1", contact)
    data = pictures(tmp_path / "data")
    requester = mesh.requester(contact)
    task = requester.begin(data, wished(providers=1), Criteria(), share=True)
    mesh.nodes.remove(provider)
    leaving = threading.Thread(target=provider.close)
    leaving.start()
    _, work = provider._works[task.name]
    leaving.join(120)
    assert not leaving.is_alive()
    assert work.status == "complete" and work.state()


def test_4_14_a_follower_gives_the_last_mean_when_the_leader_is_gone(mesh, tmp_path):
    contact = mesh.contact(mesh.bootstrap())
    nodes = {name: mesh.provider(name, contact, lease=1.0) for name in ("provider1", "provider2")}
    data = pictures(tmp_path / "data", train=256)
    requester = mesh.requester(contact)
    task = requester.begin(data, wished(providers=2, epochs=30, aggregations=4), Criteria(), share=True)
    leader = nodes[task.workers[0][0]]
    follower = nodes[task.workers[1][0]]
    work = follower._works[task.name][1]
    while work.cycles < 3 and work.status in ("fetching", "learning"):
        time.sleep(0.05)
    for _, one in leader._works.values():
        one.stop()  # the leader's two peers end as in a crash of their node, and say nothing of it
    mesh.nodes.remove(leader)
    leader._server.close()
    found = requester.result(task, data, 120)
    assert found is not None
    assert found["accuracy"] > 0.5
    leader._member.leave()


def test_4_21_two_requesters_race_for_one_provider_and_one_wins(mesh, tmp_path):
    contact = mesh.contact(mesh.bootstrap())
    mesh.provider("provider1", contact)
    data = pictures(tmp_path / "data")
    outcomes = {}

    def work(name):
        requester = mesh.requester(contact, name=name, patience=0.0)
        try:
            outcomes[name] = requester.begin(data, wished(epochs=40), Criteria(), share=True)
        except PeersError as error:
            outcomes[name] = error.public

    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [name for name, outcome in outcomes.items() if isinstance(outcome, Task)]
    assert len(won) == 1
    (lost,) = set(outcomes) - set(won)
    assert "0 take the task" in outcomes[lost]
    for _, work in mesh.nodes[1]._works.values():
        work.stop()


def test_4_11_fewer_providers_than_wanted_are_told_or_in_strict_mode_an_error(mesh, tmp_path):
    contact = mesh.contact(mesh.bootstrap())
    mesh.provider("provider1", contact)
    data = pictures(tmp_path / "data")
    with pytest.raises(PeersError, match="3 providers were wanted and 1 take the task"):
        mesh.requester(contact, strict=True, patience=0.0).begin(data, wished(providers=3), Criteria(), share=True)
    assert not mesh.nodes[1].slot.busy
    requester = mesh.requester(contact, patience=10.0)
    task = requester.begin(data, wished(providers=3, epochs=1), Criteria(), share=True)
    assert len(task.workers) == 1
    assert any("it goes on with those" in text for text in mesh.told)
    assert requester.result(task, data, 60) is not None, mesh.told


@pytest.mark.parametrize(
    ("more", "provider", "reason"),
    [
        ({"configuration": {"side": 4096, "hidden": 1 << 20, "classes": 3}}, {}, "parameters and needs"),
        ({"model": "resnet-18", "configuration": {}}, {"memory": 1e8}, "parameters and needs"),
        ({}, {"take_data": False}, "the member did not agree"),
    ],
)
def test_4_5_4_9_what_a_provider_refuses_is_told_with_its_reason(mesh, tmp_path, more, provider, reason):
    contact = mesh.contact(mesh.bootstrap())
    mesh.provider("provider1", contact, **provider)
    data = pictures(tmp_path / "data")
    with pytest.raises(PeersError, match="0 take the task"):
        mesh.requester(contact, patience=0.0).begin(data, wished(**more), Criteria(), share=True)
    assert any(reason in text for text in mesh.told)


def test_4_4_data_without_a_test_part_or_consent_are_refused_before_anybody_is_asked(mesh, tmp_path):
    requester = mesh.requester()
    data = pictures(tmp_path / "data")
    with pytest.raises(PeersError, match="the owner did not agree"):
        requester.begin(data, wished(), Criteria(), share=False)
    (data / "test" / "all.npz").unlink()
    with pytest.raises(PeersError, match="no test part"):
        requester.begin(data, wished(), Criteria(), share=True)
    (data / "train" / "scans.db").write_bytes(b"SQLite format 3\0" + bytes(100))
    with pytest.raises(PeersError, match="hold people"):
        requester.begin(data, wished(), Criteria(), share=True)


def test_a_result_of_nan_or_of_another_model_is_none(mesh, tmp_path):
    from peers import message
    from peers.mesh import models
    from peers.requests import Message

    requester, wish = mesh.requester(), wished()
    task = Task("t1", wish, (("provider1", "tcp://127.0.0.1:9", "k" * 40),))
    learner = requester._learner(task)
    good = np.zeros(learner.manifest.size, np.float32)
    other = models.model("simple-cnn", '{"side": 8}').module(0)
    from computation.model import vector

    manifest = vector.manifest(other, "sync")
    bad = good.copy()
    bad[3] = np.nan
    foreign = Message("result", 1, np.zeros(manifest.size, np.float32))
    cases = [
        (message.encode(Message("result", 1, bad), learner.manifest, "provider1", "t1"), "NaN"),
        (
            message.encode(foreign, manifest, "provider1", "t1"),
            "values",
        ),
        (message.encode(Message("result", 1, good), learner.manifest, "provider2", "t1"), "another node's"),
        (message.encode(Message("result", 1, good), learner.manifest, "provider1", "t2"), "another run"),
        (b"garbage", "bytes"),
    ]
    for blob, reason in cases:
        requester._polled = lambda *_, blob=blob: type("Answer", (), {"state": blob})()
        assert requester._values(task, task.workers[0]) is None
        assert reason in mesh.told[-1]


@pytest.mark.parametrize(
    "said", ['{"cycle": -1, "loss": 0}', '{"cycle": 1, "loss": NaN}', "[]", '{"cycle": 1, "loss": "low"}', "["]
)
def test_what_a_provider_says_of_its_progress_and_is_none_is_told_and_not_written_down(tmp_path, said):
    told = []
    Diary(tmp_path, told.append).note("provider1", said, 1.0)
    assert "progress" in told[-1]
    journal = [json.loads(line) for line in (tmp_path / "journal.jsonl").open()]
    assert [one["event"] for one in journal] == ["told"]


def test_who_comes_back_writes_no_cycle_down_twice_and_a_new_task_begins_anew(tmp_path):
    task = Task("t1", wished(), (("provider1", "tcp://127.0.0.1:9", "k" * 40),))

    def noted(diary):
        diary.note("provider1", '{"cycle": 3, "loss": 0.5}', 1.0)
        return [one["cycle"] for one in cycles(read(tmp_path / "journal.jsonl"))]

    first = Diary(tmp_path, print)
    first.begin(task)
    assert noted(first) == noted(first) == [3]
    back = Diary(tmp_path, print)
    assert noted(back) == [3]
    back.begin(task)
    assert cycles(read(tmp_path / "journal.jsonl")) == []
    assert noted(back) == [3]


def test_a_time_that_is_none_never_comes_into_the_results():
    assert [duration(one) for one in (2.5, -1.0, float("nan"), float("inf"))] == [2.5, 0, 0, 0]
