"""A whole run without a centre: in virtual time it ends where COINSTAC's handlers end on the same databases."""

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from consortium import SHORT, consortium, database

from computation.coinstac.node import Folders
from computation.errors import MessageError, PeersError, ResumeError, SettingsError
from computation.federation import selection
from computation.federation.screening import Bounds
from computation.model.exported import identify
from computation.settings import Settings
from computation.strategies import Rule
from computation.strategies.fedadam import FedAdam
from computation.strategies.fedavg import FedAvg
from computation.strategies.gradient_mean import GradientMean
from computation.tracking import notices, read, rounds
from peers.course import Course
from peers.engines import virtual
from peers.engines.network import Network, Outage
from peers.protocols.centred import Centred
from peers.protocols.gossip import Gossip
from peers.protocols.leader import SHARE, Leader
from peers.protocols.ring_broadcast import RingBroadcast
from peers.requests import Mean, Send, passed_on

SCANS = ((2, 1, 1), (4, 1, 1))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Databases of two sites of unequal size, and one that only evaluates."""
    root = tmp_path_factory.mktemp("made")
    scans = {"local0": (2, 1, 1), "local1": (4, 1, 1), "local2": (0, 1, 0)}
    return {name: database(root / name / "site.db", seed=index, scans=scans[name]) for index, name in enumerate(scans)}


class Runs:
    """Courses in folders of their own."""

    def __init__(self, root, made, protocol, names=("local0", "local1"), resume=False, **changes):
        self.root, self.made, self.protocol, self.names, self.resume = root, made, protocol, names, resume
        self.changes, self.own, self.patience = changes, {}, 60.0
        self.courses, self.label = {}, "another name" if resume else "a name"

    def folder(self, kind, name):
        return self.root / kind / name

    def course(self, name, resume=None):
        for kind in ("base", "output", "transfer"):
            self.folder(kind, name).mkdir(parents=True, exist_ok=True)
        shutil.copy(self.made[name], self.folder("base", name) / "site.db")
        state = {f"{kind}Directory": str(self.folder(kind, name)) for kind in ("base", "output", "transfer")}
        inputs = {**SHORT, **self.changes, **self.own.get(name, {})}
        resume = self.resume if resume is None else resume
        self.courses[name] = Course(
            name,
            self.names,
            Folders({"clientId": name, **state}),
            inputs,
            self.protocol,
            self.label,
            patience=self.patience,
            resume=resume,
        )
        return self.courses[name]

    def start(self, name, steps=lambda steps: steps):
        def start():
            # A peer that comes back after an outage goes on where it was.
            course = self.course(name, resume=self.resume or name in self.courses)
            return course.peer, steps(course.steps())

        return start

    def run(self, network=None, **changed):
        starts = {name: changed.get(name) or self.start(name) for name in self.names}
        return virtual.run(starts, network or Network(seconds=1.0)).values

    def journal(self, name):
        return read(self.folder("output", name) / "journal.jsonl")


@pytest.mark.parametrize(
    ("strategy", "rule"),
    [("gradient-mean", GradientMean()), ("fedavg", FedAvg()), ("fedadam", FedAdam(0, 0.9, 1e-3))],
)
def test_it_ends_where_coinstacs_handlers_end(tmp_path, made, strategy, rule):
    changes = {"precision": "float64", "strategy": strategy}
    loop = consortium(tmp_path / "coinstac", scans=SCANS, changes=changes)
    expected = loop.run()
    runs = Runs(tmp_path / "peers", made, Centred(rule), **changes)
    ended = runs.run()
    assert {one.digest for one in ended.values()} == {expected["model_digest"]}
    summary = ended["local0"].summary
    assert {**summary, **expected} == summary
    assert (summary["consensus_distance"], summary["missing"], summary["protocol"]) == (0.0, {}, "centred clients=1.0")
    json.dumps(summary, allow_nan=False)
    for name in runs.names:
        own, theirs = rounds(runs.journal(name)), rounds(read(loop.folder("output", name) / "journal.jsonl"))
        for one, other in zip(own, theirs, strict=True):
            assert (one.counted, one.loss, one.digest) == (other.counted, other.loss, other.digest)
            assert (one.own_loss, one.samples, one.learning_rate) == (
                other.own_loss,
                other.samples,
                other.learning_rate,
            )
        names = {path.relative_to(runs.folder("output", name)) for path in runs.folder("output", name).rglob("*.*")}
        assert {str(path) for path in names if path.suffix in (".html", ".safetensors", ".gz", ".csv")} == {
            "index.html",
            "metrics.csv",
            "model/final.safetensors",
            "model/best.safetensors",
            "predictions/scan-0004.nii.gz" if name == "local0" else "predictions/scan-0006.nii.gz",
        }


def test_an_evaluator_applies_every_round_and_weighs_nothing(tmp_path, made):
    runs = Runs(tmp_path, made, Centred(GradientMean()), names=("local0", "local1", "local2"))
    ended = runs.run()
    assert len({one.digest for one in ended.values()}) == 1
    summary = ended["local2"].summary
    assert summary["sites"]["local2"]["rounds_counted"] == 0 and "local2" in summary["dice"]
    assert runs.courses["local0"].peer.weights == {"local0": 2.0, "local1": 4.0, "local2": 0.0}


def test_a_silent_peer_is_named(tmp_path, made):
    runs = Runs(tmp_path, made, Centred(GradientMean()))

    def silent(steps):
        while True:
            yield from ()
            return None

    with pytest.raises(PeersError, match="at the start peer local1 said nothing to local0 for 60 seconds"):
        runs.run(local1=runs.start("local1", silent))


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"learning_rate": 0.5}, "'learning_rate' is 0.01 at site local0 and 0.5 at site local1"),
        ({"classes": ["background", "a", "b"]}, "labelled|'classes'"),
    ],
)
def test_what_peers_do_not_agree_on_names_them(tmp_path, made, own, said):
    runs = Runs(tmp_path, made, Centred(GradientMean()))
    runs.own["local1"] = own
    with pytest.raises((SettingsError, MessageError), match=said):
        runs.run()


@pytest.mark.parametrize(("name", "value"), [("rule", "median"), ("clip_norms", True)])
def test_a_rule_that_must_see_each_contribution_is_refused(tmp_path, made, name, value):
    with pytest.raises(PeersError, match=f"setting {name!r} wants all contributions in one place"):
        Runs(tmp_path, made, Centred(GradientMean()), **{name: value}).run()


@pytest.mark.parametrize(("name", "value"), [("clip_above", 3.0), ("opposed_above", 9.0), ("exclude_after", 2)])
def test_screening_that_nobody_can_do_is_refused_and_none_is_none(tmp_path, made, name, value):
    with pytest.raises(PeersError, match=f"setting {name!r} asks that single contributions be judged"):
        Runs(tmp_path / "asked", made, Centred(GradientMean()), **{name: value}).course("local0")
    Runs(tmp_path / "off", made, Centred(GradientMean()), clip_above=0, copies="count").course("local0")
    Runs(tmp_path / "led", made, Leader(2), **{name: value}).course("local0")


def test_drift_is_judged_at_a_centre_alone(tmp_path, made):
    for protocol in (Centred(GradientMean()), Leader(2)):
        with pytest.raises(PeersError, match="setting 'drifted_above' asks that all contributions of a round"):
            Runs(tmp_path / "asked", made, protocol, drifted_above=0.4).course("local0")
    Runs(tmp_path / "off", made, Leader(2), drifted_above=0).course("local0")


def test_another_protocol_is_refused(tmp_path, made):
    runs = Runs(tmp_path, made, RingBroadcast(tau=2))
    other = Runs(tmp_path, made, RingBroadcast(tau=3))
    with pytest.raises(SettingsError, match="local0 is to follow the protocol ring-broadcast tau=2 and peer local1"):
        runs.run(local1=other.start("local1"))


@pytest.mark.parametrize("names", [("local0",), ("local0", "local0"), ("local1", "local2")])
def test_names_of_no_run_are_refused(tmp_path, made, names):
    with pytest.raises(PeersError, match=r"alone|two peers are called|not among"):
        Runs(tmp_path, made, Centred(GradientMean()), names=names).course("local0")


def forging(topic, change):
    """Return steps that send another text on a topic."""

    def forged(steps):
        def told(request):
            if isinstance(request, Send) and request.message.topic == topic:
                return replace(request, message=replace(request.message, text=change(request.message.text)))
            return request

        return passed_on(steps, told)

    return forged


def edited(**fields):
    return lambda text: json.dumps({**json.loads(text), **fields})


@pytest.mark.parametrize(
    ("topic", "change", "said"),
    [
        ("join", lambda text: text[:-1], "not JSON"),
        ("join", edited(more=1), "unknown field 'more'"),
        ("join", edited(rounds=[-1]), "'rounds'"),
        ("join", edited(offer={}), "join message"),
        ("round", edited(samples=10**6), "says 1000000 sub-volumes"),
        ("round", edited(round=9), "another round"),
        ("round", edited(model="ab" * 32), "after round 1 the model of site local1"),
        ("finish", edited(step="done"), "says 'done' at the end"),
        ("join", lambda text: "[" * 100_000, "nested too deeply"),
        ("join", lambda text: "9" * 100_000, "not JSON"),
        ("finish", edited(model="ab" * 32), "at the end the model of site local1"),
    ],
)
def test_what_cannot_be_said_names_who_said_it(tmp_path, made, topic, change, said):
    runs = Runs(tmp_path, made, Centred(GradientMean()), epochs=1)
    with pytest.raises(Exception, match=said) as caught:
        runs.run(local1=runs.start("local1", forging(topic, change)))
    assert "local1" in str(caught.value)


def halting(round):
    """Return steps that end when a round is closed and written down."""

    def halted(steps):
        answer = None
        while True:
            request = steps.send(answer)
            if getattr(request, "closed", False) and request.round == round:
                steps.close()
                raise KeyboardInterrupt
            answer = yield request

    return halted


@pytest.mark.parametrize("protocol", [RingBroadcast(tau=2), Centred(FedAdam(0, 0.9, 1e-3))])
def test_a_resumed_run_ends_in_the_unbroken_runs_digest(tmp_path, made, protocol):
    unbroken = Runs(tmp_path / "unbroken", made, protocol).run()
    runs = Runs(tmp_path / "killed", made, protocol)
    with pytest.raises(KeyboardInterrupt):
        runs.run(local1=runs.start("local1", halting(2)))
    again = Runs(tmp_path / "killed", made, protocol, resume=True)
    ended = again.run()
    assert {one.digest for one in ended.values()} == {unbroken["local0"].digest}
    assert ended["local0"].summary == unbroken["local0"].summary
    assert "resumed" in [entry["event"] for entry in again.journal("local1")]
    done = [one.digest for one in rounds(again.journal("local0"))]
    assert done == [one.digest for one in rounds(Runs(tmp_path / "unbroken", made, protocol).journal("local0"))]


def test_other_settings_are_no_run_to_go_on_with(tmp_path, made):
    runs = Runs(tmp_path, made, RingBroadcast())
    with pytest.raises(KeyboardInterrupt):
        runs.run(local1=runs.start("local1", halting(2)))
    with pytest.raises(ResumeError, match="settings or scans have changed"):
        Runs(tmp_path, made, RingBroadcast(), resume=True, seed=4).run()
    with pytest.raises(ResumeError, match=r"began with the protocol ring-broadcast tau=10; it cannot go on with .*=3"):
        Runs(tmp_path, made, RingBroadcast(tau=3), resume=True).run()


def test_of_two_runs_there_is_none_to_go_on_with(tmp_path, made):
    for name in ("one", "two"):
        runs = Runs(tmp_path / name, made, RingBroadcast(), epochs=1)
        runs.label = name
        runs.run()
    shutil.rmtree(tmp_path / "one" / "output" / "local1")
    shutil.copytree(tmp_path / "two" / "output" / "local1", tmp_path / "one" / "output" / "local1")
    with pytest.raises(ResumeError, match=r"different runs .local0: one; local1: two"):
        Runs(tmp_path / "one", made, RingBroadcast(), resume=True, epochs=1).run()


def test_without_a_round_in_common_nobody_goes_on(tmp_path, made):
    runs = Runs(tmp_path, made, RingBroadcast())
    with pytest.raises(KeyboardInterrupt):
        runs.run(local1=runs.start("local1", halting(3)))
    shutil.rmtree(runs.folder("output", "local0") / "checkpoints")
    assert runs.courses["local1"].name == "a name"
    with pytest.raises(ResumeError, match=r"no round in common .*local0: 0; local1: 2, 3"):
        Runs(tmp_path, made, RingBroadcast(), resume=True).run()


def test_gossip_ends_with_one_model_and_says_how_far_apart_they_were(tmp_path, made):
    runs = Runs(tmp_path, made, Gossip(0.5), quorum=0.9)
    ended = runs.run(Network(seconds=1.0, latency=0.01, stragglers={"local1": 20.0}))
    assert len({one.digest for one in ended.values()}) == 1
    one = ended["local0"]
    assert one.distance > 0 and one.summary["consensus_distance"] == one.distance
    assert sum(one.summary["last_mean"].values()) == pytest.approx(1) and one.missing == {}
    told = {note.kind: note.text for note in notices(runs.journal("local0"))}
    assert "mean of the last models of local0, local1" in told["last mean"]
    assert "'quorum' has no effect" in told["without effect"]


@pytest.mark.parametrize("names", [("local0", "local1"), ("local0", "local1", "local2")])
def test_a_leader_with_scans_or_without_ends_with_one_model(tmp_path, made, names):
    runs = Runs(tmp_path, made, Leader(2), names=names)
    ended = runs.run(Network(seconds=1.0, latency=0.01, stragglers={"local1": 3.0}))
    assert set(ended) == set(names)
    assert len({one.digest for one in ended.values()}) == 1
    assert ended["local0"].missing == {} and ended["local0"].distance < 1e-5


def test_a_leader_tells_all_whom_it_left_out_and_a_rule_of_the_owner_s_is_heeded(tmp_path, made):
    """A whole run; who lies is named in every journal, and the model stays one."""
    made = {**made, "local3": made["local1"]}
    names = ("local0", "local1", "local2", "local3")
    runs = Runs(tmp_path, made, Leader(2, bounds=Bounds.of(Settings()), combining=Rule("median")), names=names)
    runs.changes = {"rule": "median", "local_steps": 2}

    def lying(steps):
        def lie(request):
            if isinstance(request, Send) and request.message.topic == SHARE:
                return replace(request, message=replace(request.message, values=1e6 * request.message.values))
            return request

        return passed_on(steps, lie)

    ended = runs.run(local3=runs.start("local3", lying))
    assert len({one.digest for one in ended.values()}) == 1
    for name in names:
        skipped = [one.skipped for one in rounds(runs.journal(name))]
        assert all(set(one) <= {"local3"} for one in skipped) and skipped[-1]["local3"] in ("outlier", "excluded")
    told = [one["site"] for one in runs.journal("local2") if one["event"] == "screened"]
    assert set(told) == {"local3"}
    assert any(note.kind == "refused" for note in notices(runs.journal("local3")))


def test_a_gossiping_peer_that_goes_is_missing_and_the_others_end(tmp_path, made):
    runs = Runs(tmp_path, made, Gossip(), names=("local0", "local1", "local2"))
    ended = runs.run(Network(seconds=1.0, outages=(Outage("local1", 2.5),)))
    assert set(ended) == {"local0", "local2"}
    assert ended["local0"].missing == {"local1": "at the last mean"}
    assert ended["local0"].digest == ended["local2"].digest
    assert ended["local0"].summary["not_in_dice"] == {"local1": "no counts"}


def test_a_gossiping_peer_that_comes_back_goes_on_where_it_was(tmp_path, made):
    runs = Runs(tmp_path, made, Gossip())
    ended = runs.run(Network(seconds=1.0, outages=(Outage("local1", 2.5, 4.0),)))
    assert len({one.digest for one in ended.values()}) == 1 and ended["local1"].missing == {}
    assert "resumed" in [entry["event"] for entry in runs.journal("local1")]


def test_patience_ends_a_run_where_it_ends_on_coinstac(tmp_path, made, monkeypatch):
    def value(dice):
        order.setdefault(tuple(dice), len(order))
        return 1 / (1 + order[tuple(dice)])

    order: dict[tuple, int] = {}
    monkeypatch.setattr(selection, "foreground_mean", value)
    changes = {"precision": "float64", "epochs": 20, "validate_every": 1, "patience": 2}
    expected = consortium(tmp_path / "coinstac", scans=SCANS, changes=changes).run()
    runs = Runs(tmp_path / "peers", made, Centred(GradientMean()), **changes)
    summary = runs.run()["local0"].summary
    assert {**summary, **expected} == summary and summary["rounds"] == 4
    told = [note.text for note in notices(runs.journal("local1")) if note.kind == "stopped"]
    assert len(told) == 1 and told[0].startswith("after round 4: the pooled Dice had not risen")


def test_batch_norm_statistics_that_stay_at_home_are_those_of_coinstac(tmp_path, made):
    changes = {"precision": "float64", "norm": "batch", "norm_policy": "local"}
    loop = consortium(tmp_path / "coinstac", scans=SCANS, changes=changes)
    loop.run()
    runs = Runs(tmp_path / "peers", made, Centred(GradientMean()), **changes)
    runs.run()
    for name in runs.names:
        for model in ("final", "best"):
            own = (runs.folder("output", name) / "model" / f"{model}.safetensors").read_bytes()
            assert own == (loop.folder("output", name) / "model" / f"{model}.safetensors").read_bytes()


@pytest.fixture(scope="module")
def trained(made, tmp_path_factory):
    """The folder of a model that a short run made."""
    runs = Runs(tmp_path_factory.mktemp("first"), made, Centred(GradientMean()), epochs=1)
    runs.run()
    return runs.folder("output", "local0") / "model"


@pytest.mark.parametrize("protocol", [Centred(GradientMean()), Gossip()])
def test_a_model_that_one_peer_has_is_where_all_start(tmp_path, made, trained, protocol):
    digest, _ = identify(trained / "final.json")
    runs = Runs(tmp_path, made, protocol, initial_model=digest, epochs=1)
    runs.folder("base", "local1").mkdir(parents=True)
    for name in ("final.json", "final.safetensors"):
        shutil.copy(trained / name, runs.folder("base", "local1") / name)
    runs.own["local1"] = {"data": ["final.json", "site.db", "final.safetensors"]}
    outages = () if protocol.common else (Outage("local1", 2.5, 4.0),)
    ended = runs.run(Network(seconds=1.0, outages=outages))
    assert len({one.digest for one in ended.values()}) == 1
    for name in runs.names:
        events = {entry["event"]: entry for entry in runs.journal(name)}
        assert (events["plan"]["model"], events["initial-model"]["site"]) == (digest, "local1")


def test_a_model_that_nobody_has_ends_the_run(tmp_path, made):
    runs = Runs(tmp_path, made, Centred(GradientMean()), initial_model="ab" * 32)
    with pytest.raises(SettingsError, match="no site brought the model abababababab"):
        runs.run()


def test_a_peer_that_fails_in_a_round_costs_only_itself_the_round(tmp_path, made):
    runs = Runs(tmp_path, made, Centred(GradientMean()))

    def failing(steps):
        def see(request):
            trainer = runs.courses["local1"].site.trainer
            trainer.gradient = partial(gradient, trainer)
            return request

        return passed_on(steps, see)

    def gradient(trainer, round):
        if round == 2:
            raise MemoryError
        return type(trainer).gradient(trainer, round)

    ended = runs.run(local1=runs.start("local1", failing))
    assert len({one.digest for one in ended.values()}) == 1
    told = {one.round: (one.counted, one.skipped) for one in rounds(runs.journal("local0"))}
    assert told.pop(2) == (("local0",), {"local1": "out-of-memory"})
    assert set(map(str, told.values())) == {str((("local0", "local1"), {}))}
    assert any("a round was skipped" in note.text for note in notices(runs.journal("local1")))


def test_an_absurd_last_model_is_left_out_and_its_sender_named(tmp_path, made):
    runs = Runs(tmp_path, made, Gossip(0.0), names=("local0", "local1", "local2"))

    def absurd(steps):
        def told(request):
            if isinstance(request, Send) and request.message.topic == "last":
                message = replace(request.message, values=np.full_like(request.message.values, 1e20))
                return replace(request, message=message)
            return request

        return passed_on(steps, told)

    ended = runs.run(local1=runs.start("local1", absurd))
    assert ended["local0"].digest == ended["local2"].digest
    assert set(ended["local0"].summary["last_mean"]) == {"local0", "local2"}
    told = [note.text for note in notices(runs.journal("local0")) if note.kind == "refused"]
    assert len(told) == 1 and told[0].startswith("a message of local1 was dropped: the payload holds values up to")


def test_who_says_not_to_have_heard_of_its_own_last_model_is_named(tmp_path, made):
    runs = Runs(tmp_path, made, Gossip(), epochs=1)
    with pytest.raises(MessageError, match="peer local1 says that it has not heard of its own last model"):
        runs.run(local1=runs.start("local1", forging("heard", edited(names=[]))))


def asking(change):
    """Return steps that bring something else to every mean."""

    def asked(steps):
        return passed_on(steps, lambda request: change(request) if isinstance(request, Mean) else request)

    return asked


@pytest.mark.parametrize("collective", ["star", "ring"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda mean: replace(mean, weight=float("nan")), "weight"),
        (lambda mean: replace(mean, weight=-50.0), "weight"),
        (
            lambda mean: replace(mean, values=mean.values * np.nan),
            "the mean over all peers in round 1: it holds .* NaN",
        ),
        (
            lambda mean: replace(mean, values=mean.values * 0 + 1e30),
            "the mean over all peers in round 1: .* values up to",
        ),
    ],
)
def test_a_mean_of_which_nothing_can_be_learnt_ends_the_run(tmp_path, made, collective, change, said):
    runs = Runs(tmp_path, made, Centred(GradientMean()), epochs=1)
    with pytest.raises(PeersError, match=said):
        runs.run(Network(seconds=1.0, collective=collective), local1=runs.start("local1", asking(change)))
