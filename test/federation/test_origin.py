"""Whose words these are: what is copied, replayed, relayed, altered or made up is found, and the right one is named."""

import json
from functools import partial

import numpy as np
import pytest
from consortium import consortium

from computation import remote
from computation.errors import ConsensusError, MessageError, PayloadError, ResumeError
from computation.federation import keys
from computation.federation.origin import CENTRE, Charter
from computation.tracking import read
from computation.wire import payload
from computation.wire.messages import Plan
from computation.wire.messages.seal import sealed
from computation.wire.payload import COMBINATION, CONTRIBUTION, Payload
from computation.wire.signing import Key, digest_of

#: Iterations: 1 joins, 2 to 5 are the rounds, 6 brings the last counts and 7 the confirmations.
JOIN, ROUND, COUNTS, DONE = 1, 3, 6, 7
UNSIGNED = "site local1: the message is not signed by its sender for this run"
CONTRIBUTED = "__cx_contribution.bin"


def on_the_way(loop, iteration, change):
    """Let somebody between the sites and the centre change what all sites sent in one iteration."""
    call = loop.call

    def changed(client, now, message):
        if (client, now) == ("remote", iteration):
            message = change(json.loads(json.dumps(message)))
        return call(client, now, message)

    loop.call = changed


def from_the_centre(loop, iteration, change, site="local1"):
    """Let somebody between change what one site hears in an iteration."""
    call = loop.call

    def changed(client, now, message):
        if (client, now) == (site, iteration):
            message = change(json.loads(json.dumps(message)))
        return call(client, now, message)

    loop.call = changed


def refused(loop, kind=MessageError):
    with pytest.raises(kind) as caught:
        loop.run()
    return caught.value.public


def verdicts(loop):
    return [reply["output"] for client, _, reply in loop.log if client == "remote" and "counted" in reply["output"]]


def said(loop, site, iteration):
    return next(reply["output"] for client, now, reply in loop.log if (client, now) == (site, iteration))


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("iteration", "name", "value"),
    [
        (JOIN, "device", "cuda"),
        (JOIN, "nonce", "ab" * 32),
        (ROUND, "loss", 0.25),
        (ROUND, "seconds", 0.0),
        (ROUND, "files", {}),
        (ROUND, "signature", "ab" * 64),
        (ROUND, "signature", None),
        (COUNTS, "evaluations", {}),
        (DONE, "signature", "é" * 128),
    ],
)
def test_a_word_that_is_changed_on_its_way_is_not_its_senders(tmp_path, iteration, name, value):
    loop = consortium(tmp_path)
    on_the_way(loop, iteration, lambda sent: {**sent, "local1": {**sent["local1"], name: value}})
    told = refused(loop)
    assert told.startswith(UNSIGNED) and "local0" not in told


@pytest.mark.parametrize("iteration", [ROUND, COUNTS, DONE])
def test_who_copies_is_named_and_so_is_whom_it_copied(tmp_path, iteration):
    loop = consortium(tmp_path)
    on_the_way(loop, iteration, lambda sent: {**sent, "local1": sent["local0"]})
    assert refused(loop).startswith("site local1: the message is one that site local0 signed, copied")


def test_a_copied_join_is_not_the_copiers(tmp_path):
    loop = consortium(tmp_path)
    on_the_way(loop, JOIN, lambda sent: {**sent, "local1": sent["local0"]})
    assert refused(loop).startswith(UNSIGNED)


def test_words_of_the_round_before_are_its_own_and_too_late(tmp_path):
    loop = consortium(tmp_path)
    on_the_way(loop, ROUND, lambda sent: {**sent, "local1": said(loop, "local1", ROUND - 1)})
    assert refused(loop) == "site local1 contributed to round 1; wanted round 2"


def test_the_centres_words_are_no_sites(tmp_path):
    loop = consortium(tmp_path)
    on_the_way(loop, ROUND, lambda sent: {**sent, "local1": said(loop, "remote", ROUND - 1)})
    assert refused(loop).startswith("site local1: the message is one that the centre signed, copied")


@pytest.fixture
def lasting(tmp_path, monkeypatch):
    """Each node has one key in all its runs, as where the environment names a file."""
    monkeypatch.setattr(keys, "own", lambda folder: keys.load(keys.made(tmp_path / folder.parents[1].name)))


@pytest.mark.usefixtures("lasting")
def test_words_of_another_run_with_the_same_keys_and_name_are_not_of_this_one(tmp_path):
    """The same settings and scans, and so the same models; only what is drawn anew at the join differs."""
    first, second = (
        consortium(tmp_path / name, make_remote=partial(remote.create, "one name")) for name in ("first", "second")
    )
    first.run()
    on_the_way(second, ROUND, lambda sent: {**sent, "local1": said(first, "local1", ROUND)})
    assert refused(second).startswith(UNSIGNED)
    mine, old = said(second, "local1", ROUND), said(first, "local1", ROUND)
    assert mine["model"] == old["model"] and mine["files"] == old["files"]


# --- files -----------------------------------------------------------------------------------------------------------


def _contribution(loop, **changes):
    """Return a payload that is right in all but its values."""
    run = loop.handlers["remote"]._run
    values = np.zeros(run.learner.manifest.size, np.float32)
    fields = {"kind": CONTRIBUTION, "round": run.round, "manifest": run.learner.manifest, "values": values}
    return Payload(**{**fields, "model": run.learner.digest(), "site": "local1", "run": run.name, **changes})


def test_a_file_that_is_put_in_its_place_is_not_the_one_that_was_signed(tmp_path):
    """Well formed, and of the right site, run, round and model: without the signature nobody could tell."""

    def between(loop, client, iteration):
        if (client, iteration) == ("remote", ROUND):
            path = loop.folder("input", "remote") / "local1" / CONTRIBUTED
            payload.write(path, _contribution(loop))

    loop = consortium(tmp_path)
    final = loop.run(between)
    why = "refused: the payload is not the one that its sender signed; wanted that one, as it was written"
    assert [one["skipped"] for one in verdicts(loop)] == [{}, {"local1": why}, {}, {}]
    assert final["sites"]["local1"]["rounds_counted"] == 3


def test_a_message_that_signs_no_file_brings_none(tmp_path):
    loop = consortium(tmp_path)

    def change(sent):
        mine = loop.handlers["local1"]._run.origin
        bare = {name: value for name, value in sent["local1"].items() if name not in ("files", "signature")}
        return {**sent, "local1": sealed(bare, mine.key, "local1", mine.charter.digest)}

    on_the_way(loop, ROUND, change)
    loop.run()
    why = "refused: the message signs no such payload; wanted it with the file's digest"
    assert verdicts(loop)[1]["skipped"] == {"local1": why}


def test_a_combination_that_is_put_in_its_place_is_not_the_centres(tmp_path):
    def between(loop, client, iteration):
        if (client, iteration) == ("local1", ROUND):
            before = loop.handlers["local1"]._run.common
            item = _contribution(loop, kind=COMBINATION, site="", round=1, model=before)
            payload.write(loop.folder("input", "local1") / "__cx_combination.bin", item)

    with pytest.raises(PayloadError, match="not the one that its sender signed"):
        consortium(tmp_path).run(between)


# --- the centre's words ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("iteration", "name", "value"), [(ROUND, "loss", 0.5), (COUNTS, "last", False), (DONE, "rounds", 5)]
)
def test_what_is_changed_of_the_centres_words_is_not_its_own(tmp_path, iteration, name, value):
    loop = consortium(tmp_path)
    from_the_centre(loop, iteration, lambda heard: {**heard, name: value})
    assert refused(loop).startswith("the centre: the message is not signed by its sender for this run")


def test_an_earlier_verdict_is_not_this_rounds(tmp_path):
    loop = consortium(tmp_path)
    from_the_centre(loop, ROUND + 1, lambda heard: said(loop, "remote", ROUND - 1))
    assert refused(loop) == "the centre closed round 1; wanted round 2"


def _another(plan, **changes):
    """Return a plan that somebody between has made of the centre's, and signed with a key of its own."""
    stranger = Key.make()
    body = {name: value for name, value in plan.items() if name not in ("files", "signature")}
    return sealed({**body, "centre": stranger.public, **changes}, stranger, CENTRE, files=plan["files"])


def test_a_centre_that_speaks_for_a_site_is_found_by_that_site(tmp_path):
    loop = consortium(tmp_path)
    from_the_centre(loop, 2, lambda plan: _another(plan, keys={**plan["keys"], "local1": Key.make().public}))
    assert "somebody between speaks for this site" in refused(loop, ConsensusError)


def test_a_centre_that_changes_what_a_site_said_is_found_by_that_site(tmp_path):
    loop = consortium(tmp_path)
    from_the_centre(loop, 2, lambda plan: _another(plan, said={**plan["said"], "local1": "ab" * 32}))
    assert "somebody between speaks for this site" in refused(loop, ConsensusError)


def test_a_centre_that_speaks_for_another_site_has_another_fingerprint(tmp_path):
    loop = consortium(tmp_path)
    from_the_centre(loop, 2, lambda plan: _another(plan, keys={**plan["keys"], "local0": Key.make().public}))
    refused(loop)  # what local1 signs then is of another run for the centre that joined it
    prints = {site: loop.handlers[site]._run.origin.charter.fingerprint for site in loop.handlers}
    assert prints["local0"] == prints["remote"] != prints["local1"]


@pytest.mark.parametrize(
    "changes",
    [
        lambda plan: {"keys": {}},
        lambda plan: {"keys": {**plan["keys"], "stranger": "ab" * 32}},
        lambda plan: {"keys": {**plan["keys"], "local0": plan["keys"]["local1"]}},
    ],
)
def test_a_plan_has_one_key_for_each_site(tmp_path, changes):
    loop = consortium(tmp_path)
    from_the_centre(loop, 2, lambda plan: _another(plan, **changes(plan)))
    assert refused(loop) == "the centre: the plan does not name one key for each site and one for the centre"


@pytest.mark.usefixtures("lasting")
def test_an_earlier_runs_plan_is_not_this_ones_although_the_key_is_the_same(tmp_path):
    first = consortium(tmp_path / "first")
    first.run()
    loop = consortium(tmp_path / "second")
    from_the_centre(loop, 2, lambda plan: said(first, "remote", 1))
    assert "the plan is of another run" in refused(loop, ConsensusError)


# --- keys ------------------------------------------------------------------------------------------------------------


def test_two_sites_with_one_key_are_refused_at_the_join(tmp_path, monkeypatch):
    monkeypatch.setenv(keys.VARIABLE, str(tmp_path / "shared.pem"))
    loop = consortium(tmp_path)
    told = refused(loop)
    assert "have one key; give each a key file of its own" in told and "site local0" in told
    assert max(iteration for _, iteration, _ in loop.log) == 1


def test_a_key_that_is_lost_ends_the_run_and_says_so(tmp_path):
    def between(loop, client, iteration):
        if (client, iteration) == ("local1", ROUND):
            (loop.folder("output", "local1") / "checkpoints" / keys.FILE).unlink()
            loop.restart("local1")

    with pytest.raises(ResumeError, match="not the one with which the run began"):
        consortium(tmp_path).run(between)


def test_a_run_whose_every_node_restarts_goes_on_with_the_same_keys(tmp_path):
    def restart(loop, client, iteration):
        if iteration > 1:
            loop.restart(client)

    loop = consortium(tmp_path)
    loop.run(restart)
    prints = {loop.handlers[side]._run.origin.charter.fingerprint for side in loop.handlers}
    assert len(prints) == 1


def test_no_secret_leaves_its_folder_and_all_see_all_fingerprints(tmp_path):
    loop = consortium(tmp_path)
    loop.run()
    sent = json.dumps(loop.log)
    for side in loop.handlers:
        key = loop.handlers[side]._run.origin.key
        assert key.seed.hex() not in sent and key.public in sent
        holders = {path.parent for path in tmp_path.rglob("*") if path.is_file() and _holds(path, key)}
        assert holders == {loop.folder("output", side) / "checkpoints"}
        entries = read(loop.folder("output", side) / "journal.jsonl")
        (told,) = [entry for entry in entries if entry["event"] == "keys"]
        page = (loop.folder("output", side) / "index.html").read_text()
        for shown in (told["all"], told["centre"], *told["sites"].values()):
            assert shown in page
    assert sorted(told["sites"]) == ["local0", "local1"]


def _holds(path, key):
    content = path.read_bytes()
    pem = keys.load(path).seed == key.seed if path.name == keys.FILE else False
    return pem or key.seed in content or key.seed.hex().encode() in content


# --- what is relayed -------------------------------------------------------------------------------------------------


def test_a_site_can_hold_what_is_relayed_of_another_against_its_key(tmp_path):
    loop = consortium(tmp_path)
    loop.run()
    mine = loop.handlers["local0"]._run.origin.charter
    relayed = said(loop, "local1", ROUND)
    mine.check("local1", relayed)
    with pytest.raises(MessageError, match="not signed by its sender"):
        mine.check("local1", {**relayed, "loss": 0.0})
    with pytest.raises(MessageError, match="one that site local1 signed, copied"):
        mine.check("local0", relayed)
    with pytest.raises(MessageError, match="not signed by its sender"):
        mine.check("nobody", {"phase": "train"})
    plan = Plan.parse(said(loop, "remote", 1))
    assert Charter.of(plan) == mine
    assert plan.said["local1"] == digest_of(said(loop, "local1", 1))


def test_what_is_signed_for_the_join_is_good_for_nothing_else(tmp_path):
    loop = consortium(tmp_path)
    on_the_way(loop, ROUND, lambda sent: {**sent, "local1": said(loop, "local1", 1)})
    assert refused(loop).startswith(UNSIGNED)


def test_a_liar_who_signs_is_taken_at_its_word(tmp_path):
    """A signature says who said it, and not that it is true: that is for the claims' checks, and screening."""
    loop = consortium(tmp_path)
    loop.liars.add("local1")
    on_the_way(loop, ROUND, lambda sent: {**sent, "local1": {**sent["local1"], "loss": 0.25}})
    loop.run()
    assert verdicts(loop)[1]["counted"] == ["local0", "local1"]
