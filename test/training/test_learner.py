"""The centre's replica: one vector, stepped like every site's."""

import dataclasses
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

from computation.errors import ModelError, ResumeError
from computation.model import architecture, vector
from computation.model.network import build
from computation.settings import Settings
from computation.training import checkpoint
from computation.training.faults import NotFiniteError
from computation.training.learner import Learner
from computation.wire import payload


def make_learner(rounds=20, **changes):
    settings = dataclasses.replace(Settings(), **{"model": "meshnet-10x5", **changes})
    return Learner(architecture.from_settings(settings), settings, rounds)


def _gradients(learner, count, seed=0):
    generator = np.random.default_rng(seed)
    return [np.abs(generator.normal(size=learner.manifest.size)).astype(learner.dtype) for _ in range(count)]


def test_starts_from_the_seed():
    learner = make_learner(seed=5)
    model = build(learner.architecture, 5)
    assert np.array_equal(learner.vector(), vector.gather(model, vector.manifest(model, "sync")))
    assert learner.digest() == make_learner(seed=5).digest() != make_learner(seed=6).digest()
    assert learner.digest() == payload.digest(learner.manifest, learner.vector())


@pytest.mark.parametrize(("precision", "dtype"), [("float32", "f4"), ("bfloat16", "f4"), ("float64", "f8")])
def test_dtype_follows_the_precision(precision, dtype):
    learner = make_learner(precision=precision)
    assert learner.dtype == learner.vector().dtype == np.dtype(dtype)


@pytest.mark.parametrize("name", ["adamw", "sgd", "rmsprop"])
def test_a_run_equals_pytorchs_optimiser_and_schedule_in_float64(name):
    learner = make_learner(optimizer=name, precision="float64", norm="group", learning_rate=0.01, weight_decay=1e-3)
    parameter = torch.nn.Parameter(torch.from_numpy(learner.vector().copy()))
    make = {
        "adamw": lambda: torch.optim.AdamW([parameter], lr=0.01, weight_decay=1e-3),
        "sgd": lambda: torch.optim.SGD([parameter], lr=0.01, momentum=0.9, weight_decay=1e-3),
        "rmsprop": lambda: torch.optim.RMSprop([parameter], lr=0.01, weight_decay=1e-3),
    }
    oracle = make[name]()
    # Cycling the momentum is PyTorch's extra; the peak of the rate is the same.
    schedule = torch.optim.lr_scheduler.OneCycleLR(oracle, 0.01, total_steps=20, cycle_momentum=False)
    for round, gradient in enumerate(_gradients(learner, 20), 1):
        learner.apply_gradient(gradient, round)
        parameter.grad = torch.from_numpy(gradient)
        oracle.step()
        if round < 20:
            schedule.step()
    np.testing.assert_allclose(learner.vector(), parameter.detach().numpy(), rtol=1e-10, atol=1e-12)


def test_statistics_are_taken_over_and_not_stepped():
    learner = make_learner(norm="batch")
    mean = _gradients(learner, 1)[0]
    learner.apply_gradient(mean, 1)
    assert np.array_equal(learner.vector()[5688:], mean[5688:])
    assert not np.array_equal(learner.vector()[:5688], mean[:5688])


def test_network_follows_the_vector():
    learner = make_learner(norm="batch")
    learner.apply_gradient(_gradients(learner, 1)[0], 1)
    assert np.array_equal(vector.gather(learner.model, learner.manifest), learner.vector())
    learner.load_vector(make_learner(norm="batch", seed=9).vector())
    assert np.array_equal(vector.gather(learner.model, learner.manifest), learner.vector())


def test_vectors_are_snapshots():
    learner = make_learner()
    before = learner.vector()
    copy = before.copy()
    learner.apply_gradient(_gradients(learner, 1)[0], 1)
    assert np.array_equal(before, copy)
    values = copy.copy()
    learner.load_vector(values)
    digest = learner.digest()
    values[0] += 1
    assert learner.digest() == digest == payload.digest(learner.manifest, learner.vector())


@pytest.mark.parametrize("policy", ["sync", "local", "frozen"])
def test_policy_decides_what_travels(policy):
    learner = make_learner(norm="batch", norm_policy=policy)
    assert learner.manifest.size == 5688 + (90 if policy == "sync" else 0)
    norm = learner.model.train().layers[0].norm
    assert norm.training == (policy != "frozen")


def test_wrong_vectors_are_refused():
    learner = make_learner(norm="batch")
    with pytest.raises(ModelError, match="float64; wanted float32"):
        learner.load_vector(learner.vector().astype(np.float64))
    with pytest.raises(ModelError, match="holds 4 values"):
        learner.load_vector(np.zeros(4, np.float32))
    negative = _gradients(learner, 1)[0]
    negative[-1] = -1
    digest = learner.digest()
    with pytest.raises(ModelError, match="variance"):
        learner.apply_gradient(negative, 1)
    assert learner.digest() == digest


def test_a_step_out_of_range_is_named():
    learner = make_learner(optimizer="sgd", learning_rate=10.0, schedule="constant")
    learner.apply_gradient(np.full(learner.manifest.size, 1e38, np.float32) / 100, 1)
    with pytest.raises(NotFiniteError, match="round 2"):
        learner.apply_gradient(np.full(learner.manifest.size, 3e38, np.float32), 2)


@pytest.mark.parametrize("name", ["adamw", "sgd", "rmsprop"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_restart_ends_in_the_unbroken_bits(tmp_path, name, precision):
    unbroken, broken = (make_learner(optimizer=name, precision=precision, norm="batch") for _ in range(2))
    for round, gradient in enumerate(_gradients(unbroken, 8), 1):
        unbroken.apply_gradient(gradient, round)
        broken.apply_gradient(gradient, round)
        if round == 4:
            checkpoint.save(tmp_path, round, *broken.state())
            broken = make_learner(optimizer=name, precision=precision, norm="batch")
            broken.load_state(*checkpoint.load(tmp_path, round))
    assert broken.digest() == unbroken.digest()


def test_statistics_of_a_site_survive_a_restart():
    learner, again = (make_learner(norm="batch", norm_policy="local") for _ in range(2))
    learner.model.layers[2].norm.running_mean.fill_(0.5)
    again.load_state(*learner.state())
    assert float(again.model.layers[2].norm.running_mean[0]) == 0.5


def test_a_strange_state_is_refused():
    learner = make_learner()
    arrays, values = learner.state()
    for broken in ({}, {"model": arrays["model"]}, {**arrays, "model": arrays["model"][:-1]}):
        with pytest.raises(ResumeError):
            make_learner().load_state(broken, values)
    with pytest.raises(ResumeError, match="digest"):
        make_learner().load_state(arrays, {"digest": "0" * 64})


STEPS = """
import resource
import numpy as np
from computation.model import architecture
from computation.settings import Settings
from computation.training.learner import Learner

settings = Settings(model="meshnet-10x30", norm="batch")
learner = Learner(architecture.from_settings(settings), settings, 100)
gradient = np.full(learner.manifest.size, 1e-3, learner.dtype)
for round in range(1, 31):
    if round == 11:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    learner.apply_gradient(gradient, round)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="NOT TESTED: how memory is kept, which is glibc's here")
def test_a_step_takes_the_memory_of_the_one_before():
    # A process of its own: what has trained here before has settled it already.
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True, timeout=120)
    assert int(done.stdout) < 20 * 100, "pages that twenty steps had to ask the system for"
