"""Nothing in a folder of scans is executed: Python files lie where people start their runs, and none of them runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

from consortium import SHORT, database

from computation import isolation

ROOT = Path(__file__).resolve().parents[2]
CLI = [sys.executable, str(ROOT / "computation" / "cli.py")]
#: What a node, the command line, and the libraries of both import first, and the packages themselves.
NAMES = ("random", "torch", "numpy", "json", "asyncio", "websockets", "multiprocessing", "sqlite3", "usercustomize")
PACKAGES = ("computation", "simulator", "coinstac_computation")
FAST = {**SHORT, "epochs": 1, "validate_every": 1000}


def poison(folder):
    """Lay Python files into a folder, each of which leaves a mark when it is executed."""
    mark = f"open({str(folder / 'executed')!r}, 'a').write(__name__ + '\\n')\nraise SystemExit(9)\n"
    for name in NAMES:
        (folder / f"{name}.py").write_text(mark)
    for name in PACKAGES:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(mark)
    return folder


def executed(root):
    return [path.read_text() for path in root.rglob("executed")]


def command(folder, *words):
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    variables.pop("PYTHONSAFEPATH", None)
    variables.pop("PYTHONPATH", None)
    done = subprocess.run(
        [*CLI, *map(str, words)], cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_simulate_executes_nothing_of_the_data_folder(tmp_path):
    site = tmp_path / "mri" / "local0" / "simulatorRun"
    database(site / "site.db")
    for folder in (site, tmp_path / "mri"):
        poison(folder)
    (tmp_path / "mri" / "spec.json").write_text(json.dumps({name: {"value": value} for name, value in FAST.items()}))
    command(tmp_path / "mri", "simulate", "spec.json", "--input", ".", "--output", tmp_path / "run")
    assert executed(tmp_path) == []
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["rounds"] == 2


def test_train_executes_nothing_of_the_data_folder(tmp_path):
    database(tmp_path / "mri" / "site.db")
    poison(tmp_path / "mri")
    words = [word for name, value in FAST.items() if name != "data" for word in ("--setting", f"{name}={value}")]
    command(tmp_path / "mri", "train", "site.db", "--output", "run", *words)
    assert executed(tmp_path) == []
    assert json.loads((tmp_path / "mri" / "run" / "summary.json").read_text())["rounds"] == 2


def test_processes_of_an_import_execute_nothing_of_the_working_directory(tmp_path):
    poison(tmp_path)
    code = (
        "import multiprocessing as m, os, sys\n"
        "from computation.isolation import isolated\n"
        f"os.chdir({str(tmp_path)!r})\n"
        "with isolated():\n"
        "    child = m.get_context('spawn').Process(target=len, args=('',))\n"
        "    child.start()\n"
        "child.join()\n"
        "sys.exit(child.exitcode)\n"
    )
    (tmp_path / "safe").mkdir()
    script = tmp_path / "safe" / "script.py"
    script.write_text(f"if __name__ == '__main__':\n{''.join(f'    {line}{chr(10)}' for line in code.splitlines())}")
    environment = {**os.environ, **isolation.variables()}
    environment.pop("PYTHONSAFEPATH")
    subprocess.run([sys.executable, str(script)], env=environment, check=True, timeout=60)
    assert executed(tmp_path) == []


def test_isolation_leaves_the_environment_as_it_was(monkeypatch):
    for before in (None, "0"):
        monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
        if before is not None:
            monkeypatch.setenv("PYTHONSAFEPATH", before)
        with isolation.isolated():
            assert os.environ["PYTHONSAFEPATH"] == "1"
        assert os.environ.get("PYTHONSAFEPATH") == before
