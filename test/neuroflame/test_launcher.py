"""How a job process ended, as NVFlare's client hears it: real processes, started and ended."""

import shlex
import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("nvflare", reason="NEUROFLAME IS NOT TESTED: its extra is not installed")

from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_launcher_spec import JobReturnCode

from neuroflame.launcher import MeshNetLauncher

KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


class Launcher(MeshNetLauncher):
    def __init__(self, text):
        super().__init__()
        self.text = text

    def get_command(self, job_meta, fl_ctx):
        return shlex.join([sys.executable, "-c", self.text])


def launched(text):
    context = FLContext()
    workspace = SimpleNamespace(get_app_custom_dir=lambda job: "")
    context.set_prop(FLContextKey.WORKSPACE_OBJECT, workspace, private=True, sticky=False)
    return Launcher(text).launch_job({}, context)


@pytest.mark.parametrize(
    ("text", "code"),
    [("pass", JobReturnCode.SUCCESS), (KILLED, JobReturnCode.UNKNOWN), ("raise OSError", JobReturnCode.UNKNOWN)],
)
def test_a_killed_job_process_is_no_failure_that_nvflare_acts_on_by_itself(text, code):
    handle = launched(text)
    handle.wait()
    assert handle.poll() == code


def test_one_that_is_terminated_ends():
    handle = launched("import time; time.sleep(60)")
    handle.terminate()
    handle.wait()
    assert handle.poll() == JobReturnCode.UNKNOWN
