"""The script that measures a GPU runs without one, and its arithmetic is right."""

import csv
import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("benchmarks_gpu", ROOT / "benchmarks/gpu.py")
gpu = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = gpu
SPEC.loader.exec_module(gpu)

ARMS = ["product", "tf32 trials channels_last", "bf16", "compile", "graph"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("gpu") / "gpu.csv"
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu", "--device", "cpu", "--quick", "--csv", path]
    done = subprocess.run([*command, "--arms", *ARMS], cwd=ROOT, capture_output=True, text=True, check=True)
    with path.open() as file:
        next(file)
        return list(csv.DictReader(file)), done.stdout


def test_every_arm_is_measured_or_says_why_not(table):
    rows, said = table
    assert {(row["what"], row["arm"]) for row in rows} == {(what, a) for what in ("step", "inference") for a in ARMS}
    assert "native kernels off" in said
    for row in rows:
        if row["arm"] == "graph":
            assert row["failed"] == "RuntimeError: CUDA graphs need CUDA"
        else:
            assert not row["failed"], row
            assert math.isfinite(float(row["seconds"])) and float(row["seconds"]) > 0


def test_every_arm_computes_the_products_gradient(table):
    apart = {row["arm"]: float(row["gradient apart"]) for row in table[0] if row["what"] == "step" and row["seconds"]}
    assert apart["product"] == 0
    assert apart["tf32 trials channels_last"] < 1e-4
    assert apart["compile"] < 1e-4
    assert 0 < apart["bf16"] < 0.1


@pytest.mark.parametrize("what", ["step", "inference"])
@pytest.mark.parametrize("channels", [5, 16])
def test_the_work_is_what_pytorch_counts(monkeypatch, what, channels):
    monkeypatch.setattr(gpu.native, "obstacle", lambda x: "PyTorch counts only its own operators")
    case, arm = gpu.Case(what, channels, 4), gpu.ARMS[0]
    run = gpu.Run(torch.device("cpu"), 0, 1, "", 1.0)
    call = gpu.call_of(case, arm, run, gpu.network(case, arm, run.device))
    with FlopCounterMode(display=False) as counter:
        call()
    assert counter.get_total_flops() == gpu.work(case)


def test_bytes_are_those_of_the_passes_written_down():
    """Counted pass by pass, for 9 layers of 5 channels, 3 classes, in values for each voxel."""
    forward = 1 + 5 + 8 * (5 + 5) + 5 + 3
    hidden = 8 * (2 * 5 + 4 * 5)
    first = 2 * 5 + 2 * 5 + 1
    head = 3 + 5 + 5
    inference, step = (gpu.Case(what, 5, 10) for what in ("inference", "step"))
    assert gpu.moved(inference, 4) == 4 * 1000 * forward
    assert gpu.moved(step, 4) == 1000 * (4 * (forward + 2 * 3 + head + hidden + first) + 8)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 1
    assert "this machine has 0 GPUs" in done.stderr
