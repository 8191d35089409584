"""The centre's script as NVFlare's administrator: waits for the sites, submits the job, and closes everything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from nvflare.apis.job_def import JobMetaKey, RunStatus
from nvflare.fuel.flare_api.flare_api import Session, new_secure_session

from computation.errors import MeshNetError
from neuroflame.kits import ADMIN

__all__ = ["Administrator"]

_CONNECTING = 120.0  # seconds for the server to begin to listen
_CLOSING = 30.0  # seconds for all to take the news that it is over


class Administrator:
    """One session with the server of this container.

    Parameters
    ----------
    kit : Path
        The administrator's startup kit.
    alive : callable
        Whether the server's process is there.
    """

    def __init__(self, kit: Path, alive: Callable[[], bool]) -> None:
        self._alive, self._job = alive, ""
        self._session = self._connect(kit)

    def _connect(self, kit: Path) -> Session:
        end = time.monotonic() + _CONNECTING
        while True:
            self.check()
            try:
                return new_secure_session(ADMIN, str(kit), timeout=5.0)
            except Exception as error:
                if time.monotonic() > end:
                    raise MeshNetError(
                        "the centre's own server does not answer; is its port free?", str(error)
                    ) from error
                time.sleep(0.5)

    def check(self) -> None:
        """Raise `MeshNetError` if the server's process has ended."""
        if not self._alive():
            raise MeshNetError("the centre's NVFlare server has ended; its port may be taken: look at its log")

    def wait_for(self, sites: Iterable[str], seconds: float, called: Callable[[str], str]) -> None:
        """Wait until all sites are connected.

        Raises
        ------
        MeshNetError
            Naming those that are not, after so many seconds.
        """
        wanted, end = set(sites), time.monotonic() + seconds
        while missing := sorted(wanted - self._connected()):
            self.check()
            if time.monotonic() > end:
                names = ", ".join(map(called, missing))
                raise MeshNetError(f"not all members have come within {seconds:g} s; missing: {names}"[:600])
            time.sleep(0.5)

    def _connected(self) -> set[str]:
        try:
            return {client.name for client in self._session.get_system_info().client_info}
        except Exception:  # no client yet, or a server that is busy
            return set()

    def submit(self, job: Path) -> str:
        """Submit the job and return its id.

        Raises
        ------
        MeshNetError
            If the server does not take it.
        """
        try:
            self._job = str(self._session.submit_job(str(job)))
        except Exception as error:
            raise MeshNetError("the centre's own NVFlare server did not take the job", str(error)) from error
        return self._job

    def status(self, job: str) -> str:
        """Return how the job ended, in NVFlare's word; empty while it runs or nothing is known."""
        try:
            meta: dict[str, Any] = self._session.get_job_meta(job)
        except Exception:
            return ""
        status = str(meta.get(JobMetaKey.STATUS.value, ""))
        return status if status.startswith("FINISHED") or status == RunStatus.FAILED_TO_RUN.value else ""

    def close(self) -> None:
        """Ask all nodes to end, abort a job that is not over, and wait for the server to go."""
        end, asked = time.monotonic() + _CLOSING, False
        if self._job and self._alive() and not self.status(self._job):
            with suppress(Exception):
                self._session.abort_job(self._job)
        while self._alive() and time.monotonic() < end:
            if not asked:
                with suppress(Exception):
                    self._session.shutdown("all", wait=False)
                    asked = True
            time.sleep(0.2)
