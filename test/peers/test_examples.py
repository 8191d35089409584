"""The networks of the examples have the published sizes; each example learns, by two processes as by one."""

import gzip
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from computation.errors import PeersError
from computation.model.network import parameter_count
from peers.examples import data, unet
from peers.examples.cnn import simple_cnn
from peers.examples.unet import UNet

ROOT = Path(__file__).parents[2]


def test_the_small_network_has_the_published_parameters():
    assert parameter_count(simple_cnn()) == 1_199_882
    assert simple_cnn()(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_the_unet_has_the_published_parameters():
    assert parameter_count(UNet(97)) == 8_660_513
    assert UNet(3, width=4, levels=3)(torch.zeros(1, 3, 12, 8)).shape == (1, 1, 12, 8)


def test_made_data_are_of_their_seed_and_normal():
    one, again, other = (data.slices(3, 10, seed) for seed in (0, 0, 1))
    assert torch.equal(one.tensors[0], again.tensors[0])
    assert not torch.equal(one.tensors[0], other.tensors[0])
    assert one.tensors[0].shape == (3, 97, 10, 10)
    for tensor in one.tensors:
        assert abs(float(tensor.mean())) < 1e-6
        assert float(tensor.var(correction=0)) == pytest.approx(1, abs=1e-5)


def test_mnist_is_read_by_its_format(tmp_path):
    chance = np.random.default_rng(0)
    images = chance.integers(256, size=(10_000, 28, 28), dtype=np.uint8)
    labels = (np.arange(10_000) % 10).astype(np.uint8)
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
        (tmp_path / f"t10k-{name}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes(), 1))
    train, test = data.mnist(tmp_path)
    assert (len(train), len(test)) == (8_000, 2_000)
    assert np.array_equal(test.tensors[0][3, 0].numpy(), images[8_003] / np.float32(255))
    assert int(test[3][1]) == 3
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()[1:], 1))
    with pytest.raises(PeersError, match=r"t10k-labels-idx1-ubyte\.gz is not in the IDX format"):
        data.mnist(tmp_path)
    with pytest.raises(PeersError, match="cannot be read"):
        data.mnist(tmp_path / "nowhere")


def _environment(rank, size):
    return {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1"}


def _port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def _losses(told):
    return [float(number) for number in re.findall(r"(?:loss|error) ([\d.]+)", told)]


def test_two_processes_learn_digits():
    command = [sys.executable, "-m", "peers.examples.cnn", "--count=60", "--epochs=3", "--batch=10"]
    port = _port()
    processes = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **_environment(rank, 2), "MASTER_PORT": port, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    told, silent = (process.communicate() for process in processes)
    assert [process.returncode for process in processes] == [0, 0], told[1] + silent[1]
    losses = _losses(told[0])
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    assert not silent[0]


def test_one_process_learns_slices(monkeypatch, capsys):
    for name, value in {**_environment(0, 1), "MASTER_PORT": _port()}.items():
        monkeypatch.setenv(name, value)
    with torch.random.fork_rng([]):
        unet.main(["--count=2", "--batch=2", "--epochs=3"])
    losses = _losses(capsys.readouterr().out)
    assert len(losses) == 3
    assert losses[-1] < losses[0]
