"""One site's learning: against plain PyTorch, against itself after a restart, and when things go wrong."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from computation.errors import DeviceError, ScanError, StoreError
from computation.model import vector
from computation.model.network import build
from computation.scans.drawing.sampling import Batch
from computation.training import checkpoint
from computation.training.device import choose
from computation.training.faults import NotFiniteError
from computation.training.loss import criterion
from computation.training.metrics import Counts


class Fixed:
    """A sampler of given batches."""

    def __init__(self, batches, fails=()):
        self.batches, self.fails = batches, fails
        self.samples = sum(len(batch.scans) for batch in batches)
        self.steps_per_epoch = len(batches)

    def batch(self, step):
        if step in self.fails:
            raise ScanError("damaged", f"batch {step}")
        return self.batches[step % len(self.batches)]


def _batch(samples, seed, side=6):
    stream = torch.Generator().manual_seed(seed)
    images = torch.randn(samples, 1, side, side, side, generator=stream)
    return Batch(images, (images[:, 0] > 0).long() + (images[:, 0] > 1).long(), tuple(range(samples)), ())


def _join(*batches):
    return Batch(
        torch.cat([b.images for b in batches]),
        torch.cat([b.labels for b in batches]),
        sum((b.scans for b in batches), ()),
        (),
    )


def test_gradient_is_plain_pytorchs(trainer):
    batch = _batch(2, 0)
    ours = trainer(sampler=Fixed([batch]), precision="float64", norm="batch")
    result = ours.gradient(1)
    model = build(ours.architecture, 3, torch.float64)
    loss = criterion(ours.settings)(model(batch.images.double()), batch.labels)
    loss.backward()
    expected = np.concatenate([p.grad.numpy().ravel() for p in model.parameters()])
    size = expected.size
    assert result.loss == pytest.approx(loss.item(), rel=1e-12)
    np.testing.assert_allclose(result.vector[:size], expected, rtol=1e-9, atol=1e-12)
    statistics = vector.gather(model, vector.statistics(model))
    np.testing.assert_allclose(result.vector[size:], statistics, rtol=1e-9, atol=1e-12)
    assert (result.samples, result.batches, result.skipped) == (2, 1, ())


def test_gradient_leaves_model_and_optimiser_alone(trainer):
    ours = trainer(norm="batch")
    arrays, _ = ours.state()
    before = {name: array.copy() for name, array in arrays.items()}
    first, second = ours.gradient(1), ours.gradient(1)
    assert all(np.array_equal(before[name], array) for name, array in ours.state()[0].items())
    assert np.array_equal(first.vector, second.vector)
    assert np.array_equal(vector.gather(ours.model, ours.manifest), ours.vector())


@pytest.mark.parametrize("norm", ["group", "none"])
@pytest.mark.parametrize("weights", [(), (0.5, 1.0, 2.0)])
def test_accumulated_gradient_is_that_of_the_large_batch(trainer, norm, weights):
    """Micro-batches of different sizes, weighted by their samples, equal one batch of all the samples."""
    parts = [_batch(1, 0), _batch(3, 1), _batch(2, 2)]
    options = {"precision": "float64", "norm": norm, "class_weights": weights}
    many = trainer(sampler=Fixed(parts), local_steps=3, **options).gradient(1)
    one = trainer(sampler=Fixed([_join(*parts)]), **options).gradient(1)
    assert (many.samples, many.batches) == (6, 3)
    assert many.loss == pytest.approx(one.loss, rel=1e-12)
    np.testing.assert_allclose(many.vector, one.vector, rtol=1e-9, atol=1e-13)


def test_accumulated_batch_norm_is_what_it_is(trainer):
    """With batch norm the large batch shares its statistics, so accumulation differs: stated here, not hidden."""
    parts = [_batch(2, 0), _batch(2, 1)]
    many = trainer(sampler=Fixed(parts), local_steps=2, precision="float64", norm="batch").gradient(1)
    one = trainer(sampler=Fixed([_join(*parts)]), precision="float64", norm="batch").gradient(1)
    assert np.abs(many.vector - one.vector).max() > 1e-4


def test_rounds_take_consecutive_batches(trainer):
    batches = [_batch(1, seed) for seed in range(6)]
    ours = trainer(sampler=Fixed(batches), local_steps=2, precision="float64")
    pairs = trainer(sampler=Fixed(batches[2:4]), local_steps=2, precision="float64")
    assert np.array_equal(ours.gradient(2).vector, pairs.gradient(1).vector)


@pytest.mark.parametrize("proximal", [0.0, 0.5])
def test_local_steps_equal_pytorchs_optimiser_with_a_term_in_the_loss_or_without(trainer, proximal):
    batches = [_batch(1, seed) for seed in range(3)]
    options = {"precision": "float64", "norm": "group", "optimizer": "sgd", "weight_decay": 0.01}
    ours = trainer(sampler=Fixed(batches), local_steps=3, **options)
    start = ours.vector()
    result = ours.local_steps(2, lambda values, gradient: gradient + proximal * (values - start))
    model = build(ours.architecture, 3, torch.float64)
    common = [parameter.detach().clone() for parameter in model.parameters()]
    oracle = torch.optim.SGD(model.parameters(), lr=ours.rate(2), momentum=0.9, weight_decay=0.01)
    losses = []
    for batch in batches:
        oracle.zero_grad()
        loss = criterion(ours.settings)(model(batch.images.double()), batch.labels)
        away = sum(((one - two) ** 2).sum() for one, two in zip(model.parameters(), common, strict=True))
        (loss + proximal / 2 * away).backward()
        oracle.step()
        losses.append(loss.item())
    assert result.loss == pytest.approx(sum(losses) / 3, rel=1e-9)
    np.testing.assert_allclose(ours.vector(), vector.gather(model, ours.manifest), rtol=1e-8, atol=1e-10)


def test_local_steps_carry_batch_statistics(trainer):
    ours = trainer(sampler=Fixed([_batch(2, 0), _batch(2, 1)]), local_steps=2, norm="batch")
    before = ours.vector()
    ours.local_steps(1)
    mean = ours.manifest.slices["layers.0.norm.running_mean"]
    assert not np.array_equal(before[mean], ours.vector()[mean])
    assert np.array_equal(vector.gather(ours.model, ours.manifest), ours.vector())


def test_local_policy_keeps_statistics_at_the_site(trainer):
    ours = trainer(sampler=Fixed([_batch(2, 0)]), norm="batch", norm_policy="local")
    digest = ours.digest()
    ours.gradient(1)
    assert ours.digest() == digest
    kept = ours.model.layers[0].norm.running_mean.clone()
    assert kept.any()
    ours.load_vector(ours.vector().copy())
    assert torch.equal(ours.model.layers[0].norm.running_mean, kept)


def test_frozen_policy_never_moves_statistics(trainer):
    ours = trainer(sampler=Fixed([_batch(2, 0)]), norm="batch", norm_policy="frozen", local_steps=1)
    ours.local_steps(1)
    assert not ours.model.layers[0].norm.running_mean.any()


@pytest.mark.parametrize("verb", ["gradient", "local_steps"])
def test_two_sites_draw_differently_and_one_site_always_alike(trainer, memory_store, verb):
    options = {"dropout": 0.25, "model": "meshnet-8x21"}

    def run(site):
        ours = trainer(memory_store(), site=site, **options)
        result = getattr(ours, verb)(1)
        return result.vector if verb == "gradient" else ours.vector()

    assert np.array_equal(run("local0"), run("local0"))
    assert not np.array_equal(run("local0"), run("local1"))


def test_dropout_differs_from_batch_to_batch_and_touches_no_global_stream(trainer):
    same = _batch(1, 0)
    ours = trainer(sampler=Fixed([same]), dropout=0.5)
    state = torch.get_rng_state()
    first, second = ours.gradient(1), ours.gradient(2)
    assert not np.array_equal(first.vector, second.vector)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("verb", ["gradient", "local_steps"])
@pytest.mark.parametrize(
    "options",
    [
        {"norm": "batch", "norm_policy": "sync"},
        {"norm": "batch", "norm_policy": "local", "optimizer": "rmsprop"},
        {"norm": "group", "dropout": 0.2, "optimizer": "sgd"},
    ],
)
def test_a_killed_trainer_goes_on_with_the_unbroken_bits(tmp_path, trainer, verb, options):
    def play(kill):
        ours = trainer(local_steps=2, **options)
        for round in range(1, 6):
            if verb == "gradient":
                ours.apply_gradient(ours.gradient(round).vector, round)
            else:
                ours.local_steps(round)
            checkpoint.save(tmp_path, round, *ours.state())
            if round == kill:
                ours = trainer(local_steps=2, **options)
                ours.load_state(*checkpoint.load(tmp_path, round))
        return ours.digest(), ours.evaluate("valid").intersection.tolist()

    assert play(kill=3) == play(kill=None)


def test_learning_lowers_the_loss(trainer):
    ours = trainer(rounds=60, patch_size=(0, 0, 0))
    losses = []
    for round in range(1, 61):
        result = ours.gradient(round)
        ours.apply_gradient(result.vector, round)
        losses.append(result.loss)
    assert losses[-1] < 0.6 * losses[0]


def test_deadline_keeps_the_batches_that_are_done(trainer):
    times = iter(range(100))
    ours = trainer(sampler=Fixed([_batch(1, s) for s in range(5)]), local_steps=5, clock=lambda: next(times))
    ours.deadline = 2
    assert ours.gradient(1).batches == 3
    ours.deadline = 0
    assert ours.gradient(1).batches == 1
    ours.deadline = None
    assert ours.gradient(1).batches == 5


def test_bad_scans_are_left_out_and_counted(trainer, memory_store):
    store = memory_store()
    store.bad = {1}
    ours = trainer(store, batch_size=3)
    result = ours.gradient(1)
    assert result.samples == 2
    assert [(item.scan, item.reason) for item in result.skipped] == [(1, "checksum-mismatch")]
    assert ours.skipped == list(result.skipped)
    alone = trainer(store, local_steps=3)
    result = alone.gradient(1)
    assert (result.samples, result.batches) == (2, 2)
    assert [item.reason for item in result.skipped] == ["checksum-mismatch"]


@pytest.mark.parametrize("verb", ["gradient", "local_steps"])
def test_a_round_without_a_readable_scan_is_a_scan_error(trainer, memory_store, verb):
    store = memory_store()
    store.bad = {1, 2, 3}
    ours = trainer(store, local_steps=1)
    before = ours.vector()
    with pytest.raises(ScanError, match="no scan of round 1") as caught:
        getattr(ours, verb)(1)
    assert type(caught.value) is ScanError
    assert "sub-" not in caught.value.public
    assert np.array_equal(ours.vector(), before)
    store.bad = set()
    getattr(ours, verb)(1)
    assert not ours.skipped


@pytest.mark.parametrize("verb", ["gradient", "local_steps"])
def test_more_than_half_of_the_scans_unreadable_is_too_many(trainer, memory_store, verb):
    store = memory_store()
    store.bad = {1, 2, 3}
    with pytest.raises(StoreError, match=r"2 of 3 scans cannot be read, more than the share of 0\.5"):
        getattr(trainer(store, local_steps=2), verb)(1)


def test_labels_outside_the_classes_never_reach_the_device(trainer, memory_store):
    store = memory_store(splits=("train", "valid"))
    store.relabel(1, np.full((12, 11, 10), 3, np.uint8))
    with pytest.raises(ScanError):
        trainer(store).gradient(1)


@pytest.mark.parametrize("verb", ["gradient", "local_steps"])
def test_what_is_not_finite_is_named_and_skippable(trainer, verb):
    batch = _batch(1, 0)
    batch.images[0, 0, 0, 0, 0] = math.nan
    ours = trainer(sampler=Fixed([_batch(1, 1), batch]), local_steps=2)
    before = ours.vector()
    with pytest.raises(NotFiniteError) as caught:
        getattr(ours, verb)(1)
    assert caught.value.reason == "not-finite"
    assert np.array_equal(ours.vector(), before)
    assert np.array_equal(vector.gather(ours.model, ours.manifest), before)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB at /secret/path"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
        MemoryError(),
    ],
)
def test_a_full_device_is_a_device_error(trainer, monkeypatch, error):
    ours = trainer()

    def fail(*_):
        raise error

    monkeypatch.setattr(ours, "_loss", fail)
    with pytest.raises(DeviceError, match="out of memory; choose a smaller patch_size") as caught:
        ours.gradient(1)
    assert "secret" not in caught.value.public


def test_a_real_allocation_failure_is_recognised(trainer, monkeypatch):
    ours = trainer()
    monkeypatch.setattr(ours, "_loss", lambda scores, labels: torch.empty(2**60))
    with pytest.raises(DeviceError):
        ours.gradient(1)


def test_other_errors_pass_through(trainer, monkeypatch):
    ours = trainer()
    monkeypatch.setattr(ours, "_loss", lambda scores, labels: scores @ scores)
    with pytest.raises(RuntimeError):
        ours.gradient(1)


def test_device_that_is_not_there(trainer):
    ours = trainer()
    count = torch.cuda.device_count()
    with pytest.raises(DeviceError, match="this machine has"):
        choose(f"cuda:{count}")
    assert choose("auto").type == ("cuda" if count else "cpu")
    assert ours.device.type == "cpu"


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
def test_precisions_agree_roughly(trainer, precision):
    options = {"sampler": Fixed([_batch(2, 0, side=8)]), "model": "meshnet-10x8"}
    reference = trainer(precision="float64", **options).gradient(1)
    result = trainer(precision=precision, **options).gradient(1)
    tolerance = {"float32": 1e-4, "bfloat16": 0.1, "float64": 0}[precision]
    assert result.loss == pytest.approx(reference.loss, rel=tolerance)
    difference = np.linalg.norm(result.vector - reference.vector) / np.linalg.norm(reference.vector)
    assert difference <= tolerance


def test_evaluation_counts_are_numpys(trainer, store):
    ours = trainer(store, patch_size=(0, 0, 0))
    counts = ours.evaluate("train")
    expected = Counts.none(3)
    for scan in store.scans("train"):
        image, truth = store.voxels(scan.key)
        with torch.no_grad():
            scores = ours.model.eval()(torch.from_numpy(image)[None, None])
        expected += Counts.of(scores[0].argmax(0).numpy(), truth, 3)
    assert np.array_equal(counts.intersection, expected.intersection)
    assert np.array_equal(counts.predicted, expected.predicted)
    assert np.array_equal(counts.truth, expected.truth)
    assert counts.scans == 3


def test_evaluation_changes_nothing(trainer):
    ours = trainer(norm="batch")
    expected = ours.gradient(1).vector
    ours.evaluate("valid")
    assert np.array_equal(ours.gradient(1).vector, expected)


def test_evaluation_leaves_out_what_cannot_be_read(trainer, store):
    ours = trainer(store)
    store.bad = {2}
    counts = ours.evaluate("train")
    assert (counts.scans, counts.skipped) == (2, (2,))
    store.bad = {4}
    with pytest.raises(ScanError, match="none of the 1 scans of split 'valid'"):
        ours.evaluate("valid")


def test_evaluation_of_an_empty_part_is_none(trainer, memory_store):
    assert trainer(memory_store(splits=("train",))).evaluate("test") is None


def test_sampler_is_the_stores(trainer, store):
    ours = trainer(store, batch_size=2)
    assert (ours.samples, ours.steps_per_epoch) == (3, 2)
    assert dataclasses.is_dataclass(ours.gradient(1))


def test_smaller_tiles_than_planned_are_told(trainer, memory_store):
    ours = trainer(memory_store(splits=("train", "valid"), shape=(66, 8, 8)), norm="batch")
    ours.model.register_forward_pre_hook(_too_large)
    assert ours.evaluate("valid").scans == 1
    assert ours.fallbacks == {"tiles of 66 voxels a side did not fit into the device's memory; smaller ones were used"}


def _too_large(module, inputs):
    if max(inputs[0].shape) > 64:
        raise torch.OutOfMemoryError("CUDA out of memory")
