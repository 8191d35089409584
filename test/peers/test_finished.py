"""Finished runs beside a comparison: a swarm's node, a mesh's task, a centre; and folders that are none of a run."""

import csv
import json
import os

import numpy as np
import pytest
from consortium import consortium

from computation.cli import main
from computation.tracking.journal import Journal
from peers.mesh import metrics
from peers.swarm import page as node_page

DIGEST = "5a" * 32
NODE = {"accuracy": 0.75, "maturity": 9, "received": 700, "again": 50, "sent": 300, "resilience": 1.5, "digest": DIGEST}


def node(folder, **changes):
    """Leave what a swarm's node leaves, by the same writers."""
    journal = Journal(folder / "journal.jsonl")
    journal.write("listening", address="x", role="full", slices=3)
    for turn, accuracy in enumerate((0.25, 0.5, 0.75), start=1):
        journal.write("turn", round=turn, own="me", counted=["me", "you"][: turn % 2 + 1], accuracy=accuracy)
    found = {**NODE, **changes}
    (folder / "result.json").write_text(json.dumps(found))
    journal.write("done", **found)
    node_page.write(folder, found)
    return folder


def task(folder, model="simple-cnn"):
    """Leave what a mesh's requester leaves."""
    pytest.importorskip("zmq", reason="THE MESH'S TASKS ARE NOT COMPARED: the extra `mesh` is not installed")
    from peers.mesh import page

    journal = Journal(folder / "journal.jsonl")
    journal.write("cycle", provider="p1", cycle=8, loss=0.5, seconds=1.0)  # of a task before
    journal.write("task", task="t", workers=["p1", "p2"], model=model, seed=4)
    journal.write("cycle", provider="p1", cycle=3, loss=0.5, seconds=1.0)
    found = metrics.figures(np.array([[8, 2], [1, 9]]), [(0.5, 20)], 12.5)
    (folder / "metrics.json").write_text(json.dumps(found))
    journal.write("result", **found)
    page.write(folder, found)
    return folder


def compare(*folders, output):
    words = ["peers", "compare", "--output", str(output), "--protocols", "--finished", *map(str, folders)]
    return main(words)


def rows(output):
    return list(csv.DictReader((output / "compare.csv").open()))


def test_a_node_a_task_and_a_centre_are_rows_of_one_table_with_what_they_have_and_what_they_lack(tmp_path, capsys):
    run = consortium(tmp_path / "run", scans=[(2, 1, 1), (4, 1, 1)])
    told = run.run()
    centre = next(path.parent for path in (tmp_path / "run").rglob("journal.jsonl") if "remote" in str(path))
    folders = (node(tmp_path / "n0"), task(tmp_path / "mesh-task"), task(tmp_path / "scans", "meshnet"), centre)
    assert compare(*folders, output=tmp_path / "out") == 0
    swarm, mesh, scans, whole = rows(tmp_path / "out")
    assert (swarm["protocol"], swarm["accuracy"], swarm["bytes"], swarm["rounds"], swarm["peers"]) == (
        *("swarm node n0", "0.75", "1000", "9", "2"),
    )
    assert (swarm["digest"], swarm["lacks"], swarm["seconds"]) == (DIGEST, "samples, messages", "")
    assert (
        mesh["protocol"],
        mesh["accuracy"],
        mesh["test_dice"],
        mesh["real_seconds"],
        mesh["seed"],
        mesh["rounds"],
    ) == (*("mesh task mesh-task", "0.85", "", "12.5", "4", "3"),)
    assert mesh["lacks"] == "samples, messages, bytes, digest"
    assert scans["accuracy"] == "" and float(scans["test_dice"]) == pytest.approx(18 / 21)
    assert whole["digest"] == told["model_digest"] and int(whole["bytes"]) > 0 and int(whole["samples"]) > 0
    assert whole["lacks"] == "messages"
    page = (tmp_path / "out" / "index.html").read_text()
    assert "4 finished runs." in page and "swarm node n0" in page and "Its files do not say" in page
    assert "Accuracy on what each node holds out" in page and "<script" not in page and str(tmp_path) not in page
    assert [row["accuracy"] for row in csv.DictReader((tmp_path / "out" / "curve.csv").open())][:3] == [
        *("0.25", "0.5", "0.75"),
    ]
    assert "swarm node n0: finished; its files do not say: samples, messages" in capsys.readouterr().out


def test_folders_of_one_name_are_told_apart(tmp_path):
    assert compare(node(tmp_path / "a" / "n"), node(tmp_path / "b" / "n"), output=tmp_path / "out") == 0
    assert [row["protocol"] for row in rows(tmp_path / "out")] == ["swarm node a/n", "swarm node b/n"]


def spoilt(folder, name, content):
    (folder / name).write_bytes(content)
    return folder


LINE = b'{"time": "2026-01-01T00:00:00+00:00", "sequence": 0, "event": "%s", %s}\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("result.json", b"\xff\x00"),
        ("result.json", b"[" * 100_000),
        ("result.json", b" " * (1 << 24) + b"{}"),
        ("result.json", json.dumps({**NODE, "accuracy": 7}).encode()),
        ("result.json", json.dumps({**NODE, "sent": "much"}).encode()),
        ("result.json", json.dumps({**NODE, "digest": "<b>"}).encode()),
        ("journal.jsonl", LINE % (b"turn", b'"round": 1')),
        ("journal.jsonl", LINE % (b"turn", b'"round": 1, "counted": [[]]')),
        ("journal.jsonl", LINE % (b"turn", b'"round": 1e999, "accuracy": 0.5, "counted": []')),
        ("journal.jsonl", (LINE % (b"listening", b'"x": 1')).replace(b"2026", b"soon")),
    ],
)
def test_what_is_none_of_a_runs_files_is_one_clear_line(tmp_path, capsys, name, content):
    assert compare(spoilt(node(tmp_path / "n0"), name, content), output=tmp_path / "out") == 2
    assert "the finished run n0 cannot be read" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_what_is_not_over_or_none_at_all_or_named_twice_or_would_be_overwritten_is_refused(tmp_path, capsys):
    going = node(tmp_path / "n0")
    kept = (going / "index.html").read_text()
    assert compare(going, going, output=tmp_path / "out") == 2
    assert "is given twice" in capsys.readouterr().err
    assert compare(going, output=going) == 2
    assert "page would be lost" in " ".join(capsys.readouterr().err.split())
    assert (going / "index.html").read_text() == kept
    (going / "index.html").unlink()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "journal.jsonl")
    for folder in (going, tmp_path / "nowhere", going / "result.json", tmp_path / "loop", tmp_path):
        assert compare(folder, output=tmp_path / "out") == 2
        assert "is missing; wanted the folder" in " ".join(capsys.readouterr().err.split())
    assert main(["peers", "compare", "--protocols", "--output", str(tmp_path / "out")]) == 2
    assert "nothing to compare" in capsys.readouterr().err
