"""A thousand bad messages and a thousand bad payloads: a value or one named error each, and the next item goes on."""

import importlib.util
import json
import resource
import time
from pathlib import Path

import numpy as np
import pytest
from consortium import consortium

from computation.errors import MeshNetError, MessageError, PayloadError
from computation.wire import payload
from computation.wire.messages import (
    Arrived,
    Evaluation,
    FinishOffer,
    JoinOffer,
    Masked,
    Masking,
    Plan,
    Results,
    RoundOffer,
    Unmasking,
    Verdict,
)
from computation.wire.payload import CONTRIBUTION, Manifest, Payload

_PLACE = Path(__file__).with_name("mutants.py")
_SPEC = importlib.util.spec_from_file_location("mutants", _PLACE)
mutants = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(mutants)

#: Bad messages in each of three moments of a run.
_EACH = 100
DIGEST = "ab" * 32
COUNTS = Evaluation(3, (5, 2), (6, 4), (7, 3), 2)
JOIN = JoinOffer(
    {"seed": 1, "classes": ["background", "x"]}, ("background", "x"), {"train": 3, "valid": 2, "test": 1},
    {"valid": 2, "test": 1}, {"valid": 8192, "test": 4096}, 3, {"grid": "16 x 16 x 16"}, "cpu", {"python": "3.12"},
)  # fmt: skip
GOOD = (
    JOIN,
    Plan("run", 10, ("a", "b"), DIGEST, DIGEST, ("note",), ("b",)),
    RoundOffer(4, "ok", "", 2, 0.5, DIGEST, 0, 0.1, COUNTS),
    Verdict(4, False, ("a",), {"b": "absent"}, 0.5, DIGEST, 3, {"x": 0.9}, 3, True, {"b": "no counts"}, "patience"),
    FinishOffer("evaluated", DIGEST, {"valid": COUNTS, "test": COUNTS}),
    Results(10, DIGEST, 9, DIGEST, {"x": 0.9}, {"x": 0.8}, {"b": "no counts"}),
    Plan("run", 10, ("a", "b"), DIGEST, DIGEST, masking=Masking({"a": DIGEST, "b": DIGEST}, {"a": 1, "b": 9})),
    RoundOffer(4, "ok", "", 2, 0.0, DIGEST, masked=Masked({"b": "cd" * 60}, {"b": DIGEST})),
    Arrived(4, ("a", "b"), {"a": {"b": "cd" * 60}, "b": {"a": "cd" * 60}}),
    Unmasking(4, DIGEST, {"b": DIGEST}, {"c": DIGEST}, ("d",)),
)


@pytest.fixture(autouse=True)
def _bounded():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000, "kilobytes"


@pytest.mark.parametrize("good", GOOD, ids=lambda good: type(good).__name__)
def test_a_bad_message_is_a_value_or_one_named_error(good):
    refused = 0
    for seed in range(200):
        raw = mutants.message(good.as_json(), seed)
        began = time.perf_counter()
        try:
            parsed = type(good).parse(raw)
        except MeshNetError as error:
            assert type(error) is MessageError and error.public.isprintable(), mutants.text(raw)
            assert len(error.public) < 500, mutants.text(raw)
            refused += 1
        else:
            json.dumps(parsed.as_json(), allow_nan=False)
        assert time.perf_counter() - began < 5, mutants.text(raw)
        assert type(good).parse(good.as_json()) == good
    assert refused > 100


def test_a_bad_payload_is_its_own_values_or_one_named_error(tmp_path):
    manifest = Manifest((("layer.weight", (3, 2)), ("layer.bias", (5,))))
    values = np.arange(11, dtype=np.float32)
    path = tmp_path / "__cx_contribution.bin"
    marks = {"model": DIGEST, "site": "local1", "run": "run"}
    expected = {"kind": CONTRIBUTION, "round": 7, "manifest": manifest, "dtype": np.float32, **marks}
    payload.write(path, Payload(CONTRIBUTION, 7, manifest, values, **marks))
    good = path.read_bytes()
    for seed in range(1000):
        path.write_bytes(mutants.blob(good, seed))
        began = time.perf_counter()
        try:
            assert payload.read(path, **expected).tobytes() == values.tobytes(), seed
        except PayloadError as error:
            assert error.public.isprintable() and len(error.public) < 200, seed
        assert time.perf_counter() - began < 5, seed
        path.write_bytes(good)
        assert payload.read(path, **expected).tobytes() == values.tobytes()


def _names_local1(loop, iteration, messages, seed):
    """Send the centre one bad message among good ones; return what it answers, or None where it names who sent it."""
    bad = {**messages, "local1": mutants.message(messages["local1"], seed) if seed else messages["local1"]}
    loop.restart("remote")
    began = time.perf_counter()
    try:
        return loop.call("remote", iteration, bad)["output"]
    except MeshNetError as error:
        said = error.public
        assert "local1" in said and said.isprintable(), (seed, said)
        # Two sites with different settings, or grids: which of two is the odd one, nobody knows.
        assert "local0" not in said or "every site must run with the same owner settings" in said, (seed, said)
        return None
    finally:
        assert time.perf_counter() - began < 5, seed


def _said(loop, iteration):
    return {site: reply["output"] for site, now, reply in loop.log if now == iteration and site != "remote"}


def test_the_centre_names_who_sent_a_bad_message_and_nobody_else(tmp_path):
    """In the join, in a round that validates, and at the end; where it is let in, the others can read the answer.

    The site signs what it says, whatever that is; what somebody else changes of it goes no further than its signature.
    """
    loop = consortium(tmp_path)
    loop.liars.add("local1")
    calls = {1: Plan, 4: Verdict, 6: Results}
    taken = dict.fromkeys(calls, 0)

    def between(loop, client, iteration):
        if client != "remote" or iteration not in calls:
            return
        messages = _said(loop, iteration)
        log = list(loop.log)
        for seed in (0, *range(1000 * iteration, 1000 * iteration + _EACH)):  # the first as it was sent
            answer = _names_local1(loop, iteration, messages, seed)
            if answer is not None:
                calls[iteration].parse(answer)
                taken[iteration] += 1
        loop.log[:] = log
        loop.restart("remote")

    reference = consortium(tmp_path / "reference").run()
    assert loop.run(between)["model_digest"] == reference["model_digest"]
    assert all(0 < count < _EACH / 2 for count in taken.values()), taken
