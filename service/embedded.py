"""The service on one machine: a folder with a SQLite file, files and bells, and a worker process over it."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from service.bell import Bell
from service.blobs.files import Files
from service.cases.desk import Desk
from service.store.sqlite import SqliteStore

__all__ = ["desk", "work"]


def desk(data: Path, bell: Bell | None = None) -> Desk:
    """Return the desk of a data folder; any number of processes may have one each.

    Parameters
    ----------
    data : Path
        Made if missing, readable by its owner alone.
    bell : Bell, optional
        Rung for every change; by default one that all processes of the folder hear.

    Raises
    ------
    StoreBroken, BlobError
        If the folder cannot be used, or is a newer version's.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = SqliteStore(data / "service.db")
    return Desk(store, Files(data / "files", small=store.shelf), ring=bell or Bell(data / "bells"))


def work(data: Path, lease: int | None = None) -> None:
    """Be a worker until SIGTERM or SIGINT, which end it after the step in hand."""
    # Only a worker computes: a server that opens the same folder does not load what it computes with.
    from service.worker import LEASE, Worker, serve

    stopped = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopped.set())
    bell = Bell(data / "bells")
    listener = bell.listen()
    try:
        with Worker(desk(data, bell), data / "work", lease or LEASE) as worker:
            serve(worker, listener, stopped)
    finally:
        listener.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Be the worker of the data folder that the command line names."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    given = sys.argv[1:] if arguments is None else arguments
    work(Path(given[0]), int(given[1]) if len(given) > 1 else None)


if __name__ == "__main__":
    main()
