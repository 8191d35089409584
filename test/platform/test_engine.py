"""The scripts where no engine can be had: they say so in one loud line, and pretend nothing."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LOUD = "##### NO DOCKER ENGINE: {}. Nothing below was checked with real Docker. #####"

# What the scripts use of any system; everything else they find is a stand-in, or is not there.
TOOLS = ("bash", "dirname", "env", "seq", "setsid", "sleep", "tail")


@pytest.fixture
def machine(tmp_path):
    """Return a function that runs a script on a machine with a few programs and no Docker Engine."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for tool in TOOLS:
        (programs / tool).symlink_to(shutil.which(tool))

    def run(script, *words, user=0, **stand_ins):
        for name, body in {"id": f"echo {user}", **stand_ins}.items():
            (programs / name.replace("_", "-")).write_text(f"#!{shutil.which('bash')}\n{body}\n")
            (programs / name.replace("_", "-")).chmod(0o755)
        environment = {"PATH": str(programs), "DOCKER_HOST": f"unix://{tmp_path}/nobody.sock"}
        environment |= {"DOCKERD_LOG": str(tmp_path / "dockerd.log"), "PYTHON": str(programs / "python")}
        command = [shutil.which("bash"), script, *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    return run


def loud(done):
    return [line for line in done.stderr.splitlines() if line.startswith("#####")]


def test_an_ordinary_user_can_start_no_engine(machine):
    done = machine(HERE / "engine.sh", "start", user=1000)
    assert (done.returncode, done.stdout) == (3, "")
    assert loud(done) == [LOUD.format("none answers and only root can start one")]


@pytest.mark.parametrize("stand_ins", [{}, {"apt_get": "exit 100"}, {"docker": "exit 1", "apt_get": "exit 100"}])
def test_root_without_packages_can_start_none(machine, stand_ins):
    done = machine(HERE / "engine.sh", "start", **stand_ins)
    assert (done.returncode, loud(done)) == (3, [LOUD.format("docker.io could not be installed")])


def test_a_daemon_that_ends_at_once_is_not_waited_for(machine):
    dying = {"docker": "exit 1", "dockerd": "echo no such kernel feature; exit 1"}
    done = machine(HERE / "engine.sh", "image", **dying)
    assert (done.returncode, loud(done)) == (3, [LOUD.format("dockerd did not start")])
    assert "no such kernel feature" in done.stderr


@pytest.fixture
def run_sh(tmp_path):
    """A copy of the scripts in a repository whose tests only leave a note that they were run."""
    folder = tmp_path / "repository" / "test" / "platform"
    (folder / "driver").mkdir(parents=True)
    for name in ("run.sh", "engine.sh"):
        shutil.copy(HERE / name, folder)
    shutil.copy(HERE.parents[1] / "Dockerfile", tmp_path / "repository")
    (folder / "driver" / "install.sh").write_text(f"#!{shutil.which('bash')}\n")
    (folder / "driver" / "install.sh").chmod(0o755)
    return folder / "run.sh"


def test_without_an_engine_the_processes_count_and_docker_is_said_to_be_missing(machine, run_sh):
    done = machine(run_sh, user=1000, python='echo "$MESHNET_PLATFORM: $*"')
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["process: -m pytest test/platform"]  # and nothing that claims Docker
    assert loud(done) == [LOUD.format("none answers and only root can start one")]


def test_failing_tests_are_not_excused_by_a_missing_engine(machine, run_sh):
    done = machine(run_sh, user=1000, python="exit 1")
    assert done.returncode == 1 and not loud(done)


def test_an_engine_that_cannot_build_is_a_failure(machine, run_sh):
    broken = {"docker": 'case "$1" in build) exit 7 ;; image) echo no ;; esac', "python": "exit 0"}
    done = machine(run_sh, **broken)
    assert done.returncode == 7 and not loud(done)


def test_the_image_is_built_on_the_digest_of_the_base_that_the_dockerfile_names(machine):
    dockerfile = (HERE.parents[1] / "Dockerfile").read_text(encoding="utf-8")
    named = re.search(r"^ARG BASE=(\S+)$", dockerfile, re.M)[1]
    assert re.fullmatch(r"python:3\.11-slim-bookworm(@sha256:[0-9a-f]{64})?", named)
    told = """case "$*" in
      *RepoDigests*) case "$*" in *NAMED) echo python@sha256:abc ;; esac ;;
      build*) echo "$@" ;;
    esac""".replace("NAMED", named)
    done = machine(HERE / "engine.sh", "image", docker=told)
    assert done.returncode == 0 and "--build-arg BASE=python@sha256:abc -t" in done.stdout
    assert "building on python@sha256:abc" in done.stderr


def test_no_engine_is_asked_to_do_anything_by_a_wrong_word(machine):
    done = machine(HERE / "engine.sh", "stop", docker="exit 1")
    assert done.returncode == 2 and "usage" in done.stderr
