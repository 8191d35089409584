"""`coinstac-meshnet peers ...` on small databases: virtual time, real processes, and what is refused."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from consortium import SHORT, consortium, database

import computation
from computation.cli import main
from computation.errors import PeersError
from computation.tracking import read, rounds
from peers import plan, running
from peers.options import Choice

CLI = (sys.executable, str(Path(computation.__file__).with_name("cli.py")))
PEERS = ("local0", "local1")


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """Two sites' folders and an inputspec for both."""
    root = tmp_path_factory.mktemp("sites")
    for index, name in enumerate(PEERS):
        database(root / "input" / name / "simulatorRun" / "site.db", seed=index, scans=((2, 1, 1), (4, 1, 1))[index])
    write_spec(root)
    return root


def write_spec(root, **changes):
    settings = {**SHORT, "precision": "float64", **changes}
    spec = [{name: {"value": value} for name, value in settings.items()}] * 2
    (root / "inputspec.json").write_text(json.dumps(spec))


def arguments(sites, verb, output, *more):
    return ["peers", verb, str(sites / "inputspec.json"), "--output", str(output), *map(str, more)]


def summary(output):
    return json.loads((output / "summary.json").read_text())


@pytest.fixture(scope="module")
def coinstac(tmp_path_factory):
    """Digest of COINSTAC's handlers on the same databases."""
    run = consortium(tmp_path_factory.mktemp("run"), changes={"precision": "float64"}, scans=[(2, 1, 1), (4, 1, 1)])
    return run.run()["model_digest"]


def processes(*command, **variables):
    """Run the command line in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run([*CLI, *command], capture_output=True, text=True, env=environment, check=False)


def test_in_virtual_time_it_ends_where_coinstac_ends(sites, tmp_path, coinstac, capsys):
    out = tmp_path / "out"
    assert main(arguments(sites, "simulate", out, "--latency", 15, "--bandwidth", 100, "--batch-seconds", 0.5)) == 0
    told = summary(out)
    assert told["model_digest"] == coinstac
    assert told["consensus_distance"] == 0
    assert told["traffic"]["busiest_peer_bytes"] < told["traffic"]["bytes"]
    assert (out / "output" / "local1" / "simulatorRun" / "index.html").is_file()
    assert (out / "output" / "local1" / "simulatorRun" / "model" / "final.safetensors").is_file()
    assert "Run without a centre" in capsys.readouterr().out


@pytest.mark.slow
def test_real_processes_around_a_ring_end_where_coinstac_ends(sites, tmp_path, coinstac, capsys):
    done = processes(*arguments(sites, "run", tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    told = summary(tmp_path / "out")
    journals = [read(tmp_path / "out" / "output" / name / "simulatorRun" / "journal.jsonl") for name in PEERS]
    ours, theirs = ([item.digest for item in rounds(journal)] for journal in journals)
    assert ours == theirs
    assert ours[-1] == told["model_digest"]
    assert told["engine"] == "torchrun"
    # With two peers a sum has one order, and the weights are small whole numbers: nothing is rounded differently.
    assert told["foreground_dice"] is not None
    virtual = tmp_path / "virtual"
    assert main(arguments(sites, "simulate", virtual, "--collective", "ring", "--batch-seconds", 1)) == 0
    assert summary(virtual)["model_digest"] == told["model_digest"]
    assert main(["simulate", "--resume", "--output", str(tmp_path / "out")]) == 2
    assert "has no centre; go on with it by `coinstac-meshnet peers run --resume`" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_ring_goes_on_and_ends_in_the_unbroken_runs_digest(sites, tmp_path):
    write_spec(sites, epochs=8)
    command = arguments(sites, "run", tmp_path / "cut", "--protocol", "ring-broadcast", "--tau", 3)
    # In virtual time, which real processes are bit for bit, as above.
    ring = ("--protocol", "ring-broadcast", "--tau", 3, "--collective", "ring", "--batch-seconds", 1)
    assert main(arguments(sites, "simulate", tmp_path / "whole", *ring)) == 0
    with subprocess.Popen([*CLI, *command], stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as run:
        victim = worker_of(tmp_path / "cut", run, after=4)
        os.kill(victim, signal.SIGKILL)
        _, told = run.communicate(timeout=120)
    assert run.returncode == 2
    assert "was killed by SIGKILL" in told.decode()
    go_on = processes("peers", "run", "--resume", "--output", str(tmp_path / "cut"))
    write_spec(sites)
    assert go_on.returncode == 0, go_on.stderr
    assert summary(tmp_path / "cut")["model_digest"] == summary(tmp_path / "whole")["model_digest"]
    assert main(["peers", "run", "--resume", "--tau", "4", "--output", str(tmp_path / "cut")]) == 2


@pytest.mark.slow
def test_gossip_ends_without_a_peer_that_was_killed_and_says_who_was_missing(sites, tmp_path):
    write_spec(sites, epochs=16)
    command = arguments(sites, "run", tmp_path / "out", "--protocol", "gossip", "--patience", 5)
    with subprocess.Popen([*CLI, *command], stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as run:
        victim = worker_of(tmp_path / "out", run, after=4, name="local1")
        os.kill(victim, signal.SIGKILL)
        told, _ = run.communicate(timeout=120)
    write_spec(sites)
    assert run.returncode == 0
    assert "local1 was killed by SIGKILL" in told.decode()
    done = summary(tmp_path / "out")
    assert "local1" in done["missing"]
    assert any("local1 was killed" in text for text in done["outages"])


def worker_of(output, run, after, name="local0"):
    """Return the process of a peer when it has done some rounds."""
    journal = output / "output" / name / "simulatorRun" / "journal.jsonl"
    limit = time.monotonic() + 120
    while time.monotonic() < limit and run.poll() is None:
        if journal.exists() and len(list(rounds(read(journal)))) >= after:
            return process_named(run.pid, name)
        time.sleep(0.05)
    raise AssertionError("the run ended before it could be disturbed")


def process_named(parent, name):
    """Return the child of a process whose rank is that of a peer."""
    rank = f"RANK={PEERS.index(name)}".encode()
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return next(int(child) for child in children if rank in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"))


def test_protocols_are_compared_on_the_same_samples(sites, tmp_path, capsys):
    out = tmp_path / "out"
    protocols = ("gradient-mean", "gossip:probability=0.5", "push-sum")
    given = arguments(sites, "compare", out, "--batch-seconds", 1, "--seeds", 1, 2, "--protocols", *protocols)
    assert main(given) == 0
    rows = list(csv.DictReader((out / "compare.csv").open()))
    assert [(row["protocol"], row["seed"]) for row in rows] == [
        (name, seed) for seed in "12" for name in ("gradient-mean", "gossip probability=0.5", "push-sum")
    ]
    # Two epochs of the four scans at one of two peers: eight rounds, and one sub-volume each at both.
    assert {row["samples"] for row in rows if row["protocol"] != "gradient-mean"} == {"16"}
    assert len({row["digest"] for row in rows}) == 6
    page = (out / "index.html").read_text()
    assert "Protocols side by side" in page
    assert "<svg" in page
    assert "<script" not in page


def test_what_was_compared_before_a_run_failed_is_kept(sites, tmp_path, capsys):
    given = ("--batch-seconds", 1, "--outage", "local1=1.5", "--protocols", "gossip", "gradient-mean", "push-sum")
    assert main(arguments(sites, "compare", tmp_path / "out", *given)) == 2
    assert "this protocol needs every peer" in capsys.readouterr().err
    (row,) = csv.DictReader((tmp_path / "out" / "compare.csv").open())
    assert (row["protocol"], (tmp_path / "out" / "index.html").is_file()) == ("gossip", True)


def test_a_site_without_a_scan_is_named(sites, tmp_path, capsys):
    for index, name in enumerate(PEERS):
        database(tmp_path / "in" / name / "simulatorRun" / "site.db", scans=((2, 1, 1), (0, 0, 0))[index])
    assert main(arguments(sites, "simulate", tmp_path / "out", "--input", tmp_path / "in")) == 2
    assert "peer local1: the scan database has no labelled scan" in capsys.readouterr().err


def test_where_nobody_comes_to_an_end_the_logs_are_named(sites, tmp_path):
    order = plan.order([{}], inputs=sites / "input", output=tmp_path, peers=2, choice=Choice("gossip"), patience=1.0)
    with pytest.raises(PeersError, match=r"no peer came to an end: a died; b died; their logs say why \[.*logs\]"):
        running._summary(order, ["a died", "b died"])


def test_the_list_says_which_protocol_runs_where(capsys):
    assert main(["peers", "--list"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in ("gradient-mean", "ring-broadcast", "push-sum", "virtual", "torchrun"))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--peers", "1"], "one peer alone has nobody to learn with"),
        (["--protocol", "ring"], "there is no protocol 'ring'"),
        (["--protocol", "push-sum", "--mixing", "row"], "push-sum takes column-stochastic mixing only"),
        (["--loss", "1.5"], "loss is 1.5"),
        (["--seed", "-1"], "seed is -1"),
        (["--patience", "0"], "--patience is 0; wanted more than 0 seconds"),
        (["--patience", "nan"], "--patience is nan"),
        (["--patience", "inf"], "--patience is inf"),
        (["--straggler", "local1"], "--straggler is 'local1'; wanted NAME=FACTOR"),
        (["--straggler", "local1=slow"], "'slow' of 'local1' is no number"),
        (["--outage", "local7=3", "--batch-seconds", "1"], "'local7' is slow, or goes, and is no peer"),
        (["--straggler", "local9=3"], "'local9' is slow, or goes, and is no peer"),
        (["--outage", "local1=5-3"], "wanted two moments in order"),
        (["--outage", "local1=nan"], "wanted two moments in order"),
        (["--jitter", "inf"], "jitter is inf"),
        (["--input", "nowhere"], "input folder"),
    ],
)
def test_bad_input_is_told_and_nothing_begins(sites, tmp_path, capsys, more, told):
    assert main(arguments(sites, "simulate", tmp_path / "out", *more)) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out" / "summary.json").exists()


def test_a_run_with_a_centre_is_not_gone_on_with_here(tmp_path, capsys):
    assert main(["peers", "run", "--resume", "--output", str(tmp_path)]) == 2
    assert "there is no run to go on with" in capsys.readouterr().err


@pytest.mark.parametrize("strategy", ["scaffold", "fedadam", "x" * 99, ["fedavg"], None])
def test_a_strategy_that_the_protocol_is_not_is_refused(tmp_path, strategy):
    spec = [{"strategy": {"value": strategy}}]
    with pytest.raises(PeersError, match=r"the inputs name strategy .*, and protocol gossip does not do that"):
        plan.order(spec, inputs=tmp_path, output=tmp_path, peers=2, choice=Choice("gossip"), patience=1.0)


def test_updates_are_not_masked_where_there_is_no_centre_to_hide_them_from(tmp_path):
    spec = [{"secure_aggregation": {"value": True}}]
    with pytest.raises(PeersError, match="hides updates from a centre, and here is none"):
        plan.order(spec, inputs=tmp_path, output=tmp_path, peers=3, choice=Choice("gossip"), patience=1.0)


def test_settings_of_a_strategy_reach_the_protocol(tmp_path):
    given = {"strategy": "fedadam", "server_rate": 0.5, "local_steps": 2}
    spec = [{name: {"value": value} for name, value in given.items()}]
    order = plan.order(spec, inputs=tmp_path, output=tmp_path, peers=2, choice=Choice("fedadam"), patience=1.0)
    assert order.rule("local0").strategy.rate == 0.5
