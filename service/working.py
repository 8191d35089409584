"""The worker's process: `python -m service.working FOLDER`; started, and started again, by `serving`."""

from __future__ import annotations

import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

from service.logs import to_file
from service.place import Place
from service.worker import Worker, serve

__all__ = ["main"]

#: Milliseconds for which a claim holds: on one machine it is soon known that a worker has fallen.
_LEASE = 5_000


def main(folder: Path) -> None:
    """Work for a data folder until a signal says stop."""
    place, stopped = Place(folder), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    to_file(place.log)
    bell = place.bell()
    listener = bell.listen(works=True)
    desk = replace(place.desk(bell), ring=bell.news)
    with Worker(desk, place.work, _LEASE) as worker:
        serve(worker, listener, stopped)
    listener.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
