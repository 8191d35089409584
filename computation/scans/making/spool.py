"""Where new scans wait until all are there, each a small database in a hidden folder; and the processes that make them.

A part is named by the checksums of its files, by the recipe and by the versions: an import that was killed goes on
where it stopped, and never takes a part that was made in another way.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from computation.errors import ImportScanError, MeshNetError
from computation.isolation import isolated
from computation.scans.making import labels, recipe
from computation.scans.making.options import Options
from computation.scans.making.plan import Task
from computation.scans.making.recipe import Recipe
from computation.scans.store import provenance, schema, writer
from computation.scans.store.database import SqliteStore
from computation.scans.store.records import pack

__all__ = ["folder", "made", "part"]


def folder(spool: Path) -> None:
    """Make the hidden folder, if it is not there.

    Raises
    ------
    ImportScanError
        If it cannot be made.
    """
    try:
        spool.mkdir(exist_ok=True)
    except OSError as error:
        raise ImportScanError(writer.UNWRITABLE, f"{spool}: {error}") from error


def part(spool: Path, task: Task, how: Recipe) -> Path:
    """Return where a scan is put until all are there: a name that says what went into it."""
    chosen = labels.named(how.label_set)
    facts = [task.row.subject, task.row.session, dict(task.source), how.parameters(chosen), how.normalisation]
    everything = pack([*facts, list(chosen.names), schema.VERSION, provenance.versions()])
    return spool / f"{hashlib.sha256(everything.encode()).hexdigest()}.db"


def made(
    tasks: Sequence[Task], wanted: Mapping[int, Path], options: Options
) -> Iterator[tuple[int, tuple[str, str] | None]]:
    """Make the wanted scans, several at once; those whose undamaged parts wait already are not made again.

    Parameters
    ----------
    tasks : sequence of Task
        All scans of the import.
    wanted : mapping
        From the places in `tasks` of those that have to be made to their parts.
    options : Options
        How the import goes.

    Yields
    ------
    place : int
        Of a scan that is there now, or cannot be.
    failure : tuple of str or None
        In the latter case, the public and private halves of what is wrong with it.

    Raises
    ------
    ImportScanError
        If a process died.
    """
    todo = {}
    for place, path in wanted.items():
        if _sound(path):
            yield place, None
        else:
            todo[place] = path
    if options.jobs == 1 or len(todo) < 2:
        for place, path in todo.items():
            yield place, _work(tasks[place], path, options.recipe)
        return
    yield from _in_parallel(tasks, todo, options)


def _sound(path: Path) -> bool:
    """Tell whether a part is there and undamaged: one that is not is made anew, or no later import would succeed."""
    if not path.exists():
        return False
    try:
        with SqliteStore(path, 0) as store:
            (scan,) = store.scans()
            store.verify(scan)
    except (MeshNetError, ValueError):
        return False
    return True


def _in_parallel(
    tasks: Sequence[Task], todo: Mapping[int, Path], options: Options
) -> Iterator[tuple[int, tuple[str, str] | None]]:
    # A fresh interpreter a process: nothing of this one, such as torch and its threads, is copied into it.
    context = multiprocessing.get_context("spawn")
    waiting = iter(todo.items())
    running: dict[Future[tuple[str, str] | None], int] = {}
    workers = min(options.jobs, len(todo))
    with isolated(), ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
        try:
            while True:
                for place, path in waiting:
                    running[pool.submit(_work, tasks[place], path, options.recipe)] = place
                    if len(running) >= options.jobs:
                        break
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool as error:
            text = "a process that made scans died, most likely for want of memory; import with fewer jobs"
            raise ImportScanError(text, str(error)) from error
        except BaseException:
            # What the workers are still making is wanted by nobody, and the end of a pool would wait for it.
            for process in list((pool._processes or {}).values()):
                process.kill()
            raise


def _end_with_parent() -> None:
    """End this worker when the import does, however that ends: it would finish its scan, and then wait for the next."""
    # Ctrl-C reaches every process of the terminal; the import alone answers it, and ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _work(task: Task, path: Path, how: Recipe) -> tuple[str, str] | None:
    """Make one scan; return nothing, or the public and private halves of what is wrong with it."""
    try:
        entry = recipe.make(task.row, "train", how, task.source)
        with writer.create(path, provenance.header(labels.named(how.label_set), how, {})) as out:
            out.add(entry)
    except ImportScanError as error:
        return error.public, error.private
    except MemoryError as error:
        return "the scan needs more memory than there is; import with fewer jobs", str(error)
    return None
