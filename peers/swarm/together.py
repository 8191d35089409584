"""Slice size by overuse threshold with real nodes: processes of this machine that find each other over the loopback."""

from __future__ import annotations

import json
import multiprocessing
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from computation.errors import PeersError
from computation.tracking import mean
from peers.protocols.swarm import Swarm
from peers.swarm.comparing import Row
from peers.swarm.data import digits
from peers.swarm.node import Order, run

__all__ = ["compare"]

_MOST_TURNS = 1_000_000
#: Seconds: for a node to start, and to end.
_START, _END = 300.0, 120.0
_LOOK = 0.1
#: Seconds: of a turn at least, and between two models of a node.
_PACE, _EVERY = 0.2, 1.0


def compare(
    nodes: int,
    sizes: Sequence[int],
    thresholds: Sequence[int],
    samples: int,
    seconds: float,
    progress: TextIO,
    seed: int = 0,
) -> list[Row]:
    """Run one swarm of processes for each pair, for so many seconds, on data that everybody may have.

    Raises
    ------
    PeersError
        If there is nothing to compare, or a node does not start or ends by itself.
    """
    if nodes < 1 or seconds <= 0 or min(sizes, default=0) < 1 or samples < nodes:
        raise PeersError("nothing to compare: wanted nodes, seconds and sizes above 0, and a sample for each node")
    rows = []
    for size in sizes:
        for threshold in thresholds:
            with tempfile.TemporaryDirectory() as folder:
                orders = _orders(Path(folder), nodes, size, threshold, samples, seed)
                rows.append(_row(size, threshold, seconds, _results(orders, seconds)))
            print(f"slices of {size}, threshold {threshold}: accuracy {rows[-1].accuracy:.3f}", file=progress)
    return rows


def _orders(folder: Path, nodes: int, size: int, threshold: int, samples: int, seed: int) -> list[Order]:
    key = folder / "key"
    key.write_text(secrets.token_hex(32), encoding="ascii")
    rule = Swarm(share=True, overuse=threshold, pace=_PACE, every=_EVERY)
    orders = []
    for place in range(nodes):
        data, output = folder / f"{place}.npz", folder / f"n{place}"
        arrays: dict[str, Any] = digits(samples, place, nodes, seed)
        np.savez(data, **arrays)
        more = {"turns": _MOST_TURNS, "samples": size, "batch": 32, "rate": 0.02, "seed": seed}
        orders.append(Order("compare", key, data, output, rule, share_slices=True, **more))  # type: ignore[arg-type]
    return orders


def _results(orders: Sequence[Order], seconds: float) -> list[dict[str, Any]]:
    """Let nodes live for so long after the last has started; the others know the first."""
    context = multiprocessing.get_context("forkserver")
    # Else each would import everything anew, and what torch imports only when the first optimiser is made.
    context.set_forkserver_preload(["peers.swarm.node", "torch._dynamo"])
    there: list[BaseProcess] = []
    try:
        for order in orders:
            join = (_address(orders[0], there),) if there else ()
            there.append(context.Process(target=_live, args=(order, join), daemon=True))
            there[-1].start()
        for order in orders:
            _address(order, there)
        time.sleep(seconds)
        for one in there:
            one.terminate()
        return [_result(order, one) for order, one in zip(orders, there, strict=True)]
    finally:
        for one in there:
            one.kill()
            one.join()


def _live(order: Order, join: tuple[str, ...]) -> None:
    torch.set_num_threads(1)
    run(replace(order, join=join))


def _address(order: Order, there: Sequence[BaseProcess]) -> str:
    path = order.output / "address.txt"
    _until(path.is_file, there)
    return path.read_text(encoding="utf-8").strip()


def _until(happened: Callable[[], bool], there: Sequence[BaseProcess]) -> None:
    deadline = time.monotonic() + _START
    while not happened():
        ended = [place for place, one in enumerate(there) if one.exitcode is not None]
        if ended or time.monotonic() > deadline:
            raise PeersError(
                f"node {ended[0] if ended else len(there) - 1} of the comparison has not started; try fewer"
            )
        time.sleep(_LOOK)


def _result(order: Order, process: BaseProcess) -> dict[str, Any]:
    process.join(_END)
    path = order.output / "result.json"
    if not path.is_file():
        raise PeersError(f"node {order.output.name} of the comparison has ended without a result; try fewer")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _row(size: int, threshold: int, seconds: float, results: Sequence[dict[str, Any]]) -> Row:
    accuracies = [one["accuracy"] for one in results]
    received, again = (sum(one[name] for one in results) for name in ("received", "again"))
    return Row(
        size,
        threshold,
        float(np.mean(accuracies)),
        min(accuracies),
        received,
        mean([one["resilience"] for one in results]) or 0.0,
        again / max(received, 1),
        sum(one["maturity"] for one in results),
        sum(one["averaged"] for one in results),
        seconds,
    )
