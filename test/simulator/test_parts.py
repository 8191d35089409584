"""The simulator's parts: inputspec, folders, ports, environment, figures, progress, and the `simulate` command."""

import argparse
import asyncio
import functools
import json
import os
import socket
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from computation.errors import SimulatorError
from computation.federation.keys import VARIABLE
from simulator import command, embedded, inputspec, transfer, wire
from simulator.layout import CENTRE, RUN, Layout, link_tree
from simulator.process import NodeProcess, Reservation, environment
from simulator.progress import LiveProgress, line
from simulator.result import Cycle, Result, write_summary
from simulator.table import table

pytestmark = pytest.mark.timeout(60)
SUMMING = Path(__file__).with_name("summing.py")

# --- inputspec -----------------------------------------------------------------------------------------------------


def test_an_object_is_cloned_over_the_sites():
    spec = {"a": {"value": [1], "label": "ignored", "type": "ignored"}, "b": {"value": None}}
    assert inputspec.fulfil(spec) == ({"a": [1], "b": None},)
    assert inputspec.fulfil(spec, 3) == ({"a": [1], "b": None},) * 3


def test_a_list_has_one_entry_for_each_site():
    spec = [{"a": {"value": index}} for index in range(3)]
    assert inputspec.fulfil(spec) == ({"a": 0}, {"a": 1}, {"a": 2})
    assert inputspec.fulfil(spec, 2) == ({"a": 0}, {"a": 1})


def test_one_entry_is_for_all_sites_however_it_is_written():
    assert inputspec.fulfil([{"a": {"value": 1}}], 4) == ({"a": 1},) * 4
    assert inputspec.fulfil([{"a": {"value": 1}}]) == ({"a": 1},)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_spec_is_read_as_windows_editors_and_shells_write_it(tmp_path, encoding):
    (tmp_path / "inputspec.json").write_text('{"classes": {"value": ["ü"]}}', encoding=encoding)
    assert inputspec.read(tmp_path / "inputspec.json") == {"classes": {"value": ["ü"]}}


@pytest.mark.parametrize(
    ("spec", "sites", "said"),
    [
        ([], None, "neither"),
        ("text", None, "neither"),
        (7, None, "neither"),
        ([{}, {}], 3, "2 entries; wanted one for each of 3 sites"),
        ({}, 0, "wanted from 1 to 1000 sites"),
        ({}, -1, "wanted from 1 to 1000 sites"),
        ([{}], 10**9, "wanted from 1 to 1000 sites"),
        ([7], None, "is int"),
        ({"a": 7}, None, "'a' of the inputspec has no value"),
        ([{"a": {"valeu": 1}}], None, "'a' of the inputspec has no value"),
    ],
)
def test_a_malformed_spec_is_refused(spec, sites, said):
    with pytest.raises(SimulatorError, match=said):
        inputspec.fulfil(spec, sites)


def test_a_spec_file_that_is_missing_or_not_json_is_refused(tmp_path):
    with pytest.raises(SimulatorError, match="cannot be read"):
        inputspec.read(tmp_path / "inputspec.json")
    (tmp_path / "inputspec.json").write_text("{")
    with pytest.raises(SimulatorError, match="not JSON"):
        inputspec.read(tmp_path / "inputspec.json")


@pytest.mark.parametrize("text", ["NaN", "[1, Infinity]", '{"a": -Infinity}', "1e999"])
def test_a_value_that_is_no_json_is_refused_by_the_name_of_its_variable(tmp_path, text):
    """Python's reader takes them, and the platform's would not."""
    (tmp_path / "inputspec.json").write_text(f'{{"rate": {{"value": {text}}}}}')
    with pytest.raises(SimulatorError, match="'rate' of the inputspec has a value that is no JSON"):
        inputspec.fulfil(inputspec.read(tmp_path / "inputspec.json"))


# --- folders -------------------------------------------------------------------------------------------------------


def site_folder(root, site="local0"):
    folder = root / "inputs" / site / RUN
    (folder / "deep").mkdir(parents=True)
    (folder / "site.db").write_text("original")
    (folder / "deep" / "leaf").write_text("leaf")
    return folder


def test_the_state_names_the_platforms_folders(tmp_path):
    state = Layout(tmp_path).state("local0")
    assert state == {
        "baseDirectory": f"{tmp_path}/input/local0/{RUN}",
        "outputDirectory": f"{tmp_path}/output/local0/{RUN}",
        "transferDirectory": f"{tmp_path}/transfer/local0/{RUN}",
        "cacheDirectory": f"{tmp_path}/cache/local0",
        "clientId": "local0",
    }


def test_a_site_without_a_folder_is_named(tmp_path):
    site_folder(tmp_path)
    with pytest.raises(SimulatorError, match="site local1 has no input folder"):
        Layout(tmp_path / "run").prepare(["local0", "local1"], tmp_path / "inputs")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("output", ["", "inputs", "inputs/run"])
def test_an_output_folder_that_would_swallow_the_inputs_is_refused(tmp_path, output):
    site_folder(tmp_path)
    (tmp_path / "inputs").rename(tmp_path / "input")
    inputs = tmp_path / "input"
    with pytest.raises(SimulatorError, match="overlaps"):
        Layout(tmp_path / output.replace("inputs", "input")).prepare(["local0"], inputs)
    assert (inputs / "local0" / RUN / "site.db").read_text() == "original"


@pytest.mark.parametrize("name", ["input", "transfer", "cache", "output", "logs", "course"])
def test_folders_of_something_else_are_never_emptied_or_moved(tmp_path, name):
    site_folder(tmp_path)
    treasure = tmp_path / "run" / name / "local0" / RUN / "treasure"
    treasure.parent.mkdir(parents=True)
    treasure.touch()
    with pytest.raises(SimulatorError, match="of something else"):
        Layout(tmp_path / "run").prepare(["local0"], tmp_path / "inputs")
    assert treasure.exists()


def test_only_the_lock_tells_of_another_run(tmp_path):
    with Layout(tmp_path).held(), pytest.raises(SimulatorError, match="another run"), Layout(tmp_path).held():
        pass
    with pytest.raises(BlockingIOError), Layout(tmp_path).held():
        raise BlockingIOError  # a terminal that takes no more


def test_an_output_folder_that_is_a_file_is_a_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SimulatorError, match="cannot be made"), Layout(tmp_path / "file").held():
        pass


def test_inputs_are_linked_whole_and_through_symbolic_links(tmp_path):
    folder = site_folder(tmp_path)
    (folder / "alias.db").symlink_to(folder / "site.db")
    link_tree(folder, tmp_path / "linked")
    for name in ("site.db", "alias.db"):
        assert (tmp_path / "linked" / name).samefile(folder / "site.db")
        assert not (tmp_path / "linked" / name).is_symlink()
    assert (tmp_path / "linked" / "deep" / "leaf").read_text() == "leaf"


def test_inputs_on_another_file_system_are_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    folder = site_folder(tmp_path)
    link_tree(folder, tmp_path / "linked")
    assert (tmp_path / "linked" / "site.db").read_text() == "original"
    assert not (tmp_path / "linked" / "site.db").samefile(folder / "site.db")


def test_an_input_that_cannot_be_read_is_an_error(tmp_path):
    folder = site_folder(tmp_path)
    (folder / "broken").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SimulatorError, match="cannot be linked or copied"):
        link_tree(folder, tmp_path / "linked")


def test_clearing_removes_everything(tmp_path):
    folder = site_folder(tmp_path)
    transfer.clear(folder)
    assert list(folder.iterdir()) == []


def test_what_the_centre_sends_has_the_reserved_prefix(tmp_path):
    source, targets = tmp_path / "source", [tmp_path / "one", tmp_path / "two"]
    for folder in (source, *targets):
        folder.mkdir()
    for name in ("__cx_model.bin", "site.db"):
        (source / name).write_text("the centre's")
    (targets[0] / "site.db").write_text("original")
    with pytest.raises(SimulatorError, match=r"'site.db', which could take the place of a site's own file"):
        transfer.broadcast(source, targets)
    assert (targets[0] / "site.db").read_text() == "original" and not (targets[1] / "site.db").exists()
    (source / "site.db").unlink()
    assert transfer.broadcast(source, targets) == len("the centre's")
    assert [(target / "__cx_model.bin").read_text() for target in targets] == ["the centre's"] * 2


# --- processes -----------------------------------------------------------------------------------------------------


def test_reserved_ports_differ_and_a_server_can_listen_there():
    reservations = [Reservation() for _ in range(20)]
    assert len({reservation.port for reservation in reservations}) == 20
    port = reservations[0].port
    with pytest.raises(OSError), socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)):
        socket.create_connection(("127.0.0.1", port)).close()
    for reservation in reservations:
        reservation.release()


def test_a_stranger_on_the_machine_is_not_let_in(tmp_path):
    """Each process has a token of its own; the simulator that started it brings it."""
    summing = [sys.executable, str(SUMMING)]
    node, other = (NodeProcess(summing, tmp_path / "log", 1, tmp_path) for _ in range(2))
    try:
        node.start()
        deadline = time.monotonic() + 30
        while True:
            try:
                asyncio.run(wire.probe(node.host, node.port, 5, node.token))
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline and node.alive
                time.sleep(0.05)
        for token in ("", other.token):
            with pytest.raises(wire.ConnectionLost, match="refused"):
                asyncio.run(wire.Line().call(node.host, node.port, b"{}", token))
    finally:
        node.close()
        other.close()


def test_cores_are_shared_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setattr("simulator.process._cores", lambda: 9)
    assert [environment(1, sites, {})["OMP_NUM_THREADS"] for sites in (1, 2, 4, 20)] == ["9", "4", "2", "1"]
    assert VARIABLE not in environment(1, 2, {VARIABLE: "/one/key.pem"})  # of one node, and here are several
    assert environment(1, 2, {"OMP_NUM_THREADS": "7"})["OMP_NUM_THREADS"] == "7"
    assert environment(1, 2, {"OMP_NUM_THREADS": "4,2"})["OMP_NUM_THREADS"] == "4,2"


@pytest.mark.parametrize("text", ["", " ", "0", "-1", "two", "1.5", "4;2", "٣"])
def test_what_is_no_number_of_threads_is_as_if_not_set(monkeypatch, text):
    """OpenMP takes all cores then, and so would every site at once."""
    monkeypatch.setattr("simulator.process._cores", lambda: 9)
    assert environment(1, 2, {"OMP_NUM_THREADS": text})["OMP_NUM_THREADS"] == "4"


def test_a_node_gets_its_port_on_the_loopback_and_this_package():
    given = {"COINSTAC_PORT": "1", "HOME": "/home", "PYTHONPATH": ":.:scans:/other:"}
    variables = environment(8200, 2, given)
    assert variables["COINSTAC_PORT"] == "8200" and variables["COINSTAC_HOST"] == "127.0.0.1"
    package, *others = variables["PYTHONPATH"].split(os.pathsep)
    assert variables["HOME"] == "/home" and others == ["/other"] and variables["PYTHONSAFEPATH"] == "1"
    assert Path(package, "computation", "entry.py").is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_node_takes_its_own_children_along(tmp_path):
    node = NodeProcess(["sh", "-c", "sleep 600 & echo $!; wait"], tmp_path / "log", 1, tmp_path)
    (tmp_path / "log").touch()
    node.start()
    while not (tmp_path / "log").read_text().endswith("\n"):
        pass
    child = int((tmp_path / "log").read_text())
    node.close()
    while Path(f"/proc/{child}").exists() and " Z " not in Path(f"/proc/{child}/stat").read_text():
        pass
    assert not node.alive


# --- figures -------------------------------------------------------------------------------------------------------

CYCLES = tuple(Cycle(n, seconds, 100, 1000, 200, 2000 * n) for n, seconds in ((1, 9.0), (2, 1.0), (3, 2.0)))


def result(output):
    return Result(output, ("local0", "local1"), CYCLES, {"local0": 0, "local1": 1, CENTRE: 0}, 12.5)


def test_a_summary_is_the_centres_output_and_the_figures():
    sites = {"local0": {"model_digest": "ab"}, "local1": {"model_digest": "ab"}}
    summary = result({"rounds": 3, "sites": sites, "seconds_per_round": 7}).summary()
    assert summary["rounds"] == 3 and summary["sites"] == sites and summary["iterations"] == 3
    assert summary["seconds_per_round"] == 2.0 and summary["bytes_per_round"] == 1300 + 4000
    assert summary["bytes_up"] == 3 * 1100 and summary["bytes_down"] == 3 * 200 + 12_000
    assert summary["restarts"]["local1"] == 1


def test_a_summary_names_the_sites_even_if_the_centre_does_not():
    assert result({}).summary()["sites"] == {"local0": {}, "local1": {}}


def test_a_summary_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "summary.json"
    write_summary(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_summary(path, {"a": float("nan")})
    with pytest.raises(SimulatorError, match="summary cannot be written: the output folder is full"):
        write_summary(tmp_path / "gone" / "summary.json", {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1} and list(tmp_path.iterdir()) == [path]


def test_the_table_survives_strange_values():
    output = {"dice": {"[/bold]": 0.5, "none": None}, "sites": {"local0": {"scans": {"train": 2}}, "x": 7}}
    with Console(file=None, record=True, width=100) as console:
        console.print(table(result(output).summary(), "Simulated run"))
    text = console.export_text()
    assert "[/bold]" in text and "local0: scans train" in text and "seconds_per_round" in text


# --- progress ------------------------------------------------------------------------------------------------------


def test_the_line_shows_what_is_there():
    output = {"phase": "train", "loss": 0.51234, "dice": {"grey": 0.9, "white": None}, "model": "abc", "round": 3}
    assert line(output, {"local1": 4}) == "train · loss 0.5123 · grey 0.9 · waiting for local1"
    assert line({}, {}) == ""
    assert line({"loss": None, "phase": 7, "metrics": {"accuracy": 1}}, {}) == "accuracy 1"


def test_the_bar_follows_the_rounds():
    console = Console(record=True, width=120, force_terminal=True)
    with LiveProgress(console) as progress:
        progress.on_call("local0", 1)
        progress.on_reply("local0", 1, {})
        progress.on_cycle(CYCLES[0], {"phase": "plan", "rounds": 8})
        progress.on_cycle(CYCLES[1], {"phase": "train", "round": 1, "loss": 0.25})
        progress._progress.refresh()
        shown = "".join(column for column in console.export_text(styles=False))
    assert "1/8" in shown and "train · loss 0.25" in shown


@pytest.mark.parametrize("name", ["[/left]", "grey [left]"])
def test_the_bar_shows_class_names_as_they_are(name):
    console = Console(record=True, width=120, force_terminal=True)
    with LiveProgress(console) as progress:
        progress.on_cycle(CYCLES[0], {"dice": {name: 0.5}})
        progress._progress.refresh()
    assert f"{name} 0.5" in console.export_text(styles=False)


# --- the command ---------------------------------------------------------------------------------------------------


def arguments(*words):
    parser = argparse.ArgumentParser()
    command.add_commands(parser.add_subparsers())
    return parser.parse_args(["simulate", *map(str, words)])


@pytest.mark.parametrize("place", ["test/input", "input"])
def test_simulate_runs_a_spec_and_writes_a_summary(tmp_path, monkeypatch, place):
    run = functools.partial(embedded.run, command=[sys.executable, str(SUMMING)])
    monkeypatch.setattr(embedded, "run", run)
    (tmp_path / place / "local0" / RUN).mkdir(parents=True)
    (tmp_path / place / "local1" / RUN).mkdir(parents=True)
    spec = {"number": {"value": 2}, "rounds": {"value": 2}}
    (tmp_path / "inputspec.json").write_text(json.dumps(spec))
    options = arguments(tmp_path / "inputspec.json", "--output", tmp_path / "run", "--sites", 2, "--shuffle", 1)
    options.run(options)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["total"] == 8 and summary["seconds_per_round"] > 0 and set(summary["sites"]) == {"local0", "local1"}


def test_simulate_without_inputs_says_where_they_should_be(tmp_path):
    (tmp_path / "inputspec.json").write_text("{}")
    options = arguments(tmp_path / "inputspec.json", "--output", tmp_path / "run")
    with pytest.raises(SimulatorError, match="--input"):
        options.run(options)
