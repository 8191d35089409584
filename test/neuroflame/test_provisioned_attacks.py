"""A centre that has been taken over, with rules that allow it everything: what the sites' own rules still refuse."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from neuroflame_runs import hook, inputs, kill_all, rounds, run, wait

from simulator.layout import CENTRE

#: In the centre's script alone: its own rules become none.
HOOK = """
import sys
if any("entry_central" in one for one in sys.orig_argv):
    from neuroflame import rules
    made = rules.write
    def write(path, value):
        if "authorization" in path.name:
            value = {"format_version": "1.0", "permissions": {"project_admin": "any"}}
        if "resources" in path.name:
            value = {**value, "class_allow_list": ["nvflare.", "neuroflame.", "evil."]}
            value["components"][0]["args"]["max_jobs"] = 4
        made(path, value)
    rules.write = write
"""
FOREIGN = "nvflare.app_common.executors.statistics.statistics_executor.StatisticsExecutor"
ATTACKER = Path(__file__).parent / "attacker.py"


class Attack:
    """What somebody with the centre's kit tries while a run goes on."""

    def __init__(self, root):
        self.root, self.heard = root, {}

    def __call__(self, nodes, layout):
        try:
            wait(lambda: rounds(layout) >= 1)
            kits = layout.cache(CENTRE) / "runKits/centralNode"
            shutil.copytree(kits / "admin", self.root / "admin")
            command = [sys.executable, str(ATTACKER), str(self.root), str(kits), FOREIGN]
            subprocess.run(command, timeout=150, check=True)
            self.heard = json.loads((self.root / "heard.json").read_text())
        finally:
            kill_all(nodes[CENTRE])


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes by /proc")
def test_a_centre_that_is_taken_over_gets_no_file_no_shell_and_no_code_of_its_own(tmp_path, monkeypatch):
    inputs(tmp_path)
    hook(tmp_path, monkeypatch, HOOK)
    attack = Attack(tmp_path)
    _, layout = run(tmp_path, disturb=attack, epochs=2000)
    assert all("not authorized" in attack.heard[name] for name in ("ls", "pwd", "tail", "cat", "env")), attack.heard
    assert "BYOC not permitted" in attack.heard["code"] and not (tmp_path / "taken-over").exists()
    log = (layout.output("local0") / "nvflare.log").read_text()
    assert f"component not authorized: Component '{FOREIGN}'" in log
    assert " DEBUG " not in log
