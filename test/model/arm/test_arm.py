"""The kernels on 64-bit ARM: compiled by a cross compiler, run by an emulator, compared with PyTorch.

Needs Debian's g++-aarch64-linux-gnu and qemu-user; skipped where they are not installed.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from computation.model.native import build

COMPILER, EMULATOR = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")
HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(not (COMPILER and EMULATOR), reason="no cross compiler and emulator for ARM")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile every unit with the flags of the package's own build; on ARM it adds none."""
    made = tmp_path_factory.mktemp("arm") / "convolve"
    sources = [HERE / "convolve.cpp", *(build.FOLDER / unit for unit in build.UNITS)]
    command = [COMPILER, *build.FLAGS, f"-I{build.FOLDER}", "-static", *sources, "-o", made]
    subprocess.run([*map(str, command)], check=True, capture_output=True, timeout=600)
    return made


@pytest.mark.parametrize("shape", [(1, 1, 5, 9, 10, 11, 1), (2, 5, 5, 7, 12, 17, 2), (1, 8, 3, 6, 5, 20, 4)])
def test_convolution_equals_torch(program: Path, shape: tuple[int, ...]) -> None:
    batch, channels, out, *sides, dilation = shape
    torch.manual_seed(0)
    x = torch.randn(batch, channels, *sides, requires_grad=True)
    weight = torch.randn(out, channels, 3, 3, 3, requires_grad=True)
    bias, grad = torch.randn(out, requires_grad=True), torch.randn(batch, out, *sides)
    wanted = torch.nn.functional.conv3d(x, weight, bias, padding=dilation, dilation=dilation)
    gradients = torch.autograd.grad(wanted, (x, weight, bias), grad)

    told = np.array([*shape, 3], np.int64).tobytes()
    told += b"".join(value.detach().numpy().tobytes() for value in (x, weight, bias, grad))
    done = subprocess.run([str(EMULATOR), str(program)], input=told, capture_output=True, check=True, timeout=300)
    at = 0
    for value, kind in zip((wanted, *gradients), (np.float32, np.float32, np.float64, np.float64), strict=True):
        found = np.frombuffer(done.stdout, kind, value.numel(), at).reshape(value.shape)
        at += found.nbytes
        scale = float(value.detach().abs().max())
        np.testing.assert_allclose(found, value.detach().numpy(), atol=1e-5 * scale, rtol=0)
    assert at == len(done.stdout)
