"""Early stopping: the centre decides after a complete validation, all sites end with the same round and model."""

import pytest
from consortium import consortium

from computation.federation import selection
from computation.tracking import notices, read

CHANGES = {"epochs": 20, "validate_every": 1, "patience": 2}


@pytest.fixture
def falling(monkeypatch):
    """Validations of which the first is the best; the values are a function of the model, as real ones are."""

    def value(dice):
        order.setdefault(tuple(dice), len(order))
        return 1 / (1 + order[tuple(dice)])

    order: dict[tuple, int] = {}
    monkeypatch.setattr(selection, "foreground_mean", value)


def _journal(loop, client):
    return read(loop.folder("output", client) / "journal.jsonl")


@pytest.mark.parametrize("strategy", ["gradient-mean", "fedavg"])
def test_a_run_ends_when_the_pooled_dice_rises_no_more(tmp_path, falling, strategy):
    loop = consortium(tmp_path, changes={**CHANGES, "strategy": strategy})
    final = loop.run()
    # Model 1 is the best, models 2 and 3 are not better; the last validation rides in round 4, which is applied.
    assert (final["rounds"], final["best_round"]) == (4, 1)
    assert "'patience'" in final["stopped"]
    assert {site["model_digest"] for site in final["sites"].values()} == {final["model_digest"]}
    for client in ("local0", "local1", "remote"):
        rounds = [entry for entry in _journal(loop, client) if entry["event"] == "round"]
        assert [entry["round"] for entry in rounds] == [1, 2, 3, 4]
        assert rounds[-1]["digest"] == final["model_digest"]
        told = [note.text for note in notices(_journal(loop, client)) if note.kind == "stopped"]
        assert len(told) == 1 and told[0].startswith("after round 4: the pooled Dice had not risen")
        page = (loop.folder("output", client) / "index.html").read_text()
        assert "Ended after 4 of 40 planned rounds: the pooled Dice had not risen" in page
        assert "4 of 40 planned rounds were run" in page


def test_a_stopped_run_resumes_to_the_same_end(tmp_path, falling):
    unbroken = consortium(tmp_path / "unbroken", changes=CHANGES).run()

    def restart(loop, client, iteration):
        if iteration > 1:
            loop.restart(client)

    assert consortium(tmp_path / "broken", changes=CHANGES).run(restart) == unbroken


def test_without_patience_a_run_has_its_rounds(tmp_path, falling):
    final = consortium(tmp_path, changes={**CHANGES, "epochs": 3, "patience": 0}).run()
    assert (final["rounds"], final["stopped"]) == (6, "")
