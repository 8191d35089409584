"""Devices: which one and why, its arithmetic, and what happens when it is full; all on the CPU's semantics."""

import resource
import sys
import weakref
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from computation.errors import DeviceError
from computation.scans.drawing.sampling import Batch
from computation.strategies.base import Combined
from computation.strategies.gradient_mean import GradientMean
from computation.training.device import arithmetic, choose, computing, decide

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")


class One:
    """A sampler of one batch of blocks with noise."""

    samples = steps_per_epoch = 1

    def __init__(self, seed=0, side=16):
        stream = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, 3, (1, side // 4, side // 4, side // 4), generator=stream)
        for axis in (1, 2, 3):
            labels = labels.repeat_interleave(4, axis)
        images = labels[:, None] / 2 + 0.1 * torch.randn(1, 1, side, side, side, generator=stream)
        self.whole = Batch(images, labels, (1,), ())

    def batch(self, step):
        return self.whole


@pytest.fixture
def pretended(monkeypatch):
    """Make PyTorch say that there is one GPU; that it refuses to compute is real."""
    if torch.cuda.is_available():
        pytest.skip("there is a real GPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


def test_the_cpu_is_taken_as_asked():
    assert decide("cpu").device == CPU
    assert decide("cpu").reason == "cpu: set so"
    assert not decide("cpu").fallback


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real GPU")
def test_auto_without_a_gpu_says_why_and_is_no_fallback():
    found = decide("auto")
    assert (found.device, found.fallback) == (CPU, False)
    assert found.reason.startswith("cpu: this machine has 0 GPUs")


def test_auto_with_a_gpu_that_refuses_is_a_fallback_and_says_so(pretended):
    found = decide("auto")
    assert (found.device, found.fallback) == (CPU, True)
    assert found.reason == "cpu: GPU 0 refuses to compute (AssertionError)"


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_gpu_asked_for_by_name_is_never_replaced(pretended, name):
    with pytest.raises(DeviceError, match="refuses to compute") as caught:
        choose(name)
    assert 'set "device" to "auto"' in caught.value.public
    assert caught.value.private and caught.value.private not in caught.value.public


def test_a_gpu_beyond_the_last_is_not_there(pretended):
    with pytest.raises(DeviceError, match=r"this machine has 1 GPU[,;]"):
        choose("cuda:1")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:²", "mps", "0", ""])
def test_what_is_no_device_is_told(name):
    with pytest.raises(DeviceError, match="wanted auto, cpu, cuda or cuda:N"):
        choose(name)


def test_the_flags_of_a_gpu_are_those_that_are_written_down():
    flags = torch.backends.cudnn
    before = (flags.enabled, flags.benchmark, flags.deterministic, flags.allow_tf32)
    with computing(GPU):
        assert (flags.enabled, flags.benchmark, flags.deterministic, flags.allow_tf32) == (True, False, True, False)
        assert not torch.backends.cuda.matmul.allow_tf32
    assert (flags.enabled, flags.benchmark, flags.deterministic, flags.allow_tf32) == before


def test_arithmetic_is_told():
    assert arithmetic(CPU, "float32") == "float32"
    assert arithmetic(CPU, "bfloat16") == "bfloat16 autocast, without the native kernels"


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_bfloat16_is_near_float32_in_loss_gradient_and_statistics(trainer, norm):
    results = {
        precision: trainer(precision=precision, sampler=One(), norm=norm, model="meshnet-10x8").gradient(1)
        for precision in ("float32", "bfloat16")
    }
    exact, rough = results["float32"], results["bfloat16"]
    assert rough.vector.dtype == np.float32
    assert not np.array_equal(rough.vector, exact.vector)
    # bfloat16 has 8 bits: one rounding is off by up to 0.4 %, and a step rounds some twenty times on the way.
    assert rough.loss == pytest.approx(exact.loss, rel=0.01)
    assert np.linalg.norm(rough.vector - exact.vector) <= 0.05 * np.linalg.norm(exact.vector)


def test_normalisation_statistics_are_summed_in_float32_under_autocast(trainer):
    """Summed in bfloat16, 4096 values around 8 would stop growing at 2048."""
    norm = trainer(norm="batch").model.train().layers[0].norm
    volume = (8 + torch.randn(1, 5, 16, 16, 16, generator=torch.Generator().manual_seed(0))).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        norm(volume)
    assert norm.running_mean.dtype == torch.float32
    wanted = norm.momentum * volume.double().mean((0, 2, 3, 4))
    torch.testing.assert_close(norm.running_mean.double(), wanted, rtol=1e-6, atol=0)


def test_the_loss_is_computed_in_float32_under_autocast(trainer):
    ours = trainer(precision="bfloat16", sampler=One())
    seen = []
    plain = ours._loss
    ours._loss = lambda scores, labels: seen.append(plain(scores, labels)) or seen[-1]
    ours.gradient(1)
    assert seen[0].dtype == torch.float64


def test_sites_of_different_arithmetic_hold_one_model(trainer):
    """Their gradients differ in bits even on one batch; the combined vector decides, so the models do not."""
    sites = [trainer(precision=precision, sampler=One()) for precision in ("float32", "bfloat16")]
    strategy = GradientMean()
    for round in range(1, 4):
        offers = [strategy.contribute(site, round) for site in sites]
        assert not np.array_equal(offers[0][0], offers[1][0])
        mean = ((offers[0][0].astype(float) + offers[1][0]) / 2).astype(np.float32)
        for site in sites:
            strategy.apply(site, Combined(round, ("a", "b"), 0.0, mean))
        assert sites[0].digest() == sites[1].digest()


@pytest.mark.parametrize(
    "said",
    ["CUDA error: out of memory", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED when calling"],
)
def test_libraries_words_for_a_full_gpu_are_known(said):
    with pytest.raises(DeviceError, match="ran out of memory"), computing(CPU):
        raise RuntimeError(said)


def test_a_full_device_gets_its_activations_back_while_the_error_is_held(trainer, monkeypatch):
    """The graph of the pass that failed hangs on the error's traceback, and a GPU would stay full."""
    ours, held = trainer(sampler=One()), []

    def full(scores, labels):
        held.append(weakref.ref(scores))
        # The class that CUDA's allocator raises; the CPU's own never does.
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(ours, "_loss", full)
    with pytest.raises(DeviceError) as caught:
        ours.gradient(1)
    assert held[0]() is None
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


@contextmanager
def room_for(size):
    """Let this process have `size` more bytes than it has now."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (held + size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own file")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_that_truly_runs_out_of_memory_leaves_a_trainer_that_works(trainer, precision):
    # Layers of more than 32 MiB: smaller ones malloc might find among what other tests gave back.
    large, small = One(side=128), One()
    ours = trainer(sampler=large, precision=precision)
    with room_for(8 << 20), pytest.raises(DeviceError, match="ran out of memory") as caught:
        ours.gradient(1)
    assert "allocate memory" in caught.value.private
    ours._sampler = small
    fresh = trainer(sampler=small, precision=precision)
    assert np.array_equal(ours.gradient(1).vector, fresh.gradient(1).vector)
