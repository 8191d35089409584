"""What a run may be asked for, and the facts that decide its results."""

from __future__ import annotations

import argparse
import platform
import subprocess
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.oasis import effects, peer, unet
from computation.settings import parse

#: Arms that are not run unless they are asked for, and how many times the first arm's time each has.
MESHFL = {"meshfl": 1, "meshfl-10x": 10}
#: Arms with differential privacy, not run unless they are asked for either, and the epsilon of each.
DP = {"dp-8": 8.0, "dp-100": 100.0, "dp-1000": 1000.0}
#: In the order in which they run: the arms that go by the clock want the time of the first.
ARMS = (
    "gradient-mean",
    "pooled",
    "single",
    "single-own",
    "fedavg",
    "unet",
    "peer-intended",
    "peer-literal",
    *MESHFL,
    *DP,
)
#: What each site trains by itself.
SINGLE = ("single", "single-own")
TIMED = ("unet", "peer-intended", "peer-literal", *MESHFL)
#: What runs under a site effect.
EFFECT_ARMS = ("gradient-mean", "pooled")
RESULTS = Path(__file__).parents[1] / "results"


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.oasis", description="Federated against other training, on OASIS-25."
    )
    parser.add_argument("--data", type=Path, help="folder with subjects.csv")
    parser.add_argument("--work", type=Path, help="folder that keeps the imported databases; default: thrown away")
    parser.add_argument("--spacing", type=float, default=2.0, help="voxel size in mm; the field of view is 216 mm")
    parser.add_argument(
        "--rounds", type=int, help="batches of each site; default: the settings' epochs, as the product"
    )
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--first-seed", type=int, default=0, help="to share seeds out among processes with one --out")
    parser.add_argument("--arms", nargs="+", default=[arm for arm in ARMS if arm not in (*MESHFL, *DP)], choices=ARMS)
    parser.add_argument("--effects", nargs="+", default=["none"], choices=effects.EFFECTS)
    parser.add_argument("--effect-arms", nargs="+", default=list(EFFECT_ARMS), choices=ARMS, help="under an effect")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings other than the defaults")
    parser.add_argument("--budget", type=float, help="seconds of the arms by the clock; default: gradient-mean's own")
    parser.add_argument(
        "--clock",
        default="wall",
        choices=("wall", "processor"),
        help="what these arms go by; processor time on a machine that does other work, with --threads 1",
    )
    parser.add_argument("--unet-rate", type=float, default=unet.RATE, help="peak learning rate of the U-Net")
    parser.add_argument("--peer-patch", type=int, default=peer.PATCH, help="side of the peer's cubes; 0: whole scans")
    parser.add_argument("--peer-rate", type=float, default=peer.INTENDED.rate, help="peak rate of peer-intended")
    parser.add_argument("--curve", type=int, default=0, metavar="K", help="validation Dice every K rounds into a CSV")
    parser.add_argument(
        "--split", default="test", choices=("test", "valid"), help="valid for tuning; never tune on test"
    )
    parser.add_argument("--device", default="cpu", help='"cpu", "cuda" or "auto"')
    parser.add_argument("--threads", type=int, default=0, help="0: torch's own choice")
    parser.add_argument("--out", type=Path, help="the CSV; default: benchmarks/results/oasis-SPACINGmm.csv")
    parser.add_argument("--report-only", action="store_true", help="table and figure of the CSV")
    options = parser.parse_args()
    options.out = options.out or RESULTS / f"oasis-{options.spacing:g}mm.csv"
    if not options.data and not options.report_only:
        parser.error("--data is missing")
    options.changes = {name: _number(text) for name, text in (item.split("=", 1) for item in options.set)}
    # Asked now and not when a row is written: a commit made meanwhile is not what runs.
    options.commit = commit()
    return options


def commit() -> str:
    """Return the short name of the commit that is checked out here, or "unknown" outside git."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _number(text: str) -> Any:
    try:
        return float(text) if any(letter in text for letter in ".e") else int(text)
    except ValueError:
        return text


def facts(options: argparse.Namespace) -> dict[str, Any]:
    """Return all that decides the results, so that a file never mixes two recipes."""
    settings = parse(options.changes)[0].as_json()
    for name in ("strategy", "seed"):
        del settings[name]
    return {
        "spacing": options.spacing,
        "rounds": options.rounds or 0,
        "split": options.split,
        "settings": settings,
        "fixed budget": options.budget or 0,
        "clock": options.clock,
        "peer": {**asdict(replace(peer.INTENDED, rate=options.peer_rate)), "patch": options.peer_patch},
        "peer literal": asdict(peer.LITERAL),
        "unet": {"rate": options.unet_rate},
        "device": options.device,
        "threads": options.threads or torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("torch", "numpy")}},
    }
