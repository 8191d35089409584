"""The embedded consortium: the platform's file moves and rules, deaths and restarts, and nothing left behind."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from computation.errors import SimulatorError
from simulator import embedded, wire
from simulator.layout import CENTRE, RUN, Layout
from simulator.observer import Observer

pytestmark = pytest.mark.timeout(60)
SUMMING = Path(__file__).with_name("summing.py")
SECRET = "subject-0042 in /data/hospital"


class Watcher(Observer):
    """Remembers every process, and kills a node's at chosen messages."""

    def __init__(self, kill=()):
        self.pids, self.now, self.calls, self.outputs, self.kill = [], {}, [], [], set(kill)

    def on_start(self, client, pid):
        self.pids.append(pid)
        self.now[client] = pid

    def on_call(self, client, iteration):
        self.calls.append((client, iteration))
        self._strike("call", client, iteration)

    def on_reply(self, client, iteration, output):
        self._strike("reply", client, iteration)

    def on_cycle(self, cycle, output):
        self.outputs.append(output)

    def _strike(self, *moment):
        if moment in self.kill:
            self.kill.remove(moment)
            os.kill(self.now[moment[1]], signal.SIGKILL)

    def nobody_left(self):
        return not any(map(running, self.pids))


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Runs:
    """Runs the summing computation in a folder of its own."""

    def __init__(self, root):
        self.inputs, self.layout, self.watcher = root / "inputs", Layout(root / "run"), Watcher()

    def __call__(self, sites=2, rounds=3, faults=None, **options):
        for site in range(sites):
            folder = self.inputs / f"local{site}" / RUN
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "site.db").write_text(f"the original of site {site}")
        spec = [
            {name: {"value": value} for name, value in self.task(site, rounds, faults or {}).items()}
            for site in range(sites)
        ]
        options = {"command": [sys.executable, str(SUMMING)], "observer": self.watcher, "deadline": 30, **options}
        return embedded.run(spec, inputs=self.inputs, output=self.layout.root, **options)

    def task(self, site, rounds, faults):
        return {"number": 10**site, "rounds": rounds, "size": 1000, "fault": faults.get(site, [])}

    def fails(self, *args, **options):
        with pytest.raises(SimulatorError) as error:
            self(*args, **options)
        assert self.watcher.nobody_left()
        assert SECRET not in error.value.public
        return error.value


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


# --- an ordinary run ---------------------------------------------------------------------------------------------


def test_every_message_and_file_arrives(runs):
    result = runs(sites=3)
    assert result.output["total"] == 3 * 111 and result.sites == ("local0", "local1", "local2")
    assert [cycle.iteration for cycle in result.cycles] == [1, 2, 3]
    assert all(cycle.files_up == cycle.files_down == 3 * 1000 for cycle in result.cycles)
    assert all(cycle.messages_up > 0 and cycle.messages_down > 0 for cycle in result.cycles)
    assert result.restarts == {"local0": 0, "local1": 0, "local2": 0, CENTRE: 0}
    assert runs.watcher.nobody_left() and len(set(runs.watcher.pids)) == 4


def test_processes_are_started_once_and_kept(runs):
    runs()
    assert all(output["pids"] == runs.watcher.outputs[0]["pids"] for output in runs.watcher.outputs)


def test_files_lie_where_the_platform_puts_them(runs):
    runs()
    layout = runs.layout
    for site in ("local0", "local1"):
        assert (layout.base(CENTRE) / site / "__cx_part.bin").read_bytes()[0] == 3
        assert (layout.base(site) / "__cx_total.bin").read_bytes()[0] == 2  # the last ordinary iteration
        assert (layout.output(site) / "__cx_total.bin").read_bytes()[0] == 3  # the final one
        assert not any(layout.transfer(site).iterdir())
        assert (layout.base(site) / "site.db").samefile(runs.inputs / site / RUN / "site.db")
    assert not any(layout.transfer(CENTRE).iterdir())


def test_sites_do_not_share_what_they_received(runs):
    runs()
    first, second = (runs.layout.base(site) / "__cx_total.bin" for site in ("local0", "local1"))
    assert first.read_bytes() == second.read_bytes() and not first.samefile(second)


def test_folders_travel_whole(runs):
    runs(rounds=2, faults={0: [[1, "nested"]], 1: [[1, "centre-nested"]]})
    leaf = Path("__cx_folder", "deep", "__cx_leaf.bin")
    for folder in (runs.layout.base(CENTRE) / "local0", runs.layout.base("local0"), runs.layout.base("local1")):
        assert (folder / leaf).read_bytes() == b"leaf"


def test_a_file_of_thirty_megabytes_passes(runs, monkeypatch):
    monkeypatch.setattr(runs, "task", lambda site, rounds, _: {"number": 1, "rounds": rounds, "size": 30_000_000})
    result = runs(rounds=1)
    assert result.cycles[0].files_up == 60_000_000
    assert (runs.layout.output("local1") / "__cx_total.bin").stat().st_size == 30_000_000


def test_a_file_of_the_centre_never_reaches_the_users_original(runs):
    error = runs.fails(rounds=2, faults={0: [[1, "centre-overwrite"]]})
    assert "remote: the centre sends 'site.db'" in error.public and "'__cx_'" in error.public
    assert (runs.layout.base("local0") / "site.db").read_text() == "the original of site 0"
    assert (runs.inputs / "local0" / RUN / "site.db").read_text() == "the original of site 0"


def test_everything_of_an_earlier_run_is_moved_aside_before_the_next_begins(runs):
    runs(sites=3, rounds=1)
    (runs.layout.output("local2") / "kept").touch()
    (runs.layout.base("local0") / "stale").touch()
    log, summary = runs.layout.log("local2").read_bytes(), runs.layout.summary.read_bytes()
    runs.fails(sites=2, faults={0: [[1, "raise"]]})
    shelf = runs.layout.root / "earlier-runs" / "0001"
    assert not runs.layout.summary.exists() and (shelf / "summary.json").read_bytes() == summary
    assert (shelf / "logs" / "local2.log").read_bytes() == log and not runs.layout.log("local2").exists()
    assert (shelf / "output" / "local2" / RUN / "kept").exists() and not runs.layout.output("local2").exists()
    assert not (runs.layout.base("local0") / "stale").exists()
    assert runs(sites=2, rounds=1).output["total"] == 11
    assert sorted(path.name for path in shelf.parent.iterdir()) == ["0001", "0002"]
    assert not (shelf.parent / "0002" / "summary.json").exists()


def test_a_run_that_cannot_begin_moves_nothing(runs):
    runs(rounds=1)
    before = runs.layout.summary.read_bytes()
    (runs.inputs / "local1" / RUN / "site.db").unlink()
    (runs.inputs / "local1" / RUN).rmdir()
    with pytest.raises(SimulatorError, match="site local1 has no input folder"):
        embedded.run([{}, {}], inputs=runs.inputs, output=runs.layout.root)
    assert runs.layout.summary.read_bytes() == before and not (runs.layout.root / "earlier-runs").exists()


def test_a_second_run_in_the_same_output_folder_is_refused_and_harms_nothing(runs):
    refused = []

    class Intruder(Observer):
        def on_cycle(self, cycle, output):
            with pytest.raises(SimulatorError, match="another run is using the output folder") as error:
                Runs(runs.inputs.parent)()
            refused.append(error.value)

    assert runs(rounds=2, observer=Intruder()).output["total"] == 22
    assert len(refused) == 2
    assert runs(rounds=1).output["total"] == 11


def orders(runs, seed):
    runs.watcher.outputs.clear()
    assert runs(sites=4, rounds=6, shuffle_seed=seed).output["total"] == 6 * 1111
    return [output["order"] for output in runs.watcher.outputs]


def test_the_order_of_arrival_is_shuffled_from_a_seed(runs):
    first, again = orders(runs, 1), orders(runs, 1)
    assert first == again and len({tuple(order) for order in first}) > 1
    assert all(sorted(order) == ["local0", "local1", "local2", "local3"] for order in first)


def test_without_a_seed_the_order_is_that_of_the_sites(runs):
    runs(sites=3, rounds=2)
    assert [output["order"] for output in runs.watcher.outputs] == [["local0", "local1", "local2"]] * 2


def test_what_a_process_prints_is_in_its_log(runs):
    runs(rounds=1, faults={1: [[1, "print"]]})
    assert "a line from the computation" in runs.layout.log("local1").read_text()
    assert runs.layout.log("local0").read_text() == ""


# --- deaths --------------------------------------------------------------------------------------------------------


def test_a_kill_between_any_two_messages_changes_nothing(runs):
    moments = [("reply", client, iteration) for client in ("local0", "local1", CENTRE) for iteration in (1, 2)]
    runs.watcher = Watcher([*moments, ("call", "local0", 3), ("call", CENTRE, 3)])
    result = runs()
    assert result.output["total"] == 33 and not runs.watcher.kill
    assert result.restarts == {"local0": 3, "local1": 2, CENTRE: 3}
    assert runs.watcher.nobody_left()


@pytest.mark.parametrize("fault", ["die-once", "centre-die-once"])
def test_a_death_within_a_call_repeats_the_call_without_its_debris(runs, fault):
    result = runs(faults={0: [[2, fault]]})
    client = CENTRE if fault.startswith("centre") else "local0"
    assert result.output["total"] == 33
    assert result.restarts == {"local0": 0, "local1": 0, CENTRE: 0, client: 1}
    assert runs.watcher.calls.count((client, 2)) == 2
    assert not list(runs.layout.root.rglob("__cx_debris.bin"))


def test_a_second_death_within_a_call_ends_the_run(runs):
    assert runs.fails(faults={1: [[2, "die"]]}).public == "local1: its process died twice over iteration 2"
    assert runs.watcher.calls.count(("local1", 2)) == 2


# --- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "client", "said"),
    [
        ("raise", "local1", "unexpected ValueError"),
        ("refuse", "local1", "the gradient is not finite"),
        ("centre-raise", CENTRE, "unexpected ValueError"),
        ("centre-refuse", CENTRE, "the gradient is not finite"),
        ("null", "local1", "no output"),
        ("none", "local1", "no output"),
        ("centre-null", CENTRE, "no output"),
        ("nan", "local1", "JSON cannot carry"),
        ("huge", "local1", "tensors travel in files"),
        ("success", "local1", "only the centre"),
        ("exit", "local1", "SystemExit"),
        ("link", "local1", "holds a link"),
        ("centre-link", CENTRE, "holds a link"),
    ],
)
def test_an_error_names_its_node_and_everybody_is_told(runs, fault, client, said):
    error = runs.fails(rounds=2, faults={1: [[1, fault]]})
    assert error.public.startswith(f"{client}: ") and said in error.public
    for node in ("local0", "local1", CENTRE):
        assert error.public in runs.layout.log(node).read_text()


def test_the_traceback_stays_with_its_site(runs):
    runs.fails(rounds=1, faults={1: [[1, "raise"]]})
    assert SECRET in (runs.layout.output("local1") / "error.log").read_text()
    others = [path for path in runs.layout.root.rglob("*") if path.is_file() and "local1" not in str(path)]
    assert not any(SECRET in path.read_text(errors="replace") for path in others)


def test_a_node_that_never_answers_is_named(runs):
    assert runs.fails(faults={1: [[2, "hang"]]}, deadline=3).public == "local1: no reply to iteration 2 within 3 s"


def test_the_first_failure_is_not_kept_waiting_by_the_other_sites(runs):
    assert "local1" in runs.fails(faults={0: [[1, "hang"]], 1: [[1, "raise"]]}, deadline=None).public


def test_a_command_that_ends_at_once_is_a_clear_error(runs):
    error = runs.fails(command=[sys.executable, "-c", "print('no such module'); raise SystemExit(3)"])
    assert "ended before it listened" in error.public and "no such module" in error.private


def test_a_command_that_does_not_exist_is_a_clear_error(runs):
    assert "cannot be started" in runs.fails(command=["/no/such/program"]).public


# --- a server that is not ours -----------------------------------------------------------------------------------

STRANGER = """
import asyncio, os, sys
from websockets.asyncio.server import serve
async def attend(connection):
    async for message in connection:
        {action}
async def main():
    async with serve(attend, "127.0.0.1", int(os.environ["COINSTAC_PORT"]), max_size=None):
        await asyncio.Future()
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("await connection.send('[1')", "not JSON"),
        ('await connection.send(\'{"type": "stdout", "data": {"output": NaN}, "end": true}\')', "not JSON"),
        ("await connection.send('[]')", "neither a result nor an error"),
        ('await connection.send(\'{"type": "stdout", "data": "text", "end": true}\')', "neither"),
        ('await connection.send(\'{"type": "stdout", "data": {"output": 0}, "end": true}\')', "no output"),
        ("await connection.close(1000)", "closed without a reply"),
        ("await connection.close(1011)", "1011"),
        ("await connection.send('x' * (101 * 2**20))", "1009"),
    ],
)
def test_what_would_hang_the_platform_is_a_clear_error(runs, action, said):
    error = runs.fails(sites=1, command=[sys.executable, "-c", STRANGER.format(action=action)])
    assert said in error.public and error.public.startswith("local0: ")


def test_a_reply_in_pieces_is_put_together(runs):
    text = json.dumps({"type": "stdout", "end": True, "data": {"output": {"deep": "ü" * 10}}}, ensure_ascii=False)
    action = f"await connection.ping(); await connection.send(list({text!r}))"
    command = [sys.executable, "-c", STRANGER.format(action=action)]
    seen = []

    class Stop(Observer):
        def on_reply(self, client, iteration, output):
            seen.append(output)
            raise SimulatorError("seen enough")

    with pytest.raises(SimulatorError, match="seen enough"):
        runs(sites=1, command=command, observer=Stop())
    assert seen == [{"deep": "ü" * 10}]


# --- the end of the simulator itself ---------------------------------------------------------------------------------

DRIVER = """
import sys
from pathlib import Path
from simulator import embedded
from simulator.observer import Observer
class Print(Observer):
    def on_start(self, client, pid):
        print(pid, flush=True)
    def on_cycle(self, cycle, output):
        if cycle.iteration == 3:
            print("running", flush=True)
root = Path(sys.argv[1])
spec = {name: {"value": value} for name, value in (("number", 1), ("rounds", 10**9))}
embedded.run(spec, sites=2, inputs=root / "inputs", output=root / "run", command=sys.argv[2:], observer=Print())
"""


@pytest.mark.parametrize(
    ("number", "ctrl_c"),
    [
        (signal.SIGINT, "default_int_handler"),
        (signal.SIGTERM, "default_int_handler"),
        (signal.SIGTERM, "SIG_IGN"),  # as in a shell script's background jobs
        (signal.SIGKILL, "default_int_handler"),
    ],
)
def test_no_process_outlives_the_simulator(runs, number, ctrl_c):
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux tells a child of its parent's death")
    for site in range(2):
        (runs.inputs / f"local{site}" / RUN).mkdir(parents=True)
    root = Path(__file__).resolve().parents[2]
    driver = f"import signal\nsignal.signal(signal.SIGINT, signal.{ctrl_c})\n{DRIVER}"
    command = [sys.executable, "-c", driver, str(runs.inputs.parent), sys.executable, str(SUMMING)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root) as driver:
        lines = iter(driver.stdout.readline, "running\n")
        pids = [int(line) for line in lines]
        driver.send_signal(number)
        driver.wait(timeout=30)
        assert number == signal.SIGKILL or "KeyboardInterrupt" in driver.stderr.read()
    assert len(pids) == 3
    gone = threading.Event()
    while any(map(running, pids)):
        gone.wait(0.01)


INSIDE_A_LOCK = """
import os, signal, subprocess
class Terminated(subprocess.Popen):
    times = 0
    def poll(self):
        now = Terminated.times == 40
        Terminated.times += 1
        if now:  # where CPython, too, has taken the lock and not yet entered what gives it back
            self._waitpid_lock.acquire()
            os.kill(os.getpid(), signal.SIGTERM)
            self._waitpid_lock.release()
        return super().poll()
subprocess.Popen = Terminated
"""


@pytest.mark.parametrize("ctrl_c", ["default_int_handler", "SIG_IGN"])
def test_a_signal_in_the_middle_of_a_statement_leaves_no_lock_taken(runs, ctrl_c):
    for site in range(2):
        (runs.inputs / f"local{site}" / RUN).mkdir(parents=True)
    driver = f"import signal\nsignal.signal(signal.SIGINT, signal.{ctrl_c})\n{INSIDE_A_LOCK}{DRIVER}"
    command = [sys.executable, "-c", driver, str(runs.inputs.parent), sys.executable, str(SUMMING)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=40, check=False, cwd=Path(__file__).resolve().parents[2]
    )
    assert done.returncode != 0 and "KeyboardInterrupt" in done.stderr


def test_an_exception_of_the_observer_ends_all_processes(runs):
    class Fault(Watcher):
        def on_cycle(self, cycle, output):
            raise ZeroDivisionError

    runs.watcher = Fault()
    with pytest.raises(ZeroDivisionError):
        runs()
    assert len(runs.watcher.pids) == 3 and runs.watcher.nobody_left()


def test_a_run_off_the_main_thread_works(runs):
    results = []
    thread = threading.Thread(target=lambda: results.append(runs(rounds=1)))
    thread.start()
    thread.join(30)
    assert results[0].output["total"] == 11


def test_a_node_that_takes_connections_but_never_answers_one_is_given_up_when_its_start_is_over(runs, monkeypatch):
    monkeypatch.setattr("simulator.node._STARTUP", 1.0)
    listen = "s = socket.create_server(('127.0.0.1', int(os.environ['COINSTAC_PORT'])))"
    silent = f"import os, socket, time; {listen}; time.sleep(600)"
    assert "did not listen within 1 s" in runs.fails(command=[sys.executable, "-c", silent]).public


def test_a_connection_that_the_kernel_gives_up_is_an_error_that_names_the_node(runs, monkeypatch):
    """A socket's ETIMEDOUT is a `TimeoutError`, as is the simulator's own limit, of which there is none here."""

    async def give_up(connection):
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    monkeypatch.setattr(wire._Connection, "receive", give_up)
    assert "local0: its connection in iteration 1 was given up" in runs.fails(sites=1, deadline=None).public
