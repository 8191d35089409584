"""What checkov says of the module; what it need not ask for is in .checkov.yaml there, each with its reason."""

import json
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
RULES = (ROOT / "infrastructure" / ".checkov.yaml").read_text(encoding="utf-8")
SKIPPED = dict(re.findall(r"^  - (CKV\w+)  *# (.+)$", RULES, re.M))


def checked(checkov, folder, home, *more):
    # It reads a file of that name in the folder itself, and asks a server of its maker for texts if it may.
    words = [checkov, "--directory", str(folder), "--skip-download", *more]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "LC_ALL": "C.UTF-8"}
    return subprocess.run(words, cwd=home, env=environment, capture_output=True, text=True)


def test_nothing_is_found_but_what_is_explained(checkov, tmp_path):
    module = ROOT / "infrastructure"
    done = checked(checkov, module, tmp_path, "--config-file", str(module / ".checkov.yaml"))
    assert done.returncode == 0 and "Failed checks: 0" in done.stdout, done.stdout + done.stderr


def test_nothing_is_explained_that_is_not_found(checkov, tmp_path):
    for path in (ROOT / "infrastructure").glob("*.tf"):
        shutil.copy(path, tmp_path)
    told = json.loads(checked(checkov, tmp_path, tmp_path, "--framework", "terraform", "--output", "json").stdout)
    assert told["summary"]["parsing_errors"] == 0 and told["summary"]["passed"] > 80
    assert {one["check_id"] for one in told["results"]["failed_checks"]} == set(SKIPPED)


def test_each_exception_has_its_reason():
    assert len(SKIPPED) == RULES.count("- CKV") and all(len(why) > 10 for why in SKIPPED.values())
