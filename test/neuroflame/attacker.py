"""Somebody with the centre's kit, as a process of its own: what it asks for, and the answers as JSON.

Usage: `attacker.py FOLDER KITS CLASS`; the folder has the kit of the administrator, and the class is one of NVFlare's
that no site allows. NVFlare's threads outlive its session, so the process does not wait for them.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

from nvflare.fuel.flare_api.flare_api import new_secure_session

EVIL = "open({!r}, 'x')\nfrom nvflare.apis.executor import Executor\nclass Evil(Executor):\n    pass\n"


def asked(session):
    """Return what each wish for a site's files, shell or log level came to."""
    wishes = {
        "ls": lambda: session.ls_target("local0"),
        "pwd": lambda: session.get_working_directory("local0"),
        "tail": lambda: session.tail_target_log("local0"),
        "cat": lambda: session.cat_target("local0", file="local/resources.json"),
        "env": lambda: session.get_client_env(["local0"]),
        "log": lambda: session.configure_site_log("DEBUG", "client"),
    }
    heard = {}
    for name, wish in wishes.items():
        try:
            heard[name] = repr(wish())
        except Exception as error:
            heard[name] = f"refused: {error}"
    return heard


def submitted(session, folder, job, foreign):
    """Return how jobs with code of their own, and with a class of NVFlare's that is not allowed, were deployed."""
    heard = {}
    for name, path in (("code", "evil.Evil"), ("class", foreign)):
        made = folder / name
        shutil.copytree(job, made)
        config = made / "app/config/config_fed_client.json"
        told = json.loads(config.read_text())
        told["executors"][0]["executor"]["path"] = path
        config.write_text(json.dumps(told))
        if name == "code":
            (made / "app/custom").mkdir()
            (made / "app/custom/evil.py").write_text(EVIL.format(str(folder / "taken-over")))
        number = session.submit_job(str(made))
        time.sleep(8)
        heard[name] = json.dumps(session.get_job_meta(number).get("job_deploy_detail"))
    return heard


if __name__ == "__main__":
    folder, kits = map(Path, sys.argv[1:3])
    session = new_secure_session("admin@admin.com", str(folder / "admin"), timeout=20.0)
    heard = asked(session) | submitted(session, folder, kits / "job", sys.argv[3])
    (folder / "heard.json").write_text(json.dumps(heard))
    os._exit(0)
