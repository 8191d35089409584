"""What left a site or the centre is listed from the journals, field by field, with nothing left out."""

import csv
import json
import os

import pytest
from consortium import consortium

from computation.cli import main
from computation.commands.disclose import departed, journals
from computation.tracking import read
from computation.wire.disclosed import meaning, parts


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    made = consortium(tmp_path_factory.mktemp("run"), changes={"min_scans": 2}, scans=[(2, 2, 1), (2, 2, 2)])
    made.run()
    return made


def listed(folder, capsys, *more):
    assert main(["disclose", str(folder), *more]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("client", ["local0", "local1", "remote"])
def test_every_field_of_every_message_is_listed_as_often_and_as_large_as_it_was(loop, client):
    """The oracle is what the loopback carried."""
    found = {(one.name, one.message): one for one in departed(read(loop.folder("output", client) / "journal.jsonl"))}
    carried = [parts(reply["output"]) for name, _, reply in loop.log if name == client]
    for name in {name for message in carried for name in message}:
        seen = [one for (field, _), one in found.items() if field == name]
        sizes = [len(json.dumps(message[name])) for message in carried if name in message]
        assert sum(one.times for one in seen) == len(sizes)
        assert sum(one.bytes for one in seen) == sum(sizes) and max(one.largest for one in seen) == max(sizes)
    files = {name for name, _ in found if name.startswith("__cx_")}
    centre = {"__cx_model.bin", "__cx_combination.bin", "__cx_final.bin", "__cx_best.bin"}
    assert files == (centre if client == "remote" else {"__cx_contribution.bin"})
    assert {name for name, _ in found} - files == {name for message in carried for name in message}


def test_nothing_that_left_a_whole_run_is_unknown_to_the_table(loop):
    for client in ("local0", "local1", "remote"):
        for one in departed(read(loop.folder("output", client) / "journal.jsonl")):
            assert meaning(one.message, one.name), f"tell {one.name} in computation/wire/disclosed.py"


def test_what_masked_rounds_send_is_told_too(tmp_path):
    run = consortium(tmp_path, 3, changes={"secure_aggregation": True, "epochs": 1, "validate_every": 1000})
    run.run()
    for client in ("local0", "remote"):
        found = departed(read(run.folder("output", client) / "journal.jsonl"))
        assert any(one.message.endswith("on the masks") for one in found)
        assert all(meaning(one.message, one.name) for one in found)


def test_a_runs_folder_lists_all_nodes_and_a_nodes_folder_itself(loop, capsys, tmp_path):
    root = loop.folder("output", "local0").parents[2]
    whole = listed(root, capsys, "--csv", str(tmp_path / "left.csv"))
    assert all(f"left {name}: " in whole for name in ("local0", "local1", "remote"))
    with (tmp_path / "left.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["node"] for row in rows} == {"local0", "local1", "remote"}
    told = {(row["node"], row["what"]) for row in rows}
    assert ("local1", "evaluations.test.truth") in told and ("local0", "evaluations.test.truth") not in told
    alone = listed(loop.folder("output", "local0"), capsys)
    assert "left this node: join message" in alone and "validation.truth" in alone


def test_earlier_runs_and_other_folders_are_left_out(tmp_path):
    for place in ("output/a/run", "output/a/run/earlier-runs/0001", "1/2/3/4/5/6"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "journal.jsonl").write_text("")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "journal.jsonl")
    assert journals(tmp_path) == [tmp_path / "output/a/run/journal.jsonl"]


def test_a_folder_without_a_journal_is_refused_in_one_sentence(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "missing", __file__):
        assert main(["disclose", str(folder)]) == 2
        assert "there is no journal.jsonl in that folder" in capsys.readouterr().err


HOSTILE = [
    {"event": "sent", "message": "\x1b[2J[bold]", "fields": {"\x1b]0;x\x07": 3}, "files": {"a\nb": 4}},
    {"event": "sent", "message": ["no"], "fields": {"a": -1, "b": True, "c": "5", "d": 1e9}, "files": [1]},
    {"event": "sent", "fields": None},
    {"event": "wandb", "mode": "online"},
    {"event": "journal-mended", "lost_bytes": 3},
]


def test_a_journal_of_anything_is_read_and_commands_no_terminal(tmp_path, capsys):
    lines = [json.dumps({"time": "", "sequence": n, **one}) for n, one in enumerate(HOSTILE)]
    (tmp_path / "journal.jsonl").write_text("\n".join([*lines, "{", ""]))
    (tmp_path / "error.log").write_text("secret")
    text = listed(tmp_path, capsys)
    assert "\x1b" not in text and "NOT KNOWN" in text and "secret" not in text
    assert "2 lines are damaged" in text and "Weights & Biases" in text and "it failed at least once" in text


def test_a_journal_of_a_version_that_noted_nothing_says_so(tmp_path, capsys):
    (tmp_path / "journal.jsonl").write_text('{"time": "", "sequence": 0, "event": "plan"}\n')
    assert "nothing is noted as sent" in listed(tmp_path, capsys)


def test_what_a_restarted_site_sends_again_counts_again():
    line = {"event": "sent", "message": "contribution", "fields": {"loss": 4}, "files": {}}
    (one,) = departed([line, {"event": "resumed", "position": 0}, line])
    assert (one.times, one.bytes) == (2, 8)
