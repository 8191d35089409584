"""Runs of many seeds: `python test/chaos/__main__.py --seeds 200`; one of them alone: `--seed 17`."""

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
TEST = Path(__file__).resolve().parents[1]
sys.path[:1] = [str(TEST.parent), str(TEST)]  # and not this folder, whose files are a package's


def main():
    parser = argparse.ArgumentParser(description="Whole runs under faults that recorded seeds draw.")
    parser.add_argument("--seeds", type=int, default=200, help="how many; default: 200")
    parser.add_argument("--first", type=int, default=0, help="the first of them; default: 0")
    parser.add_argument("--seed", type=int, help="this one alone, with what befell it")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if lacking := [name for name in ("starlette", "argon2", "httpx", "jwt") if importlib.util.find_spec(name) is None]:
        parser.error(f"half of the seeds are runs behind the service, and {', '.join(lacking)} is not installed")
    if options.seed is not None:
        return _one(options.seed)
    from chaos import seeds

    began, ended, failed = time.monotonic(), Counter(), []
    numbers = range(options.first, options.first + options.seeds)
    with ProcessPoolExecutor(options.processes, initializer=_begin) as pool:
        for seed, how, told in pool.map(_judged, numbers):
            ended[f"{seeds.where(seed)} {how}"] += 1
            if how == "wrong":
                failed.append(seed)
                print(f"seed {seed}: {told}\n  again: python test/chaos/__main__.py --seed {seed}", flush=True)
    print(f"{len(numbers)} seeds in {time.monotonic() - began:.0f} s:")
    for how, times in sorted(ended.items()):
        print(f"{times:>5} {how}")
    return bool(failed)


def _begin():
    import torch

    from chaos import judge

    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # progress lines of every node
    _begin.folder = tempfile.TemporaryDirectory(prefix="chaos-")
    judge.prepare(Path(_begin.folder.name, "made"))


def _judged(seed):
    from chaos import judge, seeds

    folder = Path(_begin.folder.name, str(seed))
    try:
        ended = seeds.judged(seed, folder)
    except Exception as error:
        return seed, "wrong", f"{type(error).__name__}: {error}"
    finally:
        judge.tidy(folder)
    return seed, ended.how, ended.told


def _one(seed):
    from chaos import judge, seeds

    scenario = seeds.scenario(seed)
    where = seeds.where(seed)
    print(f"{where}: {len(scenario.sites)} sites, {scenario.settings}")
    for fault in scenario.faults:
        when = "step" if where == "service" else "iteration"
        print(f"{when} {fault.iteration}: {fault.kind} at {fault.client}, {fault.number}")
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        judge.prepare(Path(folder, "made"))
        ended = seeds.judged(seed, Path(folder, str(seed)))
    print(f"{ended.how}: {ended.told}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
