"""Fuzzes every reader of foreign bytes: `python test/fuzz --minutes 10`; one of them: `python test/fuzz messages`.

Each target is a process of its own, watched from outside: it may use a gigabyte, and for one input ten seconds of the
processor, or five minutes in which it hangs. With atheris (Python 3.11, Linux) coverage leads the changes, without it
chance alone. What is found lies in `build/fuzz/`.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
TEST = Path(__file__).resolve().parents[1]
FOUND = TEST.parent / "build" / "fuzz"
sys.path[:1] = [str(TEST.parent), str(TEST)]  # and not this folder, whose files are a package's
NAMES = (
    *("json", "messages", "settings", "payload", "packed", "database", "image", "model", "neuroflame", "spec", "peer"),
    "signature",
)
MEGABYTES, SECONDS = 1024, 10
#: Where files that readers read take the fewest milliseconds: a disk is waited for when one is replaced.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

#: Arithmetic on images, which reads no foreign format: atheris 3.0.0 never frees what comparing two arrays returns.
ARRAYS = [
    *(f"computation.scans.making.{name}" for name in ("conform", "levels", "resampling", "stripped")),
    "computation.scans.store.normalise",
]


def main():
    parser = argparse.ArgumentParser(description="Changed bytes for every reader of foreign bytes.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"default: all; {', '.join(NAMES)}")
    parser.add_argument("--minutes", type=float, default=10, help="for each target; default: 10")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.targets) - set(NAMES):
        parser.error(f"there is no target {', '.join(sorted(unknown))}; wanted {', '.join(NAMES)}")
    if options.alone:
        return alone(options.targets[0], options.minutes * 60)
    failed = [name for name in options.targets or NAMES if watched(name, options.minutes)]
    print(f"findings: {', '.join(failed)}; see {FOUND}" if failed else "no finding", flush=True)
    return bool(failed)


def watched(name, minutes):
    """Run a target in a process of its own; return whether it ended badly."""
    began, log = time.monotonic(), FOUND / f"{name}.log"
    FOUND.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(Path(__file__).parent), name, "--alone", "--minutes", str(minutes)]
    with log.open("wb") as file, tempfile.TemporaryDirectory(prefix="fuzz-", dir=MEMORY) as folder:
        # libFuzzer leaves without removing anything.
        place = {**os.environ, "TMPDIR": folder}
        ended = subprocess.run(command, env=place, stdout=file, stderr=file, check=False).returncode
    said = [line for line in log.read_text(errors="replace").splitlines() if line.startswith(("Done", "#", "stat"))]
    print(
        f"{name:<12} {'FOUND' if ended else 'clean'} {time.monotonic() - began:>6.0f} s  {(said or [''])[-1]}",
        flush=True,
    )
    return bool(ended)


def alone(name, seconds):
    """Fuzz one target in this process."""
    if importlib.util.find_spec("atheris"):
        return _led(name, seconds)
    from peak import kilobytes

    from fuzz.mutating import mutants
    from fuzz.targets import TARGETS

    target, until = TARGETS[name], time.monotonic() + seconds
    for tried, blob in enumerate(mutants(target.seeds(), seed=0), 1):
        (FOUND / f"{name}.last").write_bytes(blob)
        read(target, blob)
        assert kilobytes() < MEGABYTES * 1024, "it took too much memory"
        if time.monotonic() > until:
            print(f"Done {tried} inputs by chance, {kilobytes() // 1024} MB")
            return 0
    return 1


def read(target, blob):
    """Read an input in so many seconds of the processor: that others had it is no finding."""
    began = time.process_time()
    target.read(blob)
    assert time.process_time() - began < SECONDS, "it took too long"


def _led(name, seconds):
    import atheris

    with atheris.instrument_imports(include=["computation", "peers", "service", "neuroflame"], exclude=ARRAYS):
        from fuzz.targets import TARGETS
    target, corpus = TARGETS[name], FOUND / name
    corpus.mkdir(exist_ok=True)
    for number, blob in enumerate(target.seeds()):
        (corpus / f"seed{number}").write_bytes(blob)
    limits = [f"-max_total_time={int(seconds)}", f"-rss_limit_mb={MEGABYTES}", f"-timeout={30 * SECONDS}"]
    words = [f"-artifact_prefix={FOUND}/{name}-", "-print_final_stats=1", "-max_len=65536", "-close_fd_mask=0"]
    atheris.Setup([sys.argv[0], *limits, *words, str(corpus)], partial(read, target))
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
