"""Terraform and checkov as they are found on this machine; where one is missing, that is said aloud at the end."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_MIRROR = """provider_installation {{
  filesystem_mirror {{
    path = "{mirror}"
  }}
}}
"""


def _missing():
    if shutil.which("terraform") is None:
        return "there is no terraform on the PATH"
    if "TF_PLUGIN_MIRROR" not in os.environ and not Path(os.environ.get("TF_CLI_CONFIG_FILE", "/")).is_file():
        return "neither TF_PLUGIN_MIRROR nor TF_CLI_CONFIG_FILE says where the AWS provider lies"
    return ""


def _checkov():
    """Return checkov's program: in an environment of its own, as `.ci/run` makes it, or on the PATH."""
    own = ROOT / ".checkov" / "bin" / "checkov"
    return str(own) if own.is_file() else shutil.which("checkov")


def pytest_terminal_summary(terminalreporter):
    without = [f"infrastructure, since {why}"] if (why := _missing()) else []
    without += [] if _checkov() else ["infrastructure by checkov, since it is neither in .checkov nor on the PATH"]
    for what in without:
        terminalreporter.write_line(f"NOT TESTED: {what}", red=True, bold=True)


class Terraform:
    """The module in a folder of its own, so that nothing is left in the repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "infrastructure"
        shutil.copytree(
            ROOT / "infrastructure", self.folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*")
        )
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TF_CLI_CONFIG_FILE") if name in os.environ}
        if mirror := os.environ.get("TF_PLUGIN_MIRROR"):
            settings = folder / "terraform.rc"
            settings.write_text(_MIRROR.format(mirror=mirror))
            kept["TF_CLI_CONFIG_FILE"] = str(settings)
        self._environment = {**kept, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
        self.run("init", "-input=false")

    def run(self, *words: str, expect=(0,)):
        done = subprocess.run(
            ["terraform", words[0], "-no-color", *words[1:]],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode in expect, done.stdout[-8000:] + done.stderr[-4000:]
        return done


@pytest.fixture(scope="session")
def terraform(tmp_path_factory):
    if why := _missing():
        pytest.skip(f"INFRASTRUCTURE IS NOT TESTED: {why}")
    return Terraform(tmp_path_factory.mktemp("terraform"))


@pytest.fixture
def checkov():
    program = _checkov()
    if program is None:
        pytest.skip("INFRASTRUCTURE IS NOT CHECKED: checkov is neither in .checkov nor on the PATH")
    return program
