"""What goes wrong on a real platform, and how each case ends; none hangs, and the log of the site says why."""

import sqlite3

import pytest
from consortium import SHORT
from driving import RUN, drive
from test_run import DIGEST, assert_finished, expected, sites  # noqa: F401  (a fixture)

EVERYBODY = {"remote", "local0", "local1"}


def fault(node, iteration, action, **more):
    return {"node": node, "iteration": iteration, "action": action, **more}


def test_a_missing_database_ends_the_run_at_join_and_everybody_learns_why(tmp_path, mode):
    settings = sites(tmp_path, 2)
    run = drive(tmp_path, mode, [settings[0], {**SHORT, "data": ["other.db"]}])
    assert run.status == 1 and set(run.errors) == EVERYBODY
    assert "database" in run.errors["remote"] and str(tmp_path) not in run.errors["remote"]
    assert "database" in run.log("local1").splitlines()[-1]


@pytest.mark.parametrize("node", ["local1", "remote"])
def test_a_container_that_dies_between_rounds_goes_on_from_its_checkpoint(tmp_path, mode, node, expected):  # noqa: F811
    run = drive(tmp_path, mode, sites(tmp_path, 2), faults=[fault(node, 3, "kill", when="idle")])
    assert len(run.starts[node]) == 2 and run.faults
    assert_finished(run, 2, expected(2))


@pytest.mark.parametrize("node", ["local1", "remote"])
def test_a_container_that_dies_in_a_round_ends_the_run_with_a_reason(tmp_path, mode, node):
    run = drive(tmp_path, mode, sites(tmp_path, 2), faults=[fault(node, 1, "kill", after=900)])
    assert run.status == 1 and set(run.errors) == EVERYBODY
    assert "Abnormal Container websocket close" in run.errors["remote"]


def test_messages_out_of_order_and_twice_change_no_bit(tmp_path, mode, expected):  # noqa: F811
    run = drive(tmp_path, mode, sites(tmp_path, 2), network={"duplicate": True, "delay": {"local0": 400}})
    assert_finished(run, 2, expected(2))


def test_a_stray_file_in_the_transfer_folder_harms_nobody(tmp_path, mode, expected):  # noqa: F811
    stray = fault("local0", 2, "file", name="site.db", bytes=5000)
    run = drive(tmp_path, mode, sites(tmp_path, 2), faults=[stray])
    assert run.faults
    assert_finished(run, 2, expected(2))


def test_a_site_that_cannot_read_a_scan_skips_the_round_and_stays(tmp_path, mode):
    settings = sites(tmp_path, 2)
    damage(tmp_path / "input" / "local1" / RUN / "site.db")
    run = drive(tmp_path, mode, settings)
    assert run.status == 0 and len({end[DIGEST] for end in run.results.values()}) == 1
    counted = {site: facts["rounds_counted"] for site, facts in run.results["remote"]["sites"].items()}
    assert counted == {"local0": 4, "local1": 2}
    journal = (run.output("local1") / "journal.jsonl").read_text()
    assert journal.count('"event": "skipped"') == 2 and "unreadable" in journal


def damage(path):
    """Damage the first training scan of a database."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT block, data FROM blocks WHERE length(data) > 0 ORDER BY block").fetchall()
        for block, data in rows[:8]:
            connection.execute("UPDATE blocks SET data = ? WHERE block = ?", (data[:-1] + b"\x00\x01", block))
    connection.close()


def test_a_round_that_a_time_limit_cuts_short_still_counts(tmp_path, mode):
    settings = [{**site, "time_limit": 0.001, "local_steps": 50, "epochs": 1500} for site in sites(tmp_path, 2)]
    run = drive(tmp_path, mode, settings)
    assert run.status == 0 and len({end[DIGEST] for end in run.results.values()}) == 1
