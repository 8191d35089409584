"""The container's command: `python computation/entry.py`, from any folder.

It is started by its path: `python -m` would look for every module in the working directory first, and run a `random.py`
that lies among somebody's scans.

The port is bound before anything heavy is imported: the platform gives a container 46 seconds to listen, and importing
torch from a cold disk can take longer than that.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # The first place of the path is this file's folder, or with `-m` the working directory: neither is searched. With
    # `-P` there is no such place, and the package's parent comes first just the same.
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [os.path.realpath(f"{__file__}/../..")]

import errno
from collections.abc import Mapping

from computation.coinstac.admission import TOKEN
from computation.coinstac.server import Handler, Loader, run
from computation.errors import MeshNetError, SettingsError

__all__ = ["DEFAULT_PORT", "address", "load_handler", "main"]

#: The port that COINSTAC publishes for a container when it names none.
DEFAULT_PORT = 8881


#: What Singularity and Apptainer set in their containers.
_HOST_NETWORK = ("SINGULARITY_CONTAINER", "APPTAINER_CONTAINER", "SINGULARITY_NAME", "APPTAINER_NAME")


def address(environment: Mapping[str, str]) -> tuple[str, int]:
    """Return the host and the port to bind.

    Parameters
    ----------
    environment : mapping of str
        `COINSTAC_PORT` names the port, `COINSTAC_HOST` the address. By default all addresses, which the platform
        needs of a Docker container; in a Singularity or Apptainer container, whose network is the host's, the loopback.

    Raises
    ------
    SettingsError
        If `COINSTAC_PORT` is not a port number.
    """
    text = environment.get("COINSTAC_PORT", "").strip() or str(DEFAULT_PORT)
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= 65535):
        raise SettingsError(
            f"COINSTAC_PORT is {text[:40]!r}; wanted a port number from 1 to 65535, or none at all for {DEFAULT_PORT}"
        )
    usual = "127.0.0.1" if any(environment.get(name) for name in _HOST_NETWORK) else "0.0.0.0"
    return environment.get("COINSTAC_HOST", "").strip() or usual, int(text)


def load_handler(mode: str) -> Handler:
    """Import and make the handler of one mode; this imports torch."""
    if mode == "local":
        from computation import local

        return local.create()
    from computation import remote

    return remote.create()


def main(load: Loader = load_handler) -> int:
    """Serve until SIGTERM or SIGINT.

    Parameters
    ----------
    load : callable
        Makes the handler of a mode, in the worker thread after the port is bound.

    Returns
    -------
    int
        Exit status.
    """
    try:
        host, port = address(os.environ)
    except MeshNetError as error:
        print(f"coinstac-meshnet: {error.public}", file=sys.stderr)
        return 2
    try:
        # Taken out, so that no program which a handler starts inherits it.
        run(load, port, host=host, listening=_announce, token=os.environ.pop(TOKEN, ""))
    except OSError as error:
        taken = "it is in use by another program" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
        print(f"coinstac-meshnet: port {port} cannot be bound: {taken}; set COINSTAC_PORT", file=sys.stderr)
        return 1
    return 0


def _announce(port: int) -> None:
    print(f"coinstac-meshnet: listening on port {port}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
