"""The three commands of the platform, used clumsily: a status of 2 and a sentence, before anything is started."""

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest
from consortium import database

from computation import isolation
from neuroflame import central, edge, processes, provision


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    monkeypatch.setattr(processes.util, "find_spec", lambda name: object())
    monkeypatch.setattr(processes.metadata, "version", lambda name: processes.WANTED)


@pytest.fixture
def kit(tmp_path):
    folder = tmp_path / "kit"
    (folder / "startup").mkdir(parents=True)
    (folder / "parameters.json").write_text("{}")
    (folder / "startup/sub_start.sh").write_text("... uid=a1 org=x\n")
    (folder / "startup/fed_client.json").write_text(json.dumps({"servers": [{"service": {"target": "localhost:1"}}]}))
    database(tmp_path / "data/site.db")
    return folder


def edge_of(tmp_path, **changes):
    places = {"runkit": tmp_path / "kit", "data": tmp_path / "data", "output": tmp_path / "output", **changes}
    return edge.main([text for name, path in places.items() for text in (f"--{name}", str(path))])


def test_another_version_is_told_and_none_is_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(processes.metadata, "version", lambda name: "2.9.0")
    assert provision.main(["--folder", str(tmp_path)]) == 2
    assert "NVFlare is 2.9.0; this computation was tested with 2.8.0" in capsys.readouterr().out
    monkeypatch.setattr(processes.util, "find_spec", lambda name: None)
    for main in (provision.main, central.main, edge.main):
        assert main([]) == 2
        assert "NVFlare is not installed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda kit, root: (kit / "parameters.json").unlink(), "parameters.json is missing"),
        (lambda kit, root: (kit / "parameters.json").write_text('{"epocs": 1}'), "did you mean 'epochs'"),
        (lambda kit, root: (kit / "startup/fed_client.json").unlink(), "the run kit is none of a site"),
        (lambda kit, root: (kit / "startup/fed_client.json").write_text("[]"), "the run kit is none of a site"),
        (lambda kit, root: (kit / "startup/sub_start.sh").write_text(""), "the run kit is none of a site"),
        (lambda kit, root: (root / "data/site.db").unlink(), "holds 0 SQLite files"),
        (lambda kit, root: database(root / "data/other.db"), "holds 2 SQLite files"),
        (lambda kit, root: (root / "data/member.json").write_text("{"), "member.json"),
        (lambda kit, root: (root / "output").write_text("a file"), "output folder"),
        (lambda kit, root: None, "the run kit is missing or not whole"),
    ],
)
def test_a_site_is_told_at_once_what_its_member_can_mend(kit, tmp_path, capsys, harm, said):
    harm(kit, tmp_path)
    assert edge_of(tmp_path) == 2
    told = capsys.readouterr().err
    assert said in told and str(tmp_path) not in told and len(told.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_that_may_not_be_written_is_told(kit, tmp_path, capsys):
    (tmp_path / "output").mkdir(mode=0o500)
    assert edge_of(tmp_path) == 2
    assert "may not be written" in capsys.readouterr().err


def test_a_port_where_something_else_listens_holds_no_site_for_ever(tmp_path, capsys):
    pytest.importorskip("nvflare", reason="NEUROFLAME IS NOT TESTED: its extra is not installed")
    with socket.create_server(("127.0.0.1", 0)) as listener:  # as a load balancer's, with nobody behind it
        asked = {"users": [{"id": "a", "name": "A"}], "host_identifier": "127.0.0.1"}
        (tmp_path / "provision_input.json").write_text(
            json.dumps(asked | {"fed_learn_port": listener.getsockname()[1]})
        )
        assert provision.main(["--folder", str(tmp_path)]) == 0
        kit = tmp_path / "runKits/a"
        shutil.copy(tmp_path / "runKits/centralNode/parameters.json", kit)
        database(tmp_path / "data/site.db")
        limits = {"joining": "3", "start": "2", "scratch": tmp_path}
        assert edge_of(tmp_path, runkit=kit, **limits) == 1
    assert "the centre has begun no run within 5 s" in capsys.readouterr().err


def test_the_centre_is_told_too(kit, tmp_path, capsys):
    for said in ("parameters.json is missing", "holds no job"):
        assert central.main(["--runkit", str(tmp_path / "kit" if "job" in said else tmp_path)]) == 2
        assert said in capsys.readouterr().err


def test_provisioning_says_what_is_wrong_with_its_input(tmp_path, capsys):
    (tmp_path / "provision_input.json").write_text('{"users": []}')
    assert provision.main(["--folder", str(tmp_path)]) == 2
    assert "names no members" in capsys.readouterr().err


def test_provisioning_twice_is_refused(tmp_path, capsys):
    (tmp_path / "runKits/a").mkdir(parents=True)
    asked = {"users": [{"id": "a", "name": "A"}], "fed_learn_port": 8102, "host_identifier": "localhost"}
    (tmp_path / "provision_input.json").write_text(json.dumps(asked))
    assert provision.main(["--folder", str(tmp_path)]) == 2
    assert "run kits already" in capsys.readouterr().err


def test_a_private_folder_has_no_blank_in_its_name_and_goes(tmp_path):
    (tmp_path / "with a blank").mkdir()
    with processes.private_folder(tmp_path / "with a blank") as folder:
        assert " " not in str(folder) and folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_what_nobody_foresaw_is_one_line_without_a_place(capsys):
    def work():
        raise RuntimeError("/home/somebody")

    assert processes.exit_status(work) == 1
    assert capsys.readouterr().err == "coinstac-meshnet: unexpected RuntimeError\n"


def test_nobody_who_has_stopped_listening_fails_what_is_done(tmp_path):
    said = "from pathlib import Path; from neuroflame.words import complain, say; say('a'); complain('b'); say('c')"
    said += "; Path('end').write_text('done')"
    environment = {**os.environ, **isolation.variables()}
    reading, writing = os.pipe()
    os.close(reading)
    for broken in ({"stdout": writing}, {"stderr": writing}, {"stdout": writing, "stderr": writing}):
        subprocess.run([sys.executable, "-c", said], cwd=tmp_path, env=environment, timeout=100, check=False, **broken)
        assert (tmp_path / "end").read_text() == "done"
        (tmp_path / "end").unlink()
    os.close(writing)


@pytest.mark.parametrize(("end", "status"), [("return 3", 3), ("sys.exit(143)", 143), ("sys.exit()", 0)])
def test_a_script_ends_although_a_thread_of_a_librarys_never_does(end, status):
    code = f"""
import sys, time
from concurrent.futures import ThreadPoolExecutor
from neuroflame.processes import leave

def main():
    ThreadPoolExecutor().submit(time.sleep, 600)
    print("its last word")
    {end}

leave(main)
"""
    environment = {**os.environ, **isolation.variables()}
    done = subprocess.run([sys.executable, "-c", code], stdout=-1, text=True, timeout=100, env=environment)
    assert (done.returncode, done.stdout) == (status, "its last word\n")
