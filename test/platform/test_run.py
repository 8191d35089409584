"""Whole runs of the product on COINSTAC's own pipeline, with processes and with real Docker."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
from consortium import SHORT, database
from driving import ROOT, RUN, THREADS, drive

from computation.tracking import read
from computation.wire.payload import PREFIX
from simulator import embedded

DIGEST = "model_digest"


def sites(folder, count, **options):
    """Make `count` sites' databases where the platform stages them; return their settings."""
    for index in range(count):
        database(folder / "input" / f"local{index}" / RUN / "site.db", seed=index, **options)
    return [SHORT] * count


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Return a function that gives the embedded simulator's final digest for a number of sites."""
    known = {}

    def digest(count):
        if count not in known:
            folder = tmp_path_factory.mktemp("embedded")
            settings = sites(folder, count)
            spec = [{name: {"value": value} for name, value in site.items()} for site in settings]
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(*next(iter(THREADS.items())))
                result = embedded.run(spec, inputs=folder / "input", output=folder / "run", deadline=100)
            known[count] = result.output[DIGEST]
        return known[count]

    return digest


def checksums(folder):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_finished(run, count, digest):
    assert run.status == 0, (run.reason, run.errors, run.unhandled)
    assert {node: end[DIGEST] for node, end in run.results.items()} == dict.fromkeys(
        ["remote", *(f"local{index}" for index in range(count))], digest
    )


@pytest.mark.parametrize("count", [2, 4])
def test_a_run_ends_in_the_embedded_simulator_s_model(tmp_path, mode, count, expected):
    settings = sites(tmp_path, count)
    before = checksums(tmp_path / "input")
    run = drive(tmp_path, mode, settings)
    assert_finished(run, count, expected(count))
    after = checksums(tmp_path / "input")
    assert before.items() <= after.items(), "a site's own file was changed"
    assert all(path.name.startswith(PREFIX) for path in set(after) - set(before) if "local" in path.parts[-3])
    for index in range(count):
        found = {path.name for path in run.output(f"local{index}").rglob("*")}
        assert {"index.html", "final.safetensors", "best.safetensors", "metrics.csv", "journal.jsonl"} <= found


@pytest.mark.docker_only
def test_simulate_in_docker_ends_in_the_same_model(tmp_path, mode, expected):
    settings = sites(tmp_path, 2)
    settings[0] = {**settings[0], "wandb": {"project": "trial"}}  # offline: no key, no network
    before = checksums(tmp_path / "input")
    spec = tmp_path / "inputspec.json"
    spec.write_text(json.dumps([{name: {"value": value} for name, value in site.items()} for site in settings]))
    command = [sys.executable, ROOT / "computation" / "cli.py", "simulate", spec, "--engine", "docker", "--cpus", "1"]
    command += ["--input", tmp_path / "input", "--output", tmp_path / "run", "--memory", "2g"]
    subprocess.run(command, env={**os.environ, **THREADS}, cwd=ROOT, timeout=200, check=True)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())[DIGEST] == expected(2)
    assert checksums(tmp_path / "input") == before
    results = tmp_path / "run" / "output" / "local0" / RUN
    assert [entry["mode"] for entry in read(results / "journal.jsonl") if "wandb" in entry["event"]] == ["offline"]
    assert list((results / "wandb").rglob("run-*.wandb"))


def test_no_arriving_file_can_reach_a_hard_linked_original(tmp_path, mode, expected):
    original = database(tmp_path / "archive" / "site.db", seed=0)
    settings = sites(tmp_path, 2)
    staged = tmp_path / "input" / "local0" / RUN / "site.db"
    staged.unlink()
    os.link(original, staged)
    before = checksums(original.parent)
    run = drive(tmp_path, mode, settings)
    assert_finished(run, 2, expected(2))
    assert checksums(original.parent) == before


@pytest.mark.docker_only
def test_any_user_on_a_read_only_root(tmp_path, expected, mode):
    settings = sites(tmp_path, 2)
    user = 23_456
    for node in ("remote", "local0", "local1"):
        for kind in ("output", "transfer"):
            folder = tmp_path / kind / node / RUN
            folder.mkdir(parents=True)
            os.chown(folder, user, user)
    options = {"User": f"{user}:{user}", "HostConfig": {"ReadonlyRootfs": True, "Tmpfs": {"/tmp": "size=64m"}}}
    run = drive(tmp_path, mode, settings, container=options)
    assert_finished(run, 2, expected(2))
