"""What people get wrong, on the real pipeline: each ends before its deadline and says what to do.

The app shows the last two lines that a container printed, so the reason must be the last one.
"""

import copy
import json
import os
import subprocess
import threading
from contextlib import contextmanager

import pytest
from consortium import SHORT
from driving import PRODUCT, ROOT, RUN, THREADS, drive
from test_run import DIGEST, assert_finished, expected, sites  # noqa: F401  (a fixture)

EVERYBODY = {"remote", "local0", "local1"}
OUTPUT, TRANSFER = (f"{kind} folder is full or may not be written" for kind in ("output", "transfer"))
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")


def assert_told(run, node, said, nodes=EVERYBODY):
    """The run failed everywhere with one reason, which is also the last line on the node's own screen."""
    assert run.status == 1 and set(run.errors) == nodes, (run.status, run.reason, run.results)
    assert said in run.errors["remote"] and said in run.errors[node]
    assert str(run.folder) not in run.errors["remote"]
    assert said in run.log(node).strip().splitlines()[-1]
    assert not list(run.folder.rglob("final.safetensors"))


# --- settings and inputs ----------------------------------------------------------------------------------------------


@pytest.mark.process_only
def test_a_vault_s_csv_that_names_the_database_does_as_well(tmp_path, mode, expected):  # noqa: F811
    settings = sites(tmp_path, 2)
    listed = {
        **{name: value for name, value in SHORT.items() if name != "data"},
        "data_csv": {"site.db": {"site": "A"}},
    }
    assert_finished(drive(tmp_path, mode, [settings[0], listed]), 2, expected(2))


@pytest.mark.process_only
def test_a_vault_s_csv_that_names_a_missing_file(tmp_path, mode):
    settings = sites(tmp_path, 2)
    listed = {
        **{name: value for name, value in SHORT.items() if name != "data"},
        "data_csv": {"gone.db": {"site": "A"}},
    }
    run = drive(tmp_path, mode, [settings[0], listed])
    assert_told(run, "local1", "database")
    assert "gone" not in run.errors["remote"]


@pytest.mark.process_only
def test_settings_of_an_older_version(tmp_path, mode):
    # At one site: of two errors at once, COINSTAC tells the second site of its own as the bare word "Error".
    older, other = sites(tmp_path, 2)
    assert_told(drive(tmp_path, mode, [{**older, "lr": 0.01}, other]), "local0", "lr")


@pytest.mark.process_only
def test_a_compspec_of_the_old_protocol(tmp_path, mode):
    """One site: of two that fail at once, COINSTAC tells the later one that there is no such run, in an empty error."""
    spec = copy.deepcopy(json.loads((ROOT / "compspec.json").read_text()))
    spec["meta"]["compspecVersion"] = 1
    (tmp_path / "compspec.json").write_text(json.dumps(spec))
    run = drive(tmp_path, mode, sites(tmp_path, 1), compspec=tmp_path / "compspec.json", deadline=60)
    assert_told(run, "local0", "compspecVersion", {"remote", "local0"})


@pytest.mark.process_only
def test_a_port_that_is_no_number(tmp_path, mode):
    """COINSTAC asks for 46 seconds whether somebody listens; the log says at once why nobody will."""
    port = {"COINSTAC_PORT": "eighty"}
    nodes = {"*": {"Env": [f"{name}={value}" for name, value in {**THREADS, **port}.items()]}}
    command = ("env", "COINSTAC_PORT=eighty", *PRODUCT[0])
    run = drive(tmp_path, mode, sites(tmp_path, 1), kind=(command, PRODUCT[1]), containers=nodes, deadline=100)
    assert run.status == 1 and "local0" in run.errors
    assert "COINSTAC_PORT is 'eighty'; wanted a port number" in run.log("local0").strip().splitlines()[-1]


# --- folders ----------------------------------------------------------------------------------------------------------


@root_only
@pytest.mark.process_only
def test_an_output_folder_on_a_read_only_disk(tmp_path, mode):
    settings = sites(tmp_path, 2)
    folder = tmp_path / "output" / "local1"
    with disk(folder, "size=1m"):
        (folder / RUN).mkdir()
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        assert_told(drive(tmp_path, mode, settings), "local1", OUTPUT)


@root_only
@pytest.mark.docker_only
def test_an_output_folder_of_somebody_else(tmp_path, mode):
    settings = sites(tmp_path, 2)
    user = {"Env": [f"{name}={value}" for name, value in THREADS.items()], "User": "23456:23456"}
    (tmp_path / "output" / "local1" / RUN).mkdir(parents=True)
    for kind, node in (("output", "remote"), ("output", "local0"), *(("transfer", node) for node in EVERYBODY)):
        folder = tmp_path / kind / node / RUN
        folder.mkdir(parents=True)
        os.chown(folder, 23_456, 23_456)
    assert_told(drive(tmp_path, mode, settings, containers={"*": user}), "local1", OUTPUT)


@contextmanager
def disk(folder, options):
    """Mount a disk of its own in the place of a folder."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@root_only
@pytest.mark.process_only
@pytest.mark.parametrize(
    ("kind", "node", "size", "said"),
    [
        ("transfer", "local1", 8, TRANSFER),
        ("transfer", "remote", 8, TRANSFER),
        ("output", "local1", 16, OUTPUT),
        ("output", "local1", 200, "output folder"),
        ("output", "remote", 16, OUTPUT),
    ],
)
def test_a_full_disk(tmp_path, mode, kind, node, size, said):
    settings = sites(tmp_path, 2)
    with disk(tmp_path / kind / node, f"size={size}k"):
        run = drive(tmp_path, mode, settings)
        assert_told(run, node, said)


@pytest.mark.process_only
def test_a_run_after_another_in_the_same_folders(tmp_path, mode, expected):  # noqa: F811
    settings = sites(tmp_path, 2)
    for _ in range(2):
        assert_finished(drive(tmp_path, mode, settings), 2, expected(2))
    shelf = tmp_path / "output" / "local0" / RUN / "earlier-runs" / "0001"
    assert (shelf / "final.safetensors").exists() or list(shelf.rglob("final.safetensors"))


@pytest.mark.process_only
def test_two_runs_at_once_in_one_output_folder(tmp_path, mode):
    """At most one gets to its end; the other says why not."""
    runs = {}

    def one(name):
        settings = [{**site, "epochs": 30} for site in sites(tmp_path / name, 2)]
        (tmp_path / name / "output").symlink_to(tmp_path / "output")
        runs[name] = drive(tmp_path / name, mode, settings, deadline=90)

    (tmp_path / "output").mkdir()
    threads = [threading.Thread(target=one, args=(name,)) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = [run for run in runs.values() if run.status == 1]
    assert len(runs) == 2 and failed and all(run.status in (0, 1) for run in runs.values())
    assert all("another run" in run.errors["remote"] for run in failed)
