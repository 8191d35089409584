"""Whole runs on other arithmetic, and on a full device: one model everywhere, and the reason without the words."""

import json

import torch
from consortium import consortium

from computation import local
from computation.errors import DeviceError
from computation.training.trainer import Trainer


def _verdicts(loop):
    return [reply["output"] for client, _, reply in loop.log if client == "remote" and "counted" in reply["output"]]


def _journal(loop, site):
    lines = (loop.folder("output", site) / "journal.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_run_in_bfloat16_ends_in_one_model_near_the_float32_one(tmp_path):
    finals = {
        precision: consortium(tmp_path / precision, changes={"precision": precision}).run()
        for precision in ("float32", "bfloat16")
    }
    digests = {precision: _digests(final) for precision, final in finals.items()}
    assert [len(found) for found in digests.values()] == [1, 1]
    assert digests["float32"] != digests["bfloat16"]


def _digests(final):
    return {site["model_digest"] for site in final["sites"].values()}


def test_the_journal_says_where_and_how_a_site_computes(tmp_path):
    loop = consortium(tmp_path, changes={"device": "cpu", "precision": "bfloat16"})
    loop.run()
    (entry,) = [entry for entry in _journal(loop, "local0") if entry["event"] == "device"]
    assert entry["reason"] == "cpu: set so"
    assert entry["arithmetic"] == "bfloat16 autocast, without the native kernels"


class Full(Trainer):
    """A trainer whose network raises, in round 2 at one site, what CUDA's allocator raises: the CPU's never does."""

    def gradient(self, round):
        full = self.site == "local1" and round == 2
        hook = self.model.head.register_forward_pre_hook(_raise) if full else None
        try:
            return super().gradient(round)
        finally:
            if hook:
                hook.remove()


def _raise(module, inputs):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB at /secret/path")


def test_a_full_gpu_skips_the_round_with_one_word_and_the_site_stays(tmp_path):
    loop = consortium(tmp_path, changes={"precision": "bfloat16"}, make_local=lambda: local.create(Full))
    final = loop.run()
    assert _verdicts(loop)[1]["skipped"] == {"local1": "out-of-memory"}
    assert final["sites"]["local1"]["rounds_counted"] == final["rounds"] - 1
    assert len(_digests(final)) == 1
    assert "/secret" not in json.dumps([reply for *_, reply in loop.log])
    assert any("20 GiB" in entry.get("traceback", "") for entry in _journal(loop, "local1"))


class Blind(Trainer):
    """A trainer at which the device is full whenever it is to label a scan."""

    def predict(self, scan):
        raise DeviceError("the device ran out of memory", "/secret/path")


def test_a_device_too_small_to_validate_on_still_trains(tmp_path):
    loop = consortium(tmp_path, make_local=lambda: local.create(Blind))
    final = loop.run()
    assert final["sites"]["local1"]["rounds_counted"] == final["rounds"]
    assert "/secret" not in json.dumps([reply for *_, reply in loop.log])
