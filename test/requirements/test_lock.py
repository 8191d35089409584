"""The lock file is what pyproject.toml asks for, whole, with a hash for every file, and what these tests run with."""

import functools
import http.server
import importlib.metadata
import re
import threading

import lock
import pytest
from lock import with_torch
from locked import APART, HERE, LOCK, TORCH, Pin, lock_of, parse, selected, torch_wheels, written
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TEXT = LOCK.read_text(encoding="utf-8")
PINS = parse(TEXT)
PROJECT = (HERE.parent / "pyproject.toml").read_text(encoding="utf-8")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
SYSTEMS = (("linux", "Linux", "x86_64"), ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64"))
EXTRAS = (
    *("mesh", "swarm", "service", "aws", "dev-service", "nvflare"),
    *("demo", "wandb", "docker", "figures", "benchmarks", "export", "privacy", "fuzz", "dev"),
)


def environment(python, system):
    names = dict(zip(("sys_platform", "platform_system", "platform_machine"), system, strict=True))
    versions = {"python_version": python, "python_full_version": f"{python}.9", "implementation_version": f"{python}.9"}
    return {**names, **versions, "platform_python_implementation": "CPython", "extra": ""}


def installed(python, system):
    """Return what a lock file's reader gets there: one version of each package."""
    here = environment(python, system)
    found = [pin for pin in PINS if not pin.marker or Marker(pin.marker).evaluate(here)]
    assert len({pin.name for pin in found}) == len(found)
    return {pin.name: pin for pin in found}


def requirements(section):
    """Return the requirements of one list of pyproject.toml; Python 3.10 has no reader of TOML."""
    listed = re.search(rf"^{section} = \[(.*?)\]$", PROJECT, re.S | re.M)[1]
    return [Requirement(line) for line in re.findall(r'"([^"]+)"', listed)]


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: f"{system[0]}-{system[2]}")
@pytest.mark.parametrize("python", PYTHONS)
def test_what_the_project_asks_for_is_pinned_to_it(python, system):
    here = installed(python, system)
    for section in ("dependencies", *EXTRAS, "build", "lock"):
        wanted = requirements(section)
        assert wanted, section
        for requirement in wanted:
            if requirement.marker is None or requirement.marker.evaluate(environment(python, system)):
                pin = here[canonicalize_name(requirement.name)]
                assert requirement.specifier.contains(pin.version), requirement
                assert {"base" if section == "dependencies" else section, "base"} & set(pin.groups), requirement


@pytest.mark.parametrize("name", APART)
def test_a_group_apart_is_pinned_whole_in_a_file_of_its_own(name):
    pins = parse(lock_of(name).read_text(encoding="utf-8"))
    assert lock_of(name) != LOCK and not selected(PINS, [name])
    assert len(pins) > 10 and all(pin.hashes and pin.via and pin.groups == (name,) for pin in pins)
    for requirement in requirements(name):
        assert any(pin.name == requirement.name and requirement.specifier.contains(pin.version) for pin in pins)
    assert written(pins) == lock_of(name).read_text(encoding="utf-8")


def test_every_file_has_a_hash_and_every_pin_a_reader():
    assert len(PINS) > 100
    for pin in PINS:
        assert pin.hashes and len(set(pin.hashes)) == len(pin.hashes), pin.name
        assert pin.groups and pin.via, pin.name
    groups = {group for pin in PINS for group in pin.groups}
    assert groups == {"base", "cuda", "build", "lock", *EXTRAS}


def test_the_dead_package_is_not_in_it():
    assert "asyncio" not in {pin.name for pin in PINS}
    assert "coinstac" in {pin.name for pin in selected(PINS, ["base"])}


def test_only_cuda_builds_bring_cuda():
    cuda = {pin.name for pin in selected(PINS, ["cuda"])}
    assert {"triton", "nvidia-cublas"} <= cuda
    assert cuda.isdisjoint(pin.name for pin in selected(PINS, ["base", *EXTRAS]))


def test_both_kinds_of_pytorch_are_accepted():
    torch = next(pin for pin in PINS if pin.name == "torch")
    own = torch_wheels(TORCH.read_text(encoding="utf-8"))[torch.version]
    assert set(own) < set(torch.hashes) and len(torch.hashes) - len(own) >= 20  # PyPI's wheels
    for python in ("cp310", "cp311", "cp312", "cp313"):
        names = re.findall(
            rf"torch-{torch.version}\+cpu-{python}-{python}-(\S+)\.whl", TORCH.read_text(encoding="utf-8")
        )
        assert "manylinux_2_28_aarch64" in names
        assert "manylinux_2_28_x86_64" in names or names.count("UNTOLD") == 2


def test_reading_and_writing_are_inverse():
    assert written(PINS) == TEXT
    odd = (Pin("a.b-c", "1.0.post1", "python_version < '3.11'", ("0" * 64, "f" * 64), ("base", "dev"), ("x", "y")),)
    assert parse(written(odd)) == odd
    with pytest.raises(ValueError, match="not a line of a lock file"):
        parse("torch>=2\n")


def test_these_tests_run_with_what_is_locked():
    """A version that nobody else gets would make them worth little; pip's own tools are the environment's."""
    here = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    here = {canonicalize_name(name): version.partition("+")[0] for name, version in here.items() if name}
    locked = {pin.name: pin.version for pin in PINS if not pin.marker or Marker(pin.marker).evaluate()}
    both = (here.keys() & locked.keys()) - {"pip", "setuptools"}
    assert len(both) > 30
    assert {name: here[name] for name in both} == {name: locked[name] for name in both}


def test_a_version_of_pytorch_without_listed_wheels_is_refused():
    with pytest.raises(SystemExit, match=r"no hash for torch 9\.0"):
        with_torch([Pin("torch", "9.0", hashes=("0" * 64,))], TORCH.read_text(encoding="utf-8"))


@pytest.fixture
def index(tmp_path):
    """The address of an index of ours, whose pages lie in the test's folder."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_hashes_are_read_from_the_pages_of_an_index(index, tmp_path, monkeypatch):
    link = '<a href="/whl/x/torch-{}%2B{}-cp311-cp311-{}.whl#sha256={}">torch</a>\n'
    cpu = link.format("2.0", "cpu", "manylinux_2_28_x86_64", "a" * 64) + link.format(
        "2.0", "cpu", "win_amd64", "b" * 64
    )
    cpu += link.format("1.9", "cpu", "manylinux_2_28_x86_64", "d" * 64)
    cuda = (
        link.format("2.0", "cu130", "manylinux_2_28_x86_64", "c" * 64) + '<a href="torch-2.0%2Bcu130-linux.whl">?</a>'
    )
    for flavour, page in (("cpu", cpu), ("cu130", cuda)):
        (tmp_path / flavour / "torch").mkdir(parents=True)
        (tmp_path / flavour / "torch" / "index.html").write_text(page, encoding="utf-8")
    monkeypatch.setattr(lock, "TORCH", tmp_path / "torch.txt")
    lock.renew_torch(index, "2.0")
    assert torch_wheels((tmp_path / "torch.txt").read_text(encoding="utf-8")) == {"2.0": ("a" * 64, "c" * 64)}
    with pytest.raises(SystemExit, match=r"names no Linux wheel of torch 2\.1\+cpu"):
        lock.renew_torch(index, "2.1")
