"""The loop over arms, effects and seeds: each is trained, tested and written down before the next begins."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.oasis import arms, effects, figure, ledger, meshfl, peer, report, results, unet
from benchmarks.oasis.clock import Watch
from benchmarks.oasis.native import examine
from benchmarks.oasis.options import ARMS, DP, MESHFL, SINGLE, TIMED, facts, parsed
from benchmarks.oasis.outcome import Outcome, Point
from benchmarks.oasis.prepare import LABELS, Bench, prepare
from benchmarks.oasis.results import Job, Row
from computation.settings import USUAL_BATCHES, Settings, parse


def main() -> int:
    """Run what is asked for and is not in the results yet, then report; return the exit status."""
    options = parsed()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    if not options.report_only:
        different = results.agree(options.out, facts(options))
        if different:
            beside = options.out.with_suffix(".json").name
            print(f"{options.out} was made otherwise; move it away, give another --out, or, where you know that a")
            print(f"difference changes nothing, such as a new setting whose default is the old way, edit {beside}:")
            print("", *different, sep="  \n  ")
            return 2
    failed = [] if options.report_only else _run(options)
    rows = results.load(options.out)
    if not rows:
        print(f"there are no results in {options.out}")
        return 1
    _show(rows, options)
    print(*(f"FAILED: {job}" for job in failed), sep="\n", end="\n" if failed else "")
    return 1 if failed else 0


def _jobs(options: argparse.Namespace) -> Iterator[Job]:
    """Yield what is to be done: everything of one seed before the next, so that a cut run is whole in fewer seeds."""
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for effect in options.effects:
            chosen = options.arms if effect == "none" else options.effect_arms
            for arm in (arm for arm in ARMS if arm in chosen):
                yield from (Job(arm, effect, seed, site) for site in (effects.SITES if arm in SINGLE else ("",)))


def _run(options: argparse.Namespace) -> list[Job]:
    """Do what is not done, and return the jobs that failed."""
    jobs = list(_jobs(options))
    done = _done(options)
    left = [job for job in jobs if job not in done]
    print(f"{len(jobs)} trainings, {len(jobs) - len(left)} of them done before; {torch.get_num_threads()} threads")
    failed, began = [], time.perf_counter()
    with _work(options.work) as work:
        for number, job in enumerate(left, 1):
            if job in _done(options):
                print(f"[{number}/{len(left)}] {job} was done by another process", flush=True)
                continue
            try:
                _one(job, work, options)
            except Exception:
                # The other arms are still worth having; a next run tries this one again.
                traceback.print_exc()
                failed.append(job)
            spent = time.perf_counter() - began
            print(f"[{number}/{len(left)}] {job} after {spent:.0f} s; {_left(left[number:], options)}", flush=True)
    return failed


def _done(options: argparse.Namespace) -> set[Job]:
    return {row.job for row in results.load(options.out)}


@contextmanager
def _work(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def _left(jobs: list[Job], options: argparse.Namespace) -> str:
    """Return how long the rest takes if each arm takes what it took before, or else what gradient averaging took."""
    taken = {row.arm: row.seconds for row in results.load(options.out)}
    guess = taken.get("gradient-mean", max(taken.values(), default=0.0))
    total = sum(taken.get(job.arm, guess) for job in jobs)
    return f"{len(jobs)} left, about {total / 60:.0f} min of training"


def _one(job: Job, work: Path, options: argparse.Namespace) -> None:
    """Train, test and write down one arm."""
    budget = _budget(job, options)
    normalisation = peer.NORMALISATION if job.arm.startswith("peer") else "quantile"
    bench = prepare(options.data, work, options.spacing, job.effect, normalisation)
    try:
        training = arms.Training(
            bench=bench,
            changes=options.changes,
            seed=job.seed,
            batches=options.rounds or _rounds(bench, options.changes),
            watch=Watch(str(job), options.clock == "processor"),
            budget=budget,
            device=options.device,
            every=options.curve if job.arm == "gradient-mean" else 0,
        )
        outcomes = _arms(job, options)[job.arm](training)
        rows = _tested(job, outcomes, bench, options, training.settings())
    finally:
        bench.close()
    ledger.append(options.out, rows, results.KEY)
    if training.curve:
        ledger.append(
            options.out.with_name(f"{options.out.stem}-curve.csv"),
            [_point(job, options, point) for point in training.curve],
        )


def _arms(job: Job, options: argparse.Namespace) -> dict[str, Callable[[arms.Training], list[Outcome]]]:
    recipe = replace(peer.INTENDED, rate=options.peer_rate)
    return {
        "gradient-mean": arms.gradient_mean,
        "fedavg": arms.fedavg,
        "pooled": arms.pooled,
        "single": partial(arms.single, site=job.site),
        "single-own": partial(arms.single_own, site=job.site),
        "unet": partial(unet.unet, rate=options.unet_rate),
        "peer-intended": partial(peer.train, recipe=recipe, patch=options.peer_patch),
        "peer-literal": partial(peer.train, recipe=peer.LITERAL, patch=options.peer_patch),
        **dict.fromkeys(MESHFL, meshfl.train),
        **{name: partial(arms.private, epsilon=epsilon) for name, epsilon in DP.items()},
    }


def _rounds(bench: Bench, changes: dict[str, Any]) -> int:
    """Return the batches of each site over the epochs of the settings, with everybody shared out equally."""
    settings: Settings = parse(changes)[0]
    people = sum(len(store.scans("train")) for store in bench.sites.values())
    steps = max(1, people // len(bench.sites) // settings.batch_size)
    return settings.epochs * steps or max(steps, USUAL_BATCHES)


def _budget(job: Job, options: argparse.Namespace) -> float:
    """Return the seconds that gradient averaging took, with this seed if it ran."""
    if job.arm not in TIMED:
        return 0.0
    times = MESHFL.get(job.arm, 1)
    if options.budget:
        return times * options.budget
    taken = _taken(job, options)
    if not taken:
        raise RuntimeError(
            f"{job.arm} is given the time of gradient-mean, which has no result; run it or give --budget"
        )
    return times * taken.get(job.seed, next(iter(taken.values())))


def _taken(job: Job, options: argparse.Namespace) -> dict[int, float]:
    """Return the seconds of gradient averaging for each seed that has run, on the clock that the arms go by."""
    rows = [row for row in results.load(options.out) if row.arm == "gradient-mean" and row.effect == job.effect]
    spent = {row.seed: row.cpu_seconds if options.clock == "processor" else row.seconds for row in rows}
    return {seed: seconds for seed, seconds in spent.items() if seconds is not None}


def _tested(
    job: Job, outcomes: list[Outcome], bench: Bench, options: argparse.Namespace, settings: Settings
) -> list[Row]:
    rows: list[Row] = []
    busy = os.getloadavg()[0]
    store = bench.test if options.split == "test" else bench.pooled
    for outcome in outcomes:
        found = examine(outcome, store, options.split, len(settings.classes), bench.people, LABELS)
        rows += results.rows_of(
            job, outcome, found, bench.ages, spacing=options.spacing, load=busy, commit=options.commit
        )
    mean, native = (sum(getattr(row, name) or 0 for row in rows) / len(rows) for name in ("foreground", "native"))
    cost = f"{outcomes[0].spent.seconds:.0f} s, {outcomes[0].steps} steps"
    print(f"  {job}: foreground Dice {mean:.3f}, {native:.3f} in native space, {cost}", flush=True)
    return rows


def _point(job: Job, options: argparse.Namespace, point: Point) -> dict[str, Any]:
    names = dict(zip(("background", "white", "grey"), point.dices, strict=True))
    foreground = sum(value or 0 for value in point.dices[1:]) / (len(point.dices) - 1)
    where = {"round": point.round, "seconds": round(point.seconds, 2), "loss": round(point.loss, 6)}
    return {**asdict(job), "spacing": options.spacing, **where, **names, "foreground": foreground}


def _show(rows: list[Row], options: argparse.Namespace) -> None:
    print(report.table(rows))
    print(report.comparisons(rows))
    try:
        figure.draw(rows, options.out.with_suffix(".svg"))
    except ImportError:
        print("no figure: install the extra `figures`")
