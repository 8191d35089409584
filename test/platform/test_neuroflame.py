"""A whole run on NeuroFLAME in containers that may do as little as Singularity's, and that leave nothing elsewhere."""

import json
import os
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from consortium import SHORT
from driving import PRODUCT, RUN, THREADS
from test_run import DIGEST, checksums, expected, sites  # noqa: F401  (a fixture)

from simulator.process import Reservation

pytestmark = [pytest.mark.docker_only, pytest.mark.timeout(480)]

USER = 12_345
CENTRE = "centralNode"
#: Named as in `simulate`: what a site draws depends on its name.
SITES = ("local0", "local1")

#: As Singularity does it: a user without an account, the home of somebody else, none of the image's entry point, no
#: capability; nothing can be written but what is mounted and /tmp.
SHUT_IN = ["--read-only", "--user", f"{USER}:{USER}", "--entrypoint", "python", "--env", "HOME=/nowhere"]
SHUT_IN += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/dev/shm:ro,size=4k"]


@dataclass
class Platform:
    """What NeuroFLAME does between the containers of one run, for a user and with options of `docker run`."""

    root: Path
    user: int
    options: list[str]
    words: tuple[str, ...]
    nodes: list[str] = field(default_factory=list)

    def start(self, script, *mounts):
        """Start one of the image's commands and return its container."""
        command = ["run", "-d", *self.options, "--network", "host", "--tmpfs", "/tmp:size=256m"]
        command += [word for name, value in THREADS.items() for word in ("--env", f"{name}={value}")]
        command += [word for mount in mounts for word in ("--volume", mount)]
        command += [PRODUCT[1], *self.words, f"/workspace/system/entry_{script}.py"]
        made = docker(*command)
        self.nodes.append(made)
        return made

    def folder(self, *names):
        path = self.root.joinpath(*names)
        path.mkdir(parents=True)
        os.chown(path, self.user, self.user)
        return path

    def provision(self, port):
        """Have kits made, and give every site the parameters, as the platform does; returns their folder."""
        folder = self.folder("provisioning")
        asked = {
            "users": [{"id": site, "name": site} for site in SITES],
            "computation_parameters": {name: value for name, value in SHORT.items() if name != "data"},
            "fed_learn_port": port,
            "host_identifier": "localhost",
        }
        (folder / "provision_input.json").write_text(json.dumps(asked))
        made = self.start("provision", f"{folder}:/provisioning")
        assert self.status(made) == 0, docker("logs", made)
        kits = folder / "runKits"
        for site in SITES:
            (kits / site / "parameters.json").write_bytes((kits / CENTRE / "parameters.json").read_bytes())
        return kits

    def run(self, kits):
        """Run the centre and the sites to their end; return their containers by name."""
        started = {CENTRE: self.start("central", f"{kits / CENTRE}:/workspace/runKit:ro")}
        for site in SITES:
            places = {kits / site: "runKit:ro", self.root / "input" / site / RUN: "data:ro"}
            places[self.folder("output", site)] = "output"
            started[site] = self.start("edge", *(f"{path}:/workspace/{place}" for path, place in places.items()))
        return started

    def status(self, container, seconds=240):
        return int(docker("wait", container, timeout=seconds))

    def close(self):
        for container in self.nodes:
            subprocess.run(["docker", "rm", "-f", container], capture_output=True, check=False)


def docker(*words, timeout=60):
    """Return what the Docker command says, on both streams."""
    done = subprocess.run(["docker", *words], stdout=-1, stderr=-2, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("user", "options", "words"), [(USER, SHUT_IN, ()), (0, [], ("python",))], ids=["shut in", "root, who may write"]
)
def test_a_run_ends_in_the_model_of_simulate_and_writes_nowhere_else(tmp_path, mode, expected, user, options, words):  # noqa: F811
    sites(tmp_path, 2)
    before = checksums(tmp_path / "input")
    with ExitStack() as opened:
        platform, port = Platform(tmp_path, user, options, words), Reservation()
        opened.callback(port.release)
        opened.callback(platform.close)
        kits = platform.provision(port.port)
        mounted = checksums(kits)
        started = platform.run(kits)
        statuses = {name: platform.status(container) for name, container in started.items()}
        logs = {name: docker("logs", container) for name, container in started.items()}
        assert statuses == dict.fromkeys(started, 0), "\n".join(f"{name}:\n{log}" for name, log in logs.items())
        assert {log.splitlines()[-1] for log in logs.values()} == {"coinstac-meshnet: the run has succeeded"}
        for container in platform.nodes:
            assert docker("diff", container) == ""
    assert checksums(kits) == mounted and checksums(tmp_path / "input") == before
    for site in SITES:
        output = tmp_path / "output" / site
        assert json.loads((output / "the-centre/summary.json").read_text())[DIGEST] == expected(2)
        assert (output / "index.html").is_file() and list((output / "predictions").iterdir())
        assert {path.lstat().st_uid for path in output.rglob("*")} == {user}
