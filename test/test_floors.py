"""A room may import only rooms on lower floors, and heavy imports stay out of the rooms that must be light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The floors of architecture.md, lowest first, counted more finely: what its floors share lies under them, and what only
# one room needs lies beneath that room.
FLOORS = {
    "errors": 0,
    "files": 0,
    "locks": 0,
    "isolation": 0,
    "orphans": 0,
    "colours": 0,
    "printable": 0,
    "checks": 1,
    "terminal": 1,
    "cells": 2,
    "settings": 2,
    "wire": 2,
    "secure": 3,
    "scans": 3,
    "tracking": 3,
    "sqlite_fixtures": 4,
    "model": 4,
    "training": 5,
    "report": 5,
    "strategies": 6,
    "coinstac": 6,
    "federation": 7,
    "local": 8,
    "remote": 8,
    "entry": 9,
    "simulator": 10,
    "neuroflame": 11,
    "peers": 11,
    "service": 11,
    "commands": 12,
    "cli": 13,
}


def _room(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] in ("simulator", "sqlite_fixtures", "neuroflame", "peers", "service"):
        return parts[0]
    return parts[1] if parts[0] == "computation" and len(parts) > 1 else None


def _within(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def _imports(path: Path) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            # `from room import file` imports the file; `from file import name` a name in it, which does no harm here.
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


SOURCES = sorted(
    path
    for room in ("computation", "simulator", "neuroflame", "peers", "service")
    for path in (ROOT / room).rglob("*.py")
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_go_down(path):
    own = _room(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if own in (None, "__init__"):
        return
    assert own in FLOORS, f"{own} has no floor: give it one here and in architecture.md"
    for module in _imports(path):
        other = _room(module)
        if other and other not in (own, "__version__"):
            assert FLOORS[other] < FLOORS[own] or own == "cli", f"{path.name} on floor {FLOORS[own]} imports {module}"


@pytest.mark.parametrize(
    "module",
    ["settings", "wire.messages", "wire.payload", "model.exported", "coinstac.compspec", "coinstac.server", "entry"],
)
def test_light_rooms_do_not_import_torch(module):
    assert _is_light(f"computation.{module}")


@pytest.mark.parametrize("module", ["topology", "counts", "splits", "requests", "peer", "deadlines"])
def test_light_files_of_peers_do_not_import_torch(module):
    assert _is_light(f"peers.{module}")


@pytest.mark.parametrize(
    "module",
    [
        "identity.principal",
        "cases.closing",
        "cases.committing",
        "cases.coordinator",
        "cases.reading",
        "console",
        "place",
    ],
)
def test_light_files_of_the_service_do_not_import_torch(module):
    if module in ("console", "place"):
        pytest.importorskip("argon2", reason="THE SERVICE IS NOT TESTED: its extra is not installed")
    assert _is_light(f"service.{module}")


def _is_light(module: str) -> bool:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(("own", "other"), [("protocols", "engines"), ("engines", "protocols")])
def test_protocols_and_engines_do_not_know_each_other(own, other):
    for path in (ROOT / "peers" / own).rglob("*.py"):
        assert not [module for module in _imports(path) if _within(module, f"peers.{other}")], path.name


def test_peers_know_a_simulators_folders_and_results_only():
    known = {"simulator", *(f"simulator.{name}" for name in ("course", "inputspec", "layout", "result", "table"))}
    for path in (ROOT / "peers").rglob("*.py"):
        seen = {".".join(module.split(".")[:2]) for module in _imports(path) if _within(module, "simulator")}
        assert seen <= known, path.name


def test_the_service_and_the_peers_stand_beside_each_other():
    rooms = {
        "service": ("peers", "simulator", "neuroflame"),
        "peers": ("service", "neuroflame"),
        "neuroflame": ("peers", "service", "simulator"),
    }
    for own, others in rooms.items():
        for path in (ROOT / own).rglob("*.py"):
            assert not [one for one in _imports(path) for other in others if _within(one, other)], path.name


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("argon2", ["service/identity/passwords.py"]),
        ("jwt", ["service/identity/cognito.py", "service/identity/keys.py"]),
        ("mangum", ["service/aws.py"]),
        ("boto3", []),  # botocore alone: what boto3 adds takes a third of a second at each cold start
        ("botocore", ["service/aws.py", "service/blobs/s3.py", "service/store/dynamodb.py"]),
    ],
)
def test_each_library_of_the_service_is_imported_where_it_belongs(library, rooms):
    found = [path for path in SOURCES if any(_within(module, library) for module in _imports(path))]
    assert {path.relative_to(ROOT).as_posix() for path in found} == set(rooms)


def test_zeromq_and_the_mesh_alone_import_their_libraries():
    heavy = [
        path for path in SOURCES if any(_within(one, "zmq") or _within(one, "pyftpdlib") for one in _imports(path))
    ]
    assert all(path.parent.name == "mesh" or path.name == "zeromq.py" for path in heavy)


def test_the_engine_and_its_launcher_alone_import_torch_distributed():
    heavy = [path for path in SOURCES if any(_within(module, "torch.distributed") for module in _imports(path))]
    assert set(heavy) <= {ROOT / "peers/engines/torchrun.py", ROOT / "peers/engines/launch.py"}


def test_libp2p_is_imported_by_its_engine_and_the_swarm_alone():
    for path in SOURCES:
        if any(_within(module, name) for module in _imports(path) for name in ("libp2p", "trio", "multiaddr")):
            here = path == ROOT / "peers/engines/libp2p.py" or path.parent == ROOT / "peers/engines/p2p"
            assert here or path.parent == ROOT / "peers/swarm", path.name


def test_five_files_alone_import_nvflare():
    heavy = [path for path in SOURCES if any(_within(module, "nvflare") for module in _imports(path))]
    assert {str(path.relative_to(ROOT)) for path in heavy} == {
        f"neuroflame/{name}.py" for name in ("executor", "controller", "launcher", "kits", "session")
    }
