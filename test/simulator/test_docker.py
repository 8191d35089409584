"""The consortium in containers: what they may do, what happens when they die, and that none outlives its run."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from computation.errors import SimulatorError
from simulator import embedded
from simulator.containers import identity, removal, wandb
from simulator.containers.engine import DockerEngine
from simulator.containers.options import IMAGE, DockerOptions
from simulator.containers.removal import OWNER, remove_stale
from simulator.layout import CENTRE, RUN, Layout
from simulator.observer import Observer

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
pytestmark = pytest.mark.timeout(120)


# --- without an engine -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"network": "host"}, "none or bridge"),
        ({"memory": "much"}, "4g"),
        ({"memory": "-1g"}, "4g"),
        ({"cpus": -1.0}, "positive"),
        ({"cpus": float("nan")}, "positive"),
        ({"gpus": "some"}, "device=0,1"),
        ({"gpus": "device="}, "device=0,1"),
        ({"gpus": "-1"}, "device=0,1"),
    ],
)
def test_an_impossible_option_is_refused(options, said):
    with pytest.raises(SimulatorError, match=said):
        DockerOptions(**options)


def test_an_engine_that_does_not_answer_is_a_clear_error(tmp_path, monkeypatch):
    pytest.importorskip("docker")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(SimulatorError, match="no Docker Engine answers"):
        DockerEngine(DockerOptions(), Layout(tmp_path), {"local0": {}})


def test_a_missing_sdk_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(SimulatorError, match=r"coinstac-meshnet\[docker\]"):
        DockerEngine(DockerOptions(), Layout(tmp_path), {"local0": {}})


def test_only_a_dead_process_of_this_machine_is_taken_for_gone():
    with subprocess.Popen(["sleep", "60"]) as process:
        machine = identity._machine()
        owner = f"{machine} {process.pid} {identity._birth(process.pid)}"
        assert not identity.is_gone(owner) and not identity.is_gone(identity.own_identity())
        process.kill()
    assert identity.is_gone(owner)
    assert not identity.is_gone(owner.replace(machine, "another pid:[1]"))
    assert not identity.is_gone("") and not identity.is_gone("nonsense")


def test_a_reused_process_id_is_not_taken_for_the_old_process():
    machine, process, birth = identity.own_identity().rsplit(" ", 2)
    assert identity.is_gone(f"{machine} {process} {int(birth) - 1}")


KEY = "not-a-real-key-0123456789"
GIVEN = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://logs", "WANDB_MODE": "", "WANDB_DIR": "/home/me", "HOME": "/"}


@pytest.mark.parametrize("inputs", [{}, {"wandb": {}}, {"wandb": {"mode": "offline"}}, {"wandb": {"project": "p"}}])
def test_a_site_that_does_not_log_online_gets_no_key(inputs):
    assert wandb.variables(inputs, GIVEN) == {}


def test_a_site_that_logs_online_gets_the_key_and_nothing_of_the_machine():
    wish = {"wandb": {"mode": "online"}}
    assert wandb.variables(wish, GIVEN) == {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://logs"}
    assert wandb.variables(wish, {}) == {}


# --- with an engine --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client():
    docker = pytest.importorskip("docker")
    try:
        client = docker.from_env()
        client.images.get(IMAGE)
    except docker.errors.ImageNotFound:
        pytest.skip("the image is not built: make image")
    except docker.errors.DockerException:
        pytest.skip("no Docker Engine answers")
    yield client
    client.close()


@pytest.fixture(scope="module")
def image(client):
    """Return a function that makes an image of a stand-in computation, on top of the product's."""
    made = set()

    def build(script):
        context, name = io.BytesIO(), f"coinstac-meshnet-test-{Path(script).stem}-{os.getpid()}"
        recipe = f'FROM {IMAGE}\nCOPY {script} /stand-in.py\nCMD ["python", "/stand-in.py"]\n'.encode()
        with tarfile.open(fileobj=context, mode="w") as archive:
            for member, content in (("Dockerfile", recipe), (script, (HERE / script).read_bytes())):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        context.seek(0)
        client.images.build(fileobj=context, custom_context=True, tag=name, rm=True)
        made.add(name)
        return name

    yield build
    for name in made:
        client.images.remove(name, force=True)


@pytest.fixture(scope="module")
def summing(image):
    return image("summing.py")


def left(client, process=None):
    """Return the containers and networks of a process's runs, by default of this one's: others may share the engine."""
    process = process or os.getpid()
    owner = f"{identity._machine()} {process} {identity._birth(process)}".rstrip()
    things = [*client.containers.list(all=True, filters={"label": OWNER}, ignore_removed=True)]
    labels = [thing.labels for thing in things]
    labels += [network.attrs["Labels"] for network in client.networks.list(filters={"label": OWNER})]
    return [label for label in labels if label[OWNER].startswith(owner)]


def inputs(root, sites=2):
    for site in range(sites):
        folder = root / "inputs" / f"local{site}" / RUN
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "site.db").write_text(f"the original of site {site}")
    return root / "inputs"


def summed(root, summing, observer=None, faults=None, rounds=3, more=None, **options):
    """Run the summing computation; the total is 11 for each round."""
    spec = [
        {
            "number": {"value": 10**site},
            "rounds": {"value": rounds},
            "size": {"value": 1000},
            "fault": {"value": (faults or {}).get(site, [])},
            **(more or {}).get(f"local{site}", {}),
        }
        for site in range(2)
    ]
    engine = partial(DockerEngine, DockerOptions(image=summing, **options))
    return embedded.run(spec, inputs=inputs(root), output=root / "run", engine=engine, observer=observer, deadline=60)


class Watcher(Observer):
    """Looks at every container that starts, and kills a node's at chosen messages."""

    def __init__(self, client, kill=()):
        self.client, self.kill, self.settings = client, set(kill), {}

    def container(self, node):
        mine = self.client.containers.list(filters={"label": f"{OWNER}={identity.own_identity()}"}, ignore_removed=True)
        (found,) = [container for container in mine if container.name.endswith(f"-{node}")]
        return found

    def on_start(self, client, pid):
        assert pid
        self.settings[client] = self.container(client).attrs

    def on_call(self, client, iteration):
        self.strike("call", client, iteration)

    def on_reply(self, client, iteration, output):
        self.strike("reply", client, iteration)

    def strike(self, *moment):
        if moment in self.kill:
            self.kill.remove(moment)
            self.container(moment[1]).kill()


@pytest.mark.parametrize("network", ["none", "bridge"])
def test_a_run_in_containers_comes_to_the_same_and_leaves_none(tmp_path, client, summing, network):
    result = summed(tmp_path, summing, network=network, faults={1: [[1, "print"]]})
    layout = Layout(tmp_path / "run")
    assert result.output["total"] == 33 and not left(client)
    assert "a line from the computation" in layout.log("local1").read_text()
    assert (layout.output("local1") / "__cx_total.bin").stat().st_uid == os.getuid()
    assert (layout.base("local0") / "site.db").samefile(tmp_path / "inputs" / "local0" / RUN / "site.db")


def test_limits_reach_the_containers(tmp_path, client, summing):
    watcher = Watcher(client)
    summed(tmp_path, summing, watcher, rounds=1, memory="256m", cpus=0.5)
    for settings in watcher.settings.values():
        host = settings["HostConfig"]
        assert host["Memory"] == host["MemorySwap"] == 256 * 2**20 and host["NanoCpus"] == 5 * 10**8
        assert host["ReadonlyRootfs"] and settings["Config"]["User"] == f"{os.getuid()}:{os.getgid()}"
        assert not host["PortBindings"] and "OMP_NUM_THREADS=1" in settings["Config"]["Env"]


def test_only_a_site_that_logs_online_is_told_the_key(tmp_path, client, summing, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    watcher = Watcher(client)
    inputs_of = {"local0": {"wandb": {"value": {"mode": "online"}}}, "local1": {"wandb": {"value": {"project": "p"}}}}
    summed(tmp_path, summing, watcher, rounds=1, more=inputs_of)
    told = {name: f"WANDB_API_KEY={KEY}" in seen["Config"]["Env"] for name, seen in watcher.settings.items()}
    assert told == {"local0": True, "local1": False, CENTRE: False}
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert written and not any(KEY.encode() in path.read_bytes() for path in written)
    assert KEY not in "".join(capfd.readouterr())


@pytest.fixture
def stranger(client, summing):
    """The address of a server outside of any run, on Docker's default network."""
    container = client.containers.run(summing, detach=True)
    container.reload()
    yield container.attrs["NetworkSettings"]["IPAddress"]
    container.remove(force=True)


@pytest.fixture
def pried(tmp_path, image, stranger):
    """Return a function that runs the prying computation, with a way out or without."""

    def run(network):
        spec = [{"outside": {"value": stranger}}] * 2
        engine = partial(DockerEngine, DockerOptions(image=image("prying.py"), network=network))
        return embedded.run(spec, inputs=inputs(tmp_path), output=tmp_path / "run", engine=engine, deadline=60).output

    return run


def test_a_container_can_do_no_more_than_it_must(pried):
    result = pried("none")
    for name, report in {**result["sites"], CENTRE: result["centre"]}.items():
        folders = {kind: f"/{kind}/{name}/{RUN}" for kind in ("input", "output", "transfer")}
        allowed = [folders["output"], folders["transfer"], "/tmp"]
        refused = ["/", "/opt", folders["input"]]
        assert report["user"] == [os.getuid(), os.getgid()]
        assert report["writes"] == {**dict.fromkeys(refused, False), **dict.fromkeys(allowed, True)}
        assert report["inputs"] == [name] and not report["reaches_outside"]
    own = [[address == report["address"] for address in result["addresses"]] for report in result["sites"].values()]
    assert [report["others"] for report in result["sites"].values()] == own


def test_only_a_bridge_leads_out(pried):
    assert all(report["reaches_outside"] for report in pried("bridge")["sites"].values())


def test_a_death_between_calls_and_one_within_change_nothing(tmp_path, client, summing):
    watcher = Watcher(client, [("reply", "local1", 1), ("reply", CENTRE, 2)])
    result = summed(tmp_path, summing, watcher, faults={0: [[3, "die-once"]]})
    assert result.output["total"] == 33 and not watcher.kill and not left(client)
    assert result.restarts == {"local0": 1, "local1": 1, CENTRE: 1}
    assert "ended with status 1" in Layout(tmp_path / "run").log("local0").read_text()


def test_a_second_death_within_a_call_ends_the_run(tmp_path, client, summing):
    with pytest.raises(SimulatorError, match="local1: its process died twice over iteration 2"):
        summed(tmp_path, summing, faults={1: [[2, "die"]]})
    assert not left(client)


def test_too_little_memory_is_said(tmp_path, client, summing):
    with pytest.raises(SimulatorError, match="more memory than its limit"):
        summed(tmp_path, summing, memory="8m")
    assert not left(client)


@pytest.mark.parametrize(
    ("options", "said"), [({"gpus": "device=no-such"}, "could not be started"), ({"memory": "1k"}, "memory limit")]
)
def test_what_the_engine_refuses_is_a_clear_error(tmp_path, client, summing, options, said):
    with pytest.raises(SimulatorError, match=said):
        summed(tmp_path, summing, **options)
    assert not left(client)


def test_a_missing_image_is_a_clear_error(tmp_path, client):
    with pytest.raises(SimulatorError, match="make image"):
        summed(tmp_path, "coinstac-meshnet-no-such-image")
    assert not left(client)


DRIVER = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell script's background jobs ignore
from functools import partial
from pathlib import Path
from simulator import embedded
from simulator.containers.engine import DockerEngine
from simulator.containers.options import DockerOptions
from simulator.observer import Observer
class Print(Observer):
    def on_cycle(self, cycle, output):
        if cycle.iteration == 2:
            print("running", flush=True)
root = Path(sys.argv[1])
spec = {name: {"value": value} for name, value in (("number", 1), ("rounds", 10**9))}
engine = partial(DockerEngine, DockerOptions(image=sys.argv[2]))
embedded.run(spec, sites=2, inputs=root / "inputs", output=root / "run", engine=engine, observer=Print())
"""


@pytest.fixture
def running(tmp_path, client, summing):
    """A simulator in a process of its own, in the middle of an endless run."""
    inputs(tmp_path)
    command = [sys.executable, "-c", DRIVER, str(tmp_path), summing]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as driver:
        assert driver.stdout.readline() == "running\n"
        assert len(left(client, driver.pid)) == 4
        yield driver
        driver.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_container_outlives_the_simulator(client, running, number):
    running.send_signal(number)
    running.wait(60)
    deadline = time.monotonic() + 60
    while left(client, running.pid) and time.monotonic() < deadline:  # after a kill, the guard clears up
        time.sleep(0.1)
    assert not left(client, running.pid)


def test_the_next_run_clears_up_after_one_that_could_not(client, running, monkeypatch):
    remove_stale(client)
    assert len(left(client, running.pid)) == 4  # it runs
    # As if it had died without its guard.
    monkeypatch.setattr(removal, "is_gone", lambda owner: f" {running.pid} " in owner)
    with ThreadPoolExecutor(3) as pool:  # three runs begin at once
        assert max(pool.map(lambda _: remove_stale(client), range(3))) == 1
    assert not left(client, running.pid)
