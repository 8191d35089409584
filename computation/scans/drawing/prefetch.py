"""Reading ahead: the next batch is made in a thread while this one is learnt from."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol

from computation.scans.drawing.sampling import Batch

__all__ = ["Prefetcher"]


class _Sampler(Protocol):
    @property
    def samples(self) -> int: ...

    @property
    def steps_per_epoch(self) -> int: ...

    def batch(self, step: int) -> Batch: ...


class Prefetcher:
    """A sampler around a sampler: the same batches, the next ones already under way.

    Because a batch is a pure function of its step, reading ahead can change nothing but the time that it takes. After
    `batch(step)` the batches `step + 1` to `step + ahead` are being made; those that are never asked for are dropped. A
    fault while reading ahead is raised when, and only when, that step is asked for.

    Parameters
    ----------
    sampler : PatchSampler or another of its kind
        Must allow `batch` in another thread; `PatchSampler` does.
    ahead : int
        How many batches are held ready.
    """

    def __init__(self, sampler: _Sampler, ahead: int = 1) -> None:
        self._sampler = sampler
        self._ahead = ahead
        # One thread: batches are made in order, and disk and processor stay free for the training step.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._pending: dict[int, Future[Batch]] = {}
        self._guard = threading.Lock()

    @property
    def samples(self) -> int:
        """Samples in an epoch."""
        return self._sampler.samples

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return self._sampler.steps_per_epoch

    def batch(self, step: int) -> Batch:
        """Return batch number `step`, and begin with those after it.

        Raises
        ------
        ScanFault, StoreError
            As the sampler's own `batch`.
        """
        with self._guard:
            wanted = range(step, step + self._ahead + 1)
            for other in [held for held in self._pending if held not in wanted]:
                self._pending.pop(other).cancel()
            for one in wanted:
                if one not in self._pending:
                    self._pending[one] = self._pool.submit(self._sampler.batch, one)
            future = self._pending.pop(step)
        return future.result()

    def close(self) -> None:
        """Stop reading ahead and wait for what is under way; call it before the store is closed."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()
