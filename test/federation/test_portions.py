"""Sites of unequal size: who does how many batches of a round, and what the mean is worth."""

import dataclasses

import pytest
from consortium import consortium
from hypothesis import given
from hypothesis import strategies as st

from computation.errors import MessageError, SettingsError
from computation.federation import agreement, portions
from computation.settings import Settings
from computation.wire.messages import JoinOffer

SCANS = st.lists(st.integers(1, 2000), min_size=1, max_size=8).map(
    lambda counts: dict(zip("abcdefgh", counts, strict=False))
)


def _settings(**changes):
    return dataclasses.replace(Settings(), **changes)


@pytest.mark.parametrize(
    ("scans", "steps", "wanted"),
    [
        ((1, 2, 4, 9), 1, (1, 1, 1, 2)),
        ((1, 2, 4, 9), 4, (1, 2, 4, 9)),
        ((5, 5, 5, 5), 1, (1, 1, 1, 1)),
        ((8, 8, 8, 7), 1, (1, 1, 1, 1)),
        ((3, 1), 1, (2, 1)),
        ((1, 1, 1, 1000), 1, (1, 1, 1, 4)),
    ],
)
def test_batches_go_by_the_scans(scans, steps, wanted):
    sites = dict(zip("abcd", scans, strict=False))
    assert tuple(portions.batches(_settings(local_steps=steps), sites).values()) == wanted


@pytest.mark.parametrize("changes", [{"strategy": "fedavg"}, {"weighting": "equal"}, {"batches": "equal"}])
def test_batches_are_equal_where_the_weights_are_or_a_batch_is_a_step(changes):
    assert portions.batches(_settings(local_steps=3, **changes), {"a": 1, "b": 9}) == {"a": 3, "b": 3}


@given(scans=SCANS, steps=st.integers(1, 50), batch=st.integers(1, 8))
def test_every_portion_is_possible_and_bounded(scans, steps, batch):
    found = portions.batches(_settings(local_steps=steps, batch_size=batch), scans)
    for site, own in found.items():
        assert 1 <= own <= portions.MOST * steps
        assert own <= max(steps, -(-scans[site] // batch))
    if len(set(scans.values())) == 1:
        assert set(found.values()) == {steps}
    assert portions.batches(_settings(local_steps=steps, batch_size=batch), dict(reversed(scans.items()))) == found


@given(scans=SCANS)
def test_the_mean_is_nearly_as_sharp_as_one_machines(scans):
    """Its variance is at most 1.5 times that of as many batches drawn from everybody's scans."""
    found = portions.batches(_settings(), scans)
    weights = {site: own / sum(scans.values()) for site, own in scans.items()}
    assert sum(weights[site] ** 2 / found[site] for site in scans) <= 1.5 / len(scans) * (1 + 1e-12)


def _offer(settings, train):
    steps = -(-train // settings.batch_size)
    scans = {"train": train, "valid": 0, "test": 0}
    none = {"valid": 0, "test": 0}
    return JoinOffer(settings.as_json(), settings.classes, scans, none, none, steps, {}, "cpu", {})


def test_every_site_passes_its_epochs():
    settings = _settings(epochs=5)
    offers = {name: _offer(settings, train) for name, train in zip("abcd", (1, 2, 4, 9), strict=True)}
    shared = portions.batches(settings, {site: offer.scans["train"] for site, offer in offers.items()})
    assert agreement.rounds(settings, offers, shared) == 23  # 5 x 9 batches, two a round; site c needs 20
    assert agreement.rounds(settings, offers, dict.fromkeys(offers, 1)) == 45
    assert agreement.rounds(settings, offers, {**shared, "d": 9}) == 20
    with pytest.raises(SettingsError, match="batches of site d are"):
        agreement.rounds(_settings(epochs=10**6), {"d": dataclasses.replace(offers["d"], steps=10**6)}, {"d": 1})


def test_the_numbers_of_batches_go_on_from_round_to_round(tmp_path):
    loop = consortium(tmp_path, changes={"epochs": 4}, scans=[(3, 1, 0), (1, 1, 0)])
    drawn = {}

    def watch(loop, client, iteration):
        if client != "remote" and iteration == 2:
            run = loop.handlers[client]._run
            make = run.make_trainer

            def made(*arguments, **options):
                trainer = make(*arguments, **options)
                batch = trainer._sampler.batch
                trainer._sampler.batch = lambda step: (drawn.setdefault(client, []).append(step), batch(step))[1]
                return trainer

            run.make_trainer = made

    final = loop.run(watch)
    assert final["rounds"] == 6  # four passes over three scans, two a round; site local1 passes six times over its one
    assert drawn["local0"] == list(range(12)) and drawn["local1"] == list(range(6))
    plan = loop.handlers["remote"]._run.plan
    assert plan.batches == {"local0": 2, "local1": 1}
    offers = [reply["output"] for client, now, reply in loop.log if client != "remote" and now == 2]
    assert [offer["samples"] for offer in offers] == [2, 1]


def test_a_restarted_site_goes_on_with_its_portion(tmp_path):
    def restart(loop, client, iteration):
        if iteration in (3, 5):
            loop.restart(client)

    scans = [(3, 1, 0), (1, 1, 0)]
    broken = consortium(tmp_path / "a", changes={"epochs": 4}, scans=scans).run(restart)
    assert broken == consortium(tmp_path / "b", changes={"epochs": 4}, scans=scans).run()


@pytest.mark.parametrize("batches", [{}, {"local0": 9}])
def test_a_plan_without_a_portion_for_the_site_or_with_a_monstrous_one_is_refused(tmp_path, batches):
    loop = consortium(tmp_path, 1)
    loop.call("local0", 1, loop.specs["local0"])
    loop.call("remote", 1, {"local0": loop.log[-1][2]["output"]})
    loop.liars.add("remote")
    plan = loop.log[-1][2]["output"] | {"batches": batches}
    with pytest.raises(MessageError, match=r"batches in a round; wanted 1 to 8"):
        loop.call("local0", 2, plan)
