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
    "colours": 0,
    "checks": 1,
    "terminal": 1,
    "cells": 2,
    "settings": 2,
    "wire": 2,
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
    "commands": 11,
    "cli": 12,
}


def _room(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] in ("simulator", "sqlite_fixtures"):
        return parts[0]
    return parts[1] if parts[0] == "computation" and len(parts) > 1 else None


def _imports(path: Path) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module == "computation":
                modules |= {f"computation.{alias.name}" for alias in node.names}
            else:
                modules.add(node.module)
    return modules


SOURCES = sorted(path for room in ("computation", "simulator") for path in (ROOT / room).rglob("*.py"))


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
    "module", ["settings", "wire.messages", "wire.payload", "coinstac.compspec", "coinstac.server", "entry"]
)
def test_light_rooms_do_not_import_torch(module):
    code = f"import sys, computation.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
