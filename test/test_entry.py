"""The container's command: which port it takes, and that it listens before anything heavy is imported."""

import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from computation.coinstac.admission import TOKEN
from computation.entry import DEFAULT_PORT, address
from computation.errors import SettingsError
from simulator import wire
from simulator.process import Reservation, environment

pytestmark = pytest.mark.timeout(60)
ROOT = Path(__file__).resolve().parents[1]
ENTRY = str(ROOT / "computation" / "entry.py")
COMMANDS = [["-m", "computation.entry"], [ENTRY], ["-B", ENTRY]]


@pytest.mark.parametrize("text", ["1", "8881", " 9000 ", "65535"])
def test_the_platform_names_the_port(text):
    assert address({"COINSTAC_PORT": text}) == ("0.0.0.0", int(text))


@pytest.mark.parametrize("environment", [{}, {"COINSTAC_PORT": ""}, {"COINSTAC_PORT": " "}])
def test_docker_gets_the_published_port(environment):
    assert address(environment) == ("0.0.0.0", DEFAULT_PORT)


@pytest.mark.parametrize("text", ["0", "65536", "-1", "80.5", "http", "1e3", "٣٤٥", "9" * 5000])
def test_what_is_no_port_number_is_refused(text):
    with pytest.raises(SettingsError, match=r"COINSTAC_PORT is .* wanted a port number"):
        address({"COINSTAC_PORT": text})


def test_a_simulator_stays_on_the_loopback():
    assert address({"COINSTAC_HOST": "127.0.0.1"})[0] == "127.0.0.1"


@pytest.mark.parametrize("name", ["SINGULARITY_CONTAINER", "SINGULARITY_NAME", "APPTAINER_CONTAINER", "APPTAINER_NAME"])
def test_where_the_network_is_the_hosts_only_the_loopback_is_bound(name):
    assert address({name: "/images/meshnet.sif", "COINSTAC_PORT": "8101"}) == ("127.0.0.1", 8101)
    assert address({name: "/images/meshnet.sif", "COINSTAC_HOST": "0.0.0.0"})[0] == "0.0.0.0"
    assert address({name: ""})[0] == "0.0.0.0"


def test_a_token_from_the_environment_is_asked_for():
    """The process that hears it from the environment lets nobody in without it."""
    reservation = Reservation()
    variables = {**environment(reservation.port, 1), TOKEN: "secret"}
    command = [sys.executable, ENTRY]
    with subprocess.Popen(command, env=variables, text=True, stdout=subprocess.PIPE) as process:
        assert "listening" in process.stdout.readline()
        with pytest.raises(wire.ConnectionLost, match="refused the WebSocket handshake"):
            asyncio.run(wire.probe("127.0.0.1", reservation.port, 10))
        with pytest.raises(wire.ConnectionLost, match="refused the WebSocket handshake"):
            asyncio.run(wire.Line().call("127.0.0.1", reservation.port, b"{}", "secre"))
        assert b'"stderr"' in asyncio.run(wire.Line().call("127.0.0.1", reservation.port, b"{}", "secret"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    reservation.release()


def entry(command, port, **options):
    variables = {**environment(0, 1), "COINSTAC_PORT": str(port)}
    return subprocess.Popen([sys.executable, *command], env=variables, text=True, stdout=subprocess.PIPE, **options)


@pytest.mark.parametrize("command", COMMANDS)
def test_it_says_that_it_listens_and_ends_at_once(command, tmp_path):
    reservation = Reservation()
    with entry(command, reservation.port, cwd=tmp_path) as process:
        assert process.stdout.readline() == f"coinstac-meshnet: listening on port {reservation.port}\n"
        socket.create_connection(("127.0.0.1", reservation.port)).close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    reservation.release()


def test_a_bad_port_is_a_clear_error():
    with entry(COMMANDS[0], "eighty", stderr=subprocess.PIPE) as process:
        assert "COINSTAC_PORT is 'eighty'" in process.stderr.read()
        assert process.wait(timeout=20) == 2


def test_a_port_in_use_is_a_clear_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with entry(COMMANDS[0], port, stderr=subprocess.PIPE) as process:
            assert f"port {port} cannot be bound: it is in use" in process.stderr.read()
            assert process.wait(timeout=20) == 1


def test_nothing_heavy_is_imported_before_the_first_call():
    code = (
        "import sys, computation.entry; "
        "print(sorted({'torch', 'numpy', 'nibabel', 'wandb', 'coinstac_computation'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], env=environment(0, 1), capture_output=True, check=True)
    assert printed.stdout.strip() == b"[]"
