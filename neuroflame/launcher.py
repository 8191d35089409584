"""What NVFlare's client starts a site's job process with."""

from __future__ import annotations

from typing import Any

from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_launcher_spec import JobHandleSpec, JobReturnCode
from nvflare.app_common.job_launcher.client_process_launcher import ClientProcessJobLauncher

__all__ = ["MeshNetLauncher"]


class MeshNetLauncher(ClientProcessJobLauncher):  # type: ignore[misc]  # the library is not typed
    """NVFlare's own, but that a job process that is killed ends no run before anybody could say whose it was.

    From 2.9 on NVFlare's client tells its server of a killed job process, and the server then ends the job in all
    processes, the one that would name the site among them. Of an unknown end it does nothing; the next sign of life of
    the client lacks the job, and the controller hears of that.
    """

    def launch_job(self, job_meta: dict[str, Any], fl_ctx: FLContext) -> JobHandleSpec:
        """Start the process."""
        return _Handle(super().launch_job(job_meta, fl_ctx))


class _Handle(JobHandleSpec):  # type: ignore[misc]
    def __init__(self, made: JobHandleSpec) -> None:
        self._made = made

    def terminate(self) -> None:
        self._made.terminate()

    def poll(self) -> int:
        code: int = self._made.poll()
        return JobReturnCode.UNKNOWN if code == JobReturnCode.EXECUTION_ERROR else code

    def wait(self) -> None:
        self._made.wait()
