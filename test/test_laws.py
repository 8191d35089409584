"""What must always hold (architecture.md, section 4), over whole runs of the real handlers and files."""

import json
import re
import shutil
import sqlite3
from itertools import count, permutations

import numpy as np
import pytest
import torch
from consortium import SHORT, consortium, database
from loopback import Loopback
from torch import nn

from computation import local
from computation.coinstac import claim
from computation.errors import ConsensusError, MeshNetError, ResumeError, ScanError
from computation.federation import selection
from computation.model import architecture, export, network, vector
from computation.scans.drawing.sampling import PatchSampler
from computation.scans.store.opening import open_store
from computation.settings import parse
from computation.tracking import notices, read
from computation.training.loss import criterion
from computation.training.trainer import Trainer
from computation.wire import payload

STRATEGIES = ["gradient-mean", "fedavg"]


def _journal(loop, client):
    lines = (loop.folder("output", client) / "journal.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def _digests(loop, client):
    return {entry["round"]: entry["digest"] for entry in _journal(loop, client) if entry["event"] == "round"}


def _sampler(store, site, settings):
    """Draw what the site draws."""
    drawn = {"patch_size": settings.patch_size, "batch_size": 1, "seed": settings.seed, "place": settings.sampling}
    return PatchSampler(store, "train", site=site, **drawn)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_one_model_everywhere_after_every_round(tmp_path, strategy, norm):
    loop = consortium(tmp_path, changes={"strategy": strategy, "norm": norm, "local_steps": 2, "epochs": 4})
    final = loop.run()
    digests = {client: _digests(loop, client) for client in ("local0", "local1", "remote")}
    assert digests["local0"] == digests["local1"] == digests["remote"]
    assert sorted(digests["remote"]) == list(range(1, final["rounds"] + 1))
    assert len(set(digests["remote"].values())) == final["rounds"]
    assert {site["model_digest"] for site in final["sites"].values()} == {final["model_digest"]}


def test_a_tampered_site_stops_the_run_and_is_named(tmp_path):
    def tamper(loop, client, iteration):
        if (client, iteration) == ("local1", 4):
            trainer = loop.handlers["local1"]._run.trainer
            values = np.array(trainer.vector())
            values[0] = np.nextafter(values[0], np.inf, dtype=values.dtype)
            trainer.load_vector(values)

    with pytest.raises(ConsensusError, match="the model of site local1") as caught:
        consortium(tmp_path).run(tamper)
    assert "local0" not in caught.value.public


@pytest.mark.parametrize("sites", [2, 4])
@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize(("optimizer", "largest"), [("adamw", 2), ("sgd", 2), ("sgd", 3)])
def test_gradient_mean_equals_one_pooled_machine(tmp_path, sites, precision, tolerance, optimizer, largest):
    """The oracle is plain torch: one network, one torch optimiser, the weighted mean loss over the same batches."""
    changes = {"precision": precision, "optimizer": optimizer, "norm": "group", "epochs": 3, "schedule": "constant"}
    scans = [((1, largest)[index % 2], 1, 0) for index in range(sites)]
    loop = consortium(tmp_path, sites, changes=changes, scans=scans)
    loop.run()
    settings, _ = parse({**SHORT, **changes})
    model = network.build(architecture.from_settings(settings), settings.seed, _dtype(precision))
    stores = {f"local{i}": open_store(tmp_path / "made" / f"local{i}" / "site.db") for i in range(sites)}
    samplers = {site: _sampler(store, site, settings) for site, store in stores.items()}
    weights = {site: sampler.samples for site, sampler in samplers.items()}
    # Of three scans, two are learnt from in a round and of one, one.
    portion = {site: 2 if own == 3 else 1 for site, own in weights.items()}
    _train_pooled(model, settings, samplers, weights, portion, rounds={2: 6, 3: 5}[largest])
    manifest = vector.manifest(model, "sync")
    federated = loop.handlers["local0"]._run.trainer.vector()
    wanted = vector.gather(model, manifest)
    # Adam divides by the gradient's own size. Where that is about its epsilon, the last bits of a float32 show: in one
    # weight among thousands.
    odd = 1e-3 if (precision, optimizer) == ("float32", "adamw") else 0
    near = np.isclose(federated, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max())
    assert (~near).mean() <= odd, np.flatnonzero(~near)
    np.testing.assert_allclose(federated[~near], wanted[~near], rtol=0, atol=100 * tolerance * np.abs(wanted).max())


def _dtype(precision):
    return torch.float64 if precision == "float64" else torch.float32


def _train_pooled(model, settings, samplers, weights, portion, rounds):
    kinds = {
        "adamw": lambda p: torch.optim.AdamW(p, lr=settings.learning_rate, weight_decay=settings.weight_decay),
        "sgd": lambda p: torch.optim.SGD(
            p, lr=settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
        ),
    }
    optimiser = kinds[settings.optimizer](model.parameters())
    loss = criterion(settings)
    model.train()
    for step in range(rounds):
        optimiser.zero_grad()
        for site, sampler in samplers.items():
            share = weights[site] / sum(weights.values()) / portion[site]
            for number in range(portion[site] * step, portion[site] * (step + 1)):
                batch = sampler.batch(number)
                images = batch.images.to(next(model.parameters()).dtype)
                (share * loss(model(images), batch.labels)).backward()
        optimiser.step()


def test_a_site_weighs_as_many_scans_as_it_trains_on(tmp_path):
    """Site local1 has six training scans, four of them without a label: both sites train on two."""
    loop = consortium(tmp_path, scans=[(2, 1, 1), (6, 1, 1)])
    with sqlite3.connect(loop.folder("input", "local1") / "site.db") as connection:
        connection.execute("DELETE FROM volumes WHERE kind = 'label' AND scan BETWEEN 3 AND 6")
    losses = {}

    def look(loop, client, iteration):
        if (client, iteration) == ("local0", 3):
            losses.update({name: reply["output"]["loss"] for name, now, reply in loop.log if now == 2})

    loop.run(look)
    assert losses["remote"] == pytest.approx((losses["local0"] + losses["local1"]) / 2, rel=1e-12)


def test_batch_norm_synced_is_the_mean_of_each_sites_own_statistics(tmp_path):
    """Each site normalises by its own batch, unlike pooled batch norm; what holds is the average of statistics."""
    changes = {"norm": "batch", "norm_policy": "sync", "epochs": 1, "schedule": "constant", "precision": "float64"}
    loop = consortium(tmp_path, changes=changes, scans=[(1, 0, 0), (1, 0, 0)])
    loop.run()
    settings, _ = parse({**SHORT, **changes})
    means = []
    for index in range(2):
        model = network.build(architecture.from_settings(settings), settings.seed, torch.float64)
        store = open_store(tmp_path / "made" / f"local{index}" / "site.db")
        sampler = _sampler(store, f"local{index}", settings)
        model.train()
        model(sampler.batch(0).images.double())
        means.append(next(m for m in model.modules() if isinstance(m, nn.BatchNorm3d)).running_mean)
    trainer = loop.handlers["local0"]._run.trainer
    held = next(m for m in trainer.model.modules() if isinstance(m, nn.BatchNorm3d)).running_mean
    torch.testing.assert_close(held, (means[0] + means[1]) / 2, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_runs_give_the_same_bits(tmp_path, strategy):
    digests = {consortium(tmp_path / name, changes={"strategy": strategy}).run()["model_digest"] for name in "ab"}
    assert len(digests) == 1


def test_every_arrival_order_gives_the_same_bits(tmp_path):
    """All 24 orders of four sites, one of them per round of one run, against the sorted order."""
    changes = {"epochs": 24, "validate_every": 100}
    scans = [(1, 0, 0)] * 4
    straight = consortium(tmp_path / "straight", 4, changes=changes, scans=scans)
    shuffled = consortium(tmp_path / "shuffled", 4, changes=changes, scans=scans)
    orders = iter([[f"local{i}" for i in order] for order in permutations(range(4))])

    class EveryOrder:
        def shuffle(self, sites):
            sites[:] = next(orders, sites)

    shuffled.order = EveryOrder()
    assert shuffled.run()["model_digest"] == straight.run()["model_digest"]
    assert next(orders, None) is None


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_a_restart_between_any_two_messages_changes_nothing(tmp_path, strategy, norm):
    """Every node forgets everything before every one of its calls but the first, all in one run."""
    changes = {"strategy": strategy, "norm": norm, "norm_policy": "local" if norm == "batch" else "sync", "epochs": 3}
    unbroken = consortium(tmp_path / "unbroken", changes=changes).run()

    def restart(loop, client, iteration):
        if iteration > 1:
            loop.restart(client)

    resumed = consortium(tmp_path / "resumed", changes=changes).run(restart)
    assert resumed == unbroken


def _statistics(model):
    return vector.gather(model, vector.statistics(model))


@pytest.mark.parametrize("restarting", [False, True])
def test_the_best_model_has_the_batch_norm_statistics_that_were_validated_with_it(tmp_path, monkeypatch, restarting):
    """Under `local` a site's statistics go on moving after the best round, which here is the first one validated."""
    falling = (1 / number for number in count(1))
    monkeypatch.setattr(selection, "foreground_mean", lambda values: next(falling))
    held = {}

    def look(loop, client, iteration):
        if (client, iteration) == ("local0", 4):  # the next call validates the model of round 2
            held.update(statistics=_statistics(loop.handlers[client]._run.trainer.model))
        if restarting and iteration > 1:
            loop.restart(client)

    changes = {"norm": "batch", "norm_policy": "local", "epochs": 3}
    loop = consortium(tmp_path, changes=changes)
    assert loop.run(look)["best_round"] == 2
    kept = {
        name: export.load_model(loop.folder("output", "local0") / "model" / f"{name}.json")
        for name in ("best", "final")
    }
    statistics = {name: _statistics(model) for name, (model, _) in kept.items()}
    np.testing.assert_array_equal(statistics["best"], held["statistics"])
    last = loop.handlers["local0"]._run.trainer
    np.testing.assert_array_equal(statistics["final"], _statistics(last.model))
    assert (statistics["final"] != statistics["best"]).any()
    parts = vector.parameters(last.model)
    np.testing.assert_array_equal(vector.gather(kept["final"][0], parts), vector.gather(last.model, parts))


def test_a_call_that_is_sent_again_after_a_crash_is_answered_alike(tmp_path):
    loop = consortium(tmp_path)
    replies = {}

    def twice(loop, client, iteration):
        if client == "remote" or iteration < 2:
            return
        message = replies.get(iteration)
        if message:
            first = loop.call(client, iteration, message)
            blob = (loop.folder("transfer", client) / "__cx_contribution.bin").read_bytes()
            loop.restart(client)
            again = loop.call(client, iteration, message)
            for reply in (first, again):
                reply["output"].pop("seconds", None)
            assert again == first
            assert (loop.folder("transfer", client) / "__cx_contribution.bin").read_bytes() == blob
            loop.restart(client)

    reference = consortium(tmp_path / "reference")
    wanted = reference.run()
    for client, iteration, reply in reference.log:
        if client == "remote" and iteration < 4:
            replies[iteration + 1] = reply["output"]
    loop.run(lambda *a: None)
    assert loop.log[-1][2]["output"]["model_digest"] == wanted["model_digest"]


def test_what_is_done_again_after_a_kill_is_noted_once(tmp_path):
    """Killed after a call but before its checkpoint or reply counted, a node computes the same round again."""

    class Unlucky(Trainer):
        def gradient(self, round):
            if round in (2, 4):
                raise ScanError("no scan of this round could be read")
            return super().gradient(round)

    def twice(loop, client, iteration):
        if iteration > 1 and client != "remote":
            cache = dict(loop.caches[client])  # the reply that would change it is lost
            loop.call(client, iteration, [reply["output"] for name, _, reply in loop.log if name == "remote"][-1])
            loop.caches[client] = cache
            loop.restart(client)

    def noted(loop, client):
        return notices(read(loop.folder("output", client) / "journal.jsonl"))

    loops = [consortium(tmp_path / name, make_local=lambda: local.create(Unlucky)) for name in ("unbroken", "killed")]
    for loop, between in zip(loops, (None, twice), strict=True):
        loop.run(between)
    assert any(note.kind == "skipped" and note.times == 2 for note in noted(loops[0], "local0"))
    for client in ("local0", "local1", "remote"):
        assert noted(loops[1], client) == noted(loops[0], client)


def test_a_restart_without_its_checkpoint_says_so(tmp_path):
    def lose(loop, client, iteration):
        if (client, iteration) == ("local0", 3):
            for file in (loop.folder("output", "local0") / "checkpoints").iterdir():
                file.unlink()
            loop.restart("local0")

    with pytest.raises(ResumeError, match="checkpoint"):
        consortium(tmp_path).run(lose)


def test_the_last_averaged_gradient_is_applied(tmp_path):
    loop = consortium(tmp_path, changes={"epochs": 1})
    final = loop.run()
    digests = list(_digests(loop, "local0").values())
    assert final["model_digest"] == digests[-1] != digests[-2]


def test_outputs_of_an_earlier_run_are_kept_aside(tmp_path):
    loop = consortium(tmp_path)
    first = loop.run()
    for client in loop.handlers:
        loop.restart(client)
    second = loop.run()
    assert second["model_digest"] == first["model_digest"]
    old = loop.folder("output", "local0") / "earlier-runs" / "0001"
    assert (old / "journal.jsonl").is_file() and (old / "model" / "best.safetensors").is_file()


def _beside(loop, root):
    """Return another consortium that shares only the output folders."""
    other = consortium(root)
    shutil.rmtree(other.root / "output")
    (other.root / "output").symlink_to(loop.root / "output")
    return other


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("client", ["local0", "local1"])
def test_a_run_that_lost_its_output_folder_to_another_says_so(tmp_path, client, restarted):
    loop = consortium(tmp_path / "first")
    other = _beside(loop, tmp_path / "second")

    def steal(loop, node, iteration):
        if (node, iteration) == (client, 3):
            other.call(client, 1, other.specs[client])
            if restarted:
                loop.restart(client)

    with pytest.raises(MeshNetError, match="another run has taken this node's output folder") as caught:
        loop.run(steal)
    assert str(tmp_path) not in caught.value.public
    assert loop.log[-1][:2] == ("local0" if client == "local1" else "remote", 3 if client == "local1" else 2)


def test_a_run_that_loses_its_folder_while_it_computes_leaves_no_checkpoint_there(tmp_path):
    class Robbed(Trainer):
        def gradient(self, round):
            if round == 2:
                claim.take(loop.folder("output", "local0"))
            return super().gradient(round)

    loop = consortium(tmp_path, make_local=lambda: local.create(Robbed))
    with pytest.raises(MeshNetError, match="another run"):
        loop.run()
    assert not (loop.folder("output", "local0") / "checkpoints").exists()


def test_classes_whose_names_differ_in_a_dot_alone_are_both_in_the_summary(tmp_path):
    classes = ("background", "a.b", "a_b")
    scans = {f"local{i}": database(tmp_path / "made" / f"local{i}" / "site.db", names=classes) for i in range(2)}
    specs = {site: {**SHORT, "classes": list(classes), "epochs": 1} for site in scans}
    loop = Loopback(tmp_path / "run", specs, scans)
    final = loop.run()
    page = (loop.folder("output", "remote") / "index.html").read_text()
    assert "a.b" in page
    for table in (*final["dice"].values(), final["test_dice"]):
        assert list(table) == ["background", "a_b_2", "a_b"]


@pytest.mark.parametrize("valid", [0, 1])
def test_the_page_says_what_the_best_model_is(tmp_path, valid):
    loop = consortium(tmp_path, scans=[(2, valid, 1)] * 2)
    loop.run()
    page, told = ((loop.folder("output", "local0") / name).read_text() for name in ("index.html", "model/README.md"))
    assert ("highest pooled validation Dice" in page) is bool(valid)
    assert ("nothing was validated" in page) is not bool(valid)
    assert ("chosen on the validation scans" in told) is bool(valid)


def test_a_site_ends_with_everything_promised(tmp_path):
    loop = consortium(tmp_path)
    final = loop.run()
    out = loop.folder("output", "local0")
    page = (out / "index.html").read_text()
    assert re.search(r'<th [^>]*class="code">wandb</th><td>off</td>', page)
    for name in (
        "journal.jsonl",
        "metrics.csv",
        "index.html",
        "run.log",
        "model/final.safetensors",
        "model/final.json",
        "model/best.safetensors",
        "model/best.json",
    ):
        assert (out / name).stat().st_size > 0, name
    assert len(list((out / "predictions").glob("*.nii.gz"))) == 1
    assert not [file.name for file in out.iterdir() if file.name.startswith(payload.PREFIX)]
    assert final["dice"]["pooled"].keys() == {"background", "white matter", "grey matter"}
    assert {"local0", "local1"} <= final["dice"].keys()
