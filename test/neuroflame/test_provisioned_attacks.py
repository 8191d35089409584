"""A centre that has been taken over, with rules that allow it everything: what the sites' own rules still refuse."""

import json
import shutil
import sys
import time

import pytest
from neuroflame_runs import inputs, kill_all, rounds, run, wait

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
EVIL = "open({!r}, 'x')\nfrom nvflare.apis.executor import Executor\nclass Evil(Executor):\n    pass\n"
FOREIGN = "nvflare.app_common.executors.statistics.statistics_executor.StatisticsExecutor"


class Attack:
    """What somebody with the centre's kit tries while a run goes on."""

    def __init__(self, root):
        self.root, self.heard = root, {}

    def __call__(self, nodes, layout):
        from nvflare.fuel.flare_api.flare_api import new_secure_session

        try:
            wait(lambda: rounds(layout) >= 1)
            kits = layout.cache(CENTRE) / "runKits/centralNode"
            shutil.copytree(kits / "admin", self.root / "admin")
            session = new_secure_session("admin@admin.com", str(self.root / "admin"), timeout=20.0)
            self._ask(session)
            self._submit(session, kits / "job")
        finally:
            kill_all(nodes[CENTRE])

    def _ask(self, session):
        asked = {
            "ls": lambda: session.ls_target("local0"),
            "pwd": lambda: session.get_working_directory("local0"),
            "tail": lambda: session.tail_target_log("local0"),
            "cat": lambda: session.cat_target("local0", file="local/resources.json"),
            "env": lambda: session.get_client_env(["local0"]),
            "log": lambda: session.configure_site_log("DEBUG", "client"),
        }
        for name, ask in asked.items():
            try:
                self.heard[name] = repr(ask())
            except Exception as error:
                self.heard[name] = f"refused: {error}"

    def _submit(self, session, job):
        for name, path in (("code", "evil.Evil"), ("class", FOREIGN)):
            made = self.root / name
            shutil.copytree(job, made)
            config = made / "app/config/config_fed_client.json"
            told = json.loads(config.read_text())
            told["executors"][0]["executor"]["path"] = path
            config.write_text(json.dumps(told))
            if name == "code":
                (made / "app/custom").mkdir()
                (made / "app/custom/evil.py").write_text(EVIL.format(str(self.root / "taken-over")))
            number = session.submit_job(str(made))
            time.sleep(8)
            self.heard[name] = json.dumps(session.get_job_meta(number).get("job_deploy_detail"))


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes by /proc")
def test_a_centre_that_is_taken_over_gets_no_file_no_shell_and_no_code_of_its_own(tmp_path, monkeypatch):
    inputs(tmp_path)
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook/sitecustomize.py").write_text(HOOK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    attack = Attack(tmp_path)
    _, layout = run(tmp_path, disturb=attack, epochs=2000)
    assert all("not authorized" in attack.heard[name] for name in ("ls", "pwd", "tail", "cat", "env")), attack.heard
    assert "BYOC not permitted" in attack.heard["code"] and not (tmp_path / "taken-over").exists()
    log = (layout.output("local0") / "nvflare.log").read_text()
    assert f"component not authorized: Component '{FOREIGN}'" in log
    assert " DEBUG " not in log
