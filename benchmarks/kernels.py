"""Native kernels against PyTorch on this machine's CPU: rates, training steps, full volumes; all arms side by side.

    python benchmarks/kernels.py                       # kernels and training steps at 64^3 and 96^3
    python benchmarks/kernels.py --what full           # 256^3: time and peak memory of a step and of inference
    python benchmarks/kernels.py --channels 5 --sizes 64 --repeats 9 --csv other.csv

Every arm runs once unmeasured; then arms of one row, and all full volumes, run in turn, so that a busy machine slows
all of them. The table shows medians and ratios of medians, the CSV every single time, after a comment that says when
and on what each run was taken: benchmarks/results/kernels.csv is written anew, or with ``--append`` longer. A full
volume is measured in a process of its own each time, for its peak memory. A training step is forward, cross entropy +
Dice, and backward of MeshNet with dilations 1,2,4,8,16,8,4,2,1, instance normalisation and ELU, without the optimiser.
The native step is timed with the loss in torch, like the others, and with the native one.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from computation.model import native

DILATIONS = (1, 2, 4, 8, 16, 8, 4, 2, 1)
CLASSES = 3
MATMUL = 1536
#: Fewest repeats whose median says anything.
FULL_REPEATS = 3
RESULTS = Path(__file__).parent / "results" / "kernels.csv"
STYLE = native.Style("instance", "elu")
Arm = Callable[[], object]
Loss = Callable[[Tensor, Tensor], Tensor]


def network(channels: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for i, d in enumerate(DILATIONS):
        conv = nn.Conv3d(channels if i else 1, channels, 3, padding=d, dilation=d)
        layers += [conv, nn.GroupNorm(channels, channels), nn.ELU()]
    return nn.Sequential(*layers, nn.Conv3d(channels, CLASSES, 1))


def native_forward(model: nn.Sequential, x: Tensor, keep: int = 1) -> Tensor:
    *layers, head = model
    blocks = [
        native.Block(conv.weight, conv.bias, norm.weight, norm.bias, dilation=conv.dilation[0])
        for conv, norm in zip(layers[::3], layers[1::3], strict=True)
    ]
    style = native.Style(STYLE.norm, STYLE.activation, keep=keep)
    return native.stack(x, blocks, native.Block(head.weight, head.bias), style)


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    logits = logits.float()
    probabilities = logits.softmax(1)
    truth = F.one_hot(labels, CLASSES).movedim(-1, 1).float()
    space = (0, 2, 3, 4)
    dice = 2 * (probabilities * truth).sum(space) / (probabilities.sum(space) + truth.sum(space))
    return F.cross_entropy(logits, labels) + 1 - dice.mean()


def native_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The same as `loss`, from the native sums."""
    share, overlap, voxels, surprise, _ = native.class_sums(logits, labels).sum(0).unbind(-1)
    return surprise.sum() / labels.numel() + 1 - (2 * overlap / (share + voxels)).mean()


def inputs(size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand((1, 1, size, size, size), generator=generator)
    return x, torch.randint(0, CLASSES, (1, size, size, size), generator=generator)


def native_step(model: nn.Sequential, size: int, keep: int = 1, criterion: Loss = native_loss) -> Arm:
    x, labels = inputs(size)

    def step() -> None:
        model.zero_grad()
        criterion(native_forward(model, x, keep), labels).backward()

    return step


def torch_step(model: nn.Sequential, size: int, layout: torch.memory_format, precision: str) -> Arm:
    model = copy.deepcopy(model).to(memory_format=layout)
    x, labels = inputs(size)
    x = x.to(memory_format=layout)
    if precision == "bf16":
        model, x = model.bfloat16(), x.bfloat16()

    def step() -> None:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "amp"):
            logits = model(x)
        loss(logits, labels).backward()

    return step


def step_arms(channels: int, size: int) -> dict[str, Arm]:
    model = network(channels)
    layouts = {"NCDHW": torch.contiguous_format, "channels_last": torch.channels_last_3d}
    arms = {
        f"torch {precision} {name}": torch_step(model, size, layout, precision)
        for precision in ("f32", "amp", "bf16")
        for name, layout in layouts.items()
    }
    own = {"native": native_step(model, size), "native, torch loss": native_step(model, size, criterion=loss)}
    return own | arms


def kernel_arms(channels: int, size: int, dilation: int) -> tuple[dict[str, Arm], dict[str, float]]:
    """Return arms and their floating point operations."""
    torch.manual_seed(0)
    x = torch.randn(1, channels, size, size, size)
    weight, grad = torch.randn(channels, channels, 3, 3, 3), torch.randn_like(x)
    a = torch.randn(MATMUL, MATMUL)
    calls = native.calls
    arms = {
        "matmul": lambda: a @ a,
        "forward": lambda: calls.forward(x, None, weight, None, dilation, moments=False),
        "grad input": lambda: calls.backward(grad, None, x, None, weight, dilation, needs=(True, False, False)),
        "grad weight": lambda: calls.backward(grad, None, x, None, weight, dilation, needs=(False, True, False)),
    }
    return arms, {name: 2.0 * MATMUL**3 if name == "matmul" else 54.0 * channels**2 * size**3 for name in arms}


def measure(arms: dict[str, Arm], repeats: int) -> dict[str, list[float]]:
    """Run every arm once unmeasured, then all arms in turn, `repeats` times."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(repeats + 1):
        for name, arm in arms.items():
            begin = time.perf_counter()
            arm()
            if turn:
                times[name].append(time.perf_counter() - begin)
    return times


def conditions() -> str:
    """Say on what, and beside how much other work, the times are taken."""
    policy = {os.SCHED_OTHER: "normal", os.SCHED_RR: "real-time (chrt -r)", os.SCHED_FIFO: "real-time (chrt -f)"}
    scheduling = policy.get(os.sched_getscheduler(0), "other")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{time.strftime('%Y-%m-%d %H:%M')}; {native.status().reason}; torch {torch.__version__}; "
        f"{torch.get_num_threads()} threads on {os.cpu_count()} cores; {scheduling} scheduling; load averages {load}"
    )


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def report_steps(channels: int, size: int, repeats: int) -> list[list[object]]:
    times = measure(step_arms(channels, size), repeats)
    medians = {name: statistics.median(values) for name, values in times.items()}
    own, other, default = medians.pop("native"), medians.pop("native, torch loss"), medians["torch f32 NCDHW"]
    best = min(medians, key=lambda name: medians[name])
    say(
        f"step {channels:2} ch {size:3}^3 | native {own * 1e3:.1f} ms (torch loss {other * 1e3:.1f})"
        f" | default {default / own:5.1f}x | best ({best}) {medians[best] / own:5.1f}x | "
        + ", ".join(f"{name[6:]} {value * 1e3:.0f} ms" for name, value in medians.items())
    )
    return [["step", channels, size, "", name, turn, t] for name, ts in times.items() for turn, t in enumerate(ts)]


def report_kernels(channels: int, size: int, dilation: int, repeats: int) -> list[list[object]]:
    arms, work = kernel_arms(channels, size, dilation)
    times = measure(arms, repeats)
    rates = {name: work[name] / statistics.median(values) / 1e9 for name, values in times.items()}
    say(
        f"kernel {channels:2} ch {size:3}^3 d {dilation:2} | matmul {rates['matmul']:4.0f} GFLOP/s | "
        + " | ".join(f"{n} {r:4.0f} ({r / rates['matmul']:.0%})" for n, r in rates.items() if n != "matmul")
    )
    return [
        ["kernel", channels, size, dilation, name, turn, t] for name, ts in times.items() for turn, t in enumerate(ts)
    ]


FULL = {
    "native step": lambda c, n, keep: native_step(network(c), n, keep),
    "native inference": lambda c, n, keep: inference(network(c), n, native_forward),
    "torch step": lambda c, n, keep: torch_step(network(c), n, torch.contiguous_format, "f32"),
    "torch inference": lambda c, n, keep: inference(network(c), n, lambda model, x: model(x)),
}


#: Name in `FULL`, channels, and keep.
FullArm = tuple[str, int, int]
FULL_ARMS: tuple[FullArm, ...] = (
    ("native inference", 5, 1), ("torch inference", 5, 1), ("native step", 5, 2), ("native step", 5, 3),
    ("native step", 16, 2), ("native step", 16, 3), ("torch step", 1, 1),
)  # fmt: skip


def inference(model: nn.Sequential, size: int, forward: Callable[..., Tensor]) -> Arm:
    x, _ = inputs(size)

    def run() -> None:
        with torch.no_grad():
            forward(model, x)

    return run


def alone(name: str, channels: int, size: int, keep: int) -> None:
    """Measure one arm once in this process, warm, and print its time and the process's peak memory as JSON."""
    (seconds,) = measure({name: FULL[name](channels, size, keep)}, 1)[name]
    say(json.dumps({"seconds": seconds, "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def in_own_process(name: str, channels: int, size: int, keep: int) -> dict[str, float]:
    """Return what `alone` prints in a process of its own."""
    command = [sys.executable, __file__, "--alone", name, str(channels), str(size), str(keep)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def report_full(arms: Sequence[FullArm], size: int, repeats: int) -> list[list[object]]:
    """Measure all arms in turn, `repeats` times, each time in a new process that runs the arm once before."""
    found: dict[FullArm, list[dict[str, float]]] = {arm: [] for arm in arms}
    for _ in range(repeats):
        for name, channels, keep in arms:
            found[name, channels, keep].append(in_own_process(name, channels, size, keep))
    rows: list[list[object]] = []
    for (name, channels, keep), runs in found.items():
        seconds, peak = statistics.median(run["seconds"] for run in runs), max(run["bytes"] for run in runs)
        say(f"{name} {channels:2} ch {size}^3 keep {keep} | {seconds:6.2f} s | peak {peak / 1e9:5.2f} GB")
        rows += [["full " + name, channels, size, keep, run["bytes"], i, run["seconds"]] for i, run in enumerate(runs)]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--channels", type=int, nargs="*", default=[5, 8, 16])
    parser.add_argument("--sizes", type=int, nargs="*", default=[64, 96])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--what", nargs="*", choices=["kernels", "steps", "full"], default=["kernels", "steps"])
    parser.add_argument("--full-size", type=int, default=256)
    parser.add_argument("--csv", type=Path, default=RESULTS)
    parser.add_argument("--append", action="store_true")
    parser.add_argument("--alone", nargs=4)
    chosen = parser.parse_args()
    if chosen.alone:
        name, *numbers = chosen.alone
        return alone(name, *map(int, numbers))
    rows: list[list[object]] = []
    taken = conditions()
    say(taken)
    if "kernels" in chosen.what:
        for channels, size, dilation in product(chosen.channels, chosen.sizes, DILATIONS[:5:2]):
            rows += report_kernels(channels, size, dilation, 3 * chosen.repeats)
    if "steps" in chosen.what:
        for channels, size in product(chosen.channels, chosen.sizes):
            rows += report_steps(channels, size, chosen.repeats)
    if "full" in chosen.what:
        arms = [arm for arm in FULL_ARMS if arm[1] in (1, *chosen.channels)]
        rows += report_full(arms, chosen.full_size, max(FULL_REPEATS, chosen.repeats))
    chosen.csv.parent.mkdir(parents=True, exist_ok=True)
    with chosen.csv.open("a" if chosen.append else "w", newline="") as file:
        writer = csv.writer(file)
        file.write(f"# {taken}\n")
        writer.writerow(["what", "channels", "size", "dilation or keep", "arm or bytes", "turn", "seconds"])
        writer.writerows(rows)
    return None


if __name__ == "__main__":
    main()
