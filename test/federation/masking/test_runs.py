"""Whole runs in which the centre sees sums alone."""

import json
import math

import numpy as np
import pytest
from consortium import consortium

from computation import local
from computation.errors import QuorumError, SettingsError
from computation.federation.masking import centre as centres
from computation.federation.masking import site as sites
from computation.secure import fixed
from computation.training.trainer import Gradient, Trainer

MASKED = {"secure_aggregation": True}


class Quick(Trainer):
    """Offers noise of its own, at once."""

    def gradient(self, round):
        rng = np.random.default_rng([*self.site.encode(), round])
        return Gradient(rng.uniform(1, 2), 1, 1, (), rng.normal(0, 0.01, self.manifest.size).astype(self.dtype))


def quick(root, count=3, trainer=Quick, **changes):
    """Return a consortium of sites that train on nothing worth waiting for."""
    return consortium(
        root, count, scans=[(2, 0, 0)] * count, changes={**MASKED, **changes}, make_local=lambda: local.create(trainer)
    )


def verdicts(loop):
    said = [reply["output"] for client, _, reply in loop.log if client == "remote"]
    return [output for output in said if "counted" in output]


def combinations(loop):
    """Return the combination of each round, as the sites receive it."""
    found = []

    def see(loop, client, iteration):
        path = loop.folder("input", "local0") / "__cx_combination.bin"
        if client == "local0" and path.exists() and path.read_bytes() not in found[-1:]:
            found.append(path.read_bytes())

    return found, see


def notices(loop, client):
    lines = (loop.folder("output", client) / "journal.jsonl").read_text().splitlines()
    return [entry["text"] for entry in map(json.loads, lines) if entry["event"] == "notice"]


def without(loop, absent):
    """Let messages be lost: `absent(output)` names the sites whose message does not come to the centre."""
    call = loop.call

    def lossy(client, iteration, message):
        if client == "remote":
            message = {site: said for site, said in message.items() if site not in absent(said)}
        return call(client, iteration, message)

    loop.call = lossy
    return loop


class Watch:
    """Sees what each site masks, and what the centre comes to."""

    def __init__(self, monkeypatch):
        self.words, self.totals = {}, []
        upload, unmask = sites.round.upload, centres.round.unmask

        def masked(ring, number, words):
            self.words[ring.site, number] = words.copy()
            return upload(ring, number, words)

        def unmasked(circle, total, uploads, answers):
            unmask(circle, total, uploads, answers)
            self.totals.append((tuple(sorted(uploads)), total.copy()))

        monkeypatch.setattr(sites.round, "upload", masked)
        monkeypatch.setattr(centres.round, "unmask", unmasked)

    def check(self, rounds):
        """Hold each round's sum against the plain one, word by word."""
        assert len(self.totals) == len(rounds)
        for number, (there, total) in zip(rounds, self.totals, strict=True):
            assert np.array_equal(total, fixed.total([self.words[site, number] for site in there]))


@pytest.mark.parametrize("changes", [{"weighting": "equal"}, {"strategy": "fedavg", "norm": "batch"}])
def test_a_masked_run_comes_to_what_a_plain_one_does(tmp_path, changes):
    scans = [(2, 1, 1), (1, 1, 1), (3, 1, 1)]
    last = []
    for name, extra in (("plain", {}), ("masked", MASKED)):
        loop = consortium(tmp_path / name, 3, scans=scans, changes={**changes, **extra})
        found, see = combinations(loop)
        summary = loop.run(see)
        assert all(verdict["counted"] == ["local0", "local1", "local2"] for verdict in verdicts(loop))
        last.append((summary["rounds"], verdicts(loop)[-1]["loss"], np.frombuffer(found[-1][192:], "<f4")))
    (rounds, loss, plain), (masked_rounds, masked_loss, masked) = last
    assert masked_rounds == rounds
    assert masked_loss == pytest.approx(loss, rel=1e-5)
    assert np.allclose(masked, plain, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_site_that_skips_any_round_is_not_in_its_sum_which_is_exact(tmp_path, monkeypatch, lost):
    class Failing(Quick):
        def gradient(self, round):
            if self.site == "local1" and round == lost:
                raise MemoryError
            return super().gradient(round)

    watch = Watch(monkeypatch)
    loop = quick(tmp_path, 4, Failing)
    loop.run()
    counted = [verdict["counted"] for verdict in verdicts(loop)]
    assert [("local1" in there) for there in counted] == [number != lost for number in range(1, len(counted) + 1)]
    assert verdicts(loop)[lost - 1]["skipped"] == {"local1": "out-of-memory"}
    watch.check(range(1, len(counted) + 1))


@pytest.mark.parametrize("step", ["train", "unmask"])
def test_a_message_that_is_lost_in_either_step_costs_nobody_the_round(tmp_path, monkeypatch, step):
    watch = Watch(monkeypatch)

    def absent(said):
        return ["local3"] if said["phase"] == step and said["round"] == 2 else []

    loop = without(quick(tmp_path, 4), absent)
    loop.run()
    late = step == "train"
    assert [("local3" in verdict["counted"]) for verdict in verdicts(loop)][:3] == [True, not late, True]
    assert not any(verdict["void"] for verdict in verdicts(loop))
    assert any("did not come to the centre" in text for text in notices(loop, "local3")) is late
    watch.check(range(1, len(verdicts(loop)) + 1))


def test_sites_that_are_lost_in_both_steps_make_the_round_void_and_the_run_goes_on(tmp_path, monkeypatch):
    watch = Watch(monkeypatch)

    def absent(said):
        return {"train": ["local3"], "unmask": ["local2"]}.get(said["phase"], []) if said.get("round") == 2 else []

    loop = without(quick(tmp_path, 4), absent)
    loop.run()
    assert [verdict["void"] for verdict in verdicts(loop)] == [False, True, *[False] * (len(verdicts(loop)) - 2)]
    assert verdicts(loop)[1]["skipped"] == {"local2": "masked", "local3": "absent"}
    assert any("the round is void: the mask of site local0 is lost" in text for text in notices(loop, "remote"))
    watch.check([number for number in range(1, len(verdicts(loop)) + 1) if number != 2])


def test_too_few_sites_make_no_sum_whatever_the_quorum(tmp_path):
    loop = without(
        quick(tmp_path, quorum=0.1),
        lambda said: ["local0"] if said["phase"] == "train" else [],
    )
    with pytest.raises(QuorumError, match="fewer than 3 of 3 sites contributed"):
        loop.run()
    assert not [reply for _, _, reply in loop.log if reply["output"].get("phase") == "unmask"]


def test_nodes_that_are_restarted_before_any_call_end_in_the_unbroken_runs_model(tmp_path):
    def restart(loop, client, iteration):
        if (iteration + len(client)) % 2 and iteration > 1:
            loop.restart(client)

    unbroken = quick(tmp_path / "unbroken").run()
    assert quick(tmp_path / "broken").run(restart) == unbroken


def test_every_site_and_the_centre_show_one_fingerprint(tmp_path):
    loop = quick(tmp_path)
    loop.run()
    told = set()
    for client in ("local0", "local1", "local2", "remote"):
        lines = (loop.folder("output", client) / "journal.jsonl").read_text().splitlines()
        (entry,) = [entry for entry in map(json.loads, lines) if entry["event"] == "masking"]
        told.add(entry["fingerprint"])
        assert entry["fingerprint"] in (loop.folder("output", client) / "index.html").read_text()
        assert entry["fingerprint"] in (loop.folder("output", client) / "run.log").read_text()
    assert len(told) == 1
    mode = (loop.folder("output", "local0") / "checkpoints" / "masking.json").stat().st_mode
    assert mode & 0o777 == 0o600


def test_no_loss_of_a_single_site_is_known_to_the_centre(tmp_path):
    loop = quick(tmp_path)
    loop.run()
    offers = [reply["output"] for client, _, reply in loop.log if reply["output"].get("status") == "ok"]
    assert offers and not any(offer["loss"] for offer in offers)
    lines = (loop.folder("output", "remote") / "journal.jsonl").read_text().splitlines()
    rounds = [entry for entry in map(json.loads, lines) if entry["event"] == "round"]
    assert all(site["loss"] is None for entry in rounds for site in entry["by_site"].values())
    own = [json.loads(line) for line in (loop.folder("output", "local0") / "journal.jsonl").read_text().splitlines()]
    assert all(entry["own_loss"] > 0 for entry in own if entry["event"] == "round")


def test_masked_words_are_at_most_two_and_a_tenth_of_the_plain_payload(tmp_path):
    sizes = []
    for name, changes in (("plain", {"secure_aggregation": False}), ("masked", {})):
        loop = quick(tmp_path / name, 4, **changes)
        loop.run()
        path = loop.folder("input", "remote") / "local0" / "__cx_contribution.bin"
        said = next(reply["output"] for _, _, reply in loop.log if reply["output"].get("status") == "ok")
        sizes.append(path.stat().st_size + len(json.dumps(said)))
    assert sizes[1] / sizes[0] < 2.1


@pytest.mark.parametrize(
    ("count", "changes", "said"),
    [
        (2, {}, "is on and 2 sites train; wanted 3 or more"),
        (3, {"secure_least": 4}, "setting 'secure_least' asks for 4"),
        (3, {"weighting": "samples"}, "weights are fixed at join"),
        (3, {"secure_least": 2}, "wanted 3 or more, or 0"),
    ],
)
def test_what_cannot_be_masked_is_refused_at_the_join(tmp_path, count, changes, said):
    with pytest.raises(SettingsError, match=said):
        quick(tmp_path, count, **changes).run()


def test_a_site_that_only_evaluates_is_no_part_of_it(tmp_path):
    scans = [(2, 1, 1)] * 3 + [(0, 2, 1)]
    loop = consortium(tmp_path, 4, scans=scans, changes=MASKED)
    loop.run()
    assert all(verdict["counted"] == ["local0", "local1", "local2"] for verdict in verdicts(loop))
    assert not (loop.folder("output", "local3") / "checkpoints" / "masking.json").exists()
    with pytest.raises(SettingsError, match="2 sites train"):
        consortium(tmp_path / "few", 3, scans=[(2, 1, 1)] * 2 + [(0, 2, 1)], changes=MASKED).run()


def test_an_update_beyond_the_norm_is_clipped_by_its_site_and_told(tmp_path):
    loop = quick(tmp_path, secure_norm=0.5)
    found, see = combinations(loop)
    loop.run(see)
    assert any("scaled down to the norm of 0.5" in text for text in notices(loop, "local0"))
    assert all(np.linalg.norm(np.frombuffer(one[192:], "<f4")) <= 0.5 * (1 + 1e-6) for one in found)


def test_a_site_that_does_not_clip_is_found_in_the_sum_although_not_by_name(tmp_path, monkeypatch):
    words = sites.Masks._words

    def loud(self, values, origin, parts, loss, number):
        if self._site == "local1" and number == 2:
            values = values * np.float32(1e9)
            told = words(self, values, origin, parts, loss, number)
            told[: math.ceil(told.size / 2)] += np.uint64(2**61)
            return told
        return words(self, values, origin, parts, loss, number)

    monkeypatch.setattr(sites.Masks, "_words", loud)
    loop = quick(tmp_path)
    loop.run()
    assert [verdict["void"] for verdict in verdicts(loop)][:3] == [False, True, False]
    assert any("one of them or more did not, and nobody can say which" in text for text in notices(loop, "remote"))


@pytest.mark.parametrize("strategy", ["gradient-mean", "fedavg"])
def test_what_is_not_finite_costs_its_site_the_round_as_ever(tmp_path, strategy):
    class Broken(Trainer):
        def gradient(self, round):
            done = super().gradient(round)
            if self.site == "local2" and round == 1:
                done.vector[3] = math.nan
            return done

        def local_steps(self, round):
            done = super().local_steps(round)
            if self.site == "local2" and round == 1:
                self.load_vector(np.where(np.arange(self.vector().size) == 3, np.nan, self.vector()).astype("f4"))
            return done

    changes = {**MASKED, "strategy": strategy}
    loop = consortium(tmp_path, 4, changes=changes, make_local=lambda: local.create(Broken))
    loop.run()
    assert "local2" in verdicts(loop)[0]["skipped"] and verdicts(loop)[0]["counted"] == ["local0", "local1", "local3"]
    said = [reply["output"] for client, _, reply in loop.log if client == "local2"]
    (skipped,) = [offer for offer in said if offer.get("status") == "skipped"]
    assert (skipped["loss"], skipped["samples"]) == (0, 0), "not in the clear what would have been masked"
