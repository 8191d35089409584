"""The product's network on a GPU: a training step and an inference under each switch of cuDNN and PyTorch.

    python -m benchmarks.gpu                                   # 64^3, 128^3, 256^3; 5 and 16 channels
    python -m benchmarks.gpu --sides 128 --channels 8 --arms product "bf16 graph"
    python -m benchmarks.gpu --device cpu --quick              # the same code at a tiny size, where there is no GPU

A step is what a site does with one batch: forward, loss, backward, without the optimiser. The first arm is the product
as it ships: cuDNN's deterministic kernels without trials, NCDHW, float32, no TF32. The others change what their name
says; a gradient's distance from the product's shows what that costs. Arms that fail say why and the rest goes on.

An arm runs unmeasured first (trials, compilation and capture are not in its times), then each turn is timed alone, on a
GPU between two events of its stream. The table has medians, the CSV each time.

The limit is the time in which the device copies as many bytes as the step must move if every pass over a layer were one
kernel. In values for each voxel, with L hidden layers of C channels and K classes:

    forward    1 + 2 L C + K      read the image, write each layer once and read it once, write the scores
    loss       2 K                read the scores, write their gradient; and 8 bytes of label
    backward   1 + 6 L C + K      the norm needs two sums over gradient and layer before its gradient is known: 2 C;
                                  then read gradient, layer and input, write the input's gradient: 4 C. The first layer
                                  writes none and its input is the image; the head's 2 C take the place of that

A value has 4 bytes, or 2 under bfloat16. The copy is measured here, counting what it reads and what it writes. Few
channels also mean many multiplications for each byte: the rate in TFLOP/s stands beside it to judge by.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from computation.model import architecture, native
from computation.model.network import MeshNet, build
from computation.settings import Settings
from computation.training import loss
from computation.training.device import arithmetic, autocast, decide

CLASSES = 3
Call = Callable[[], object]


@dataclass(frozen=True)
class Arm:
    """One way to compute: `free` lets cuDNN try kernels and take ones that are not deterministic."""

    name: str
    precision: str = "float32"
    tf32: bool = False
    free: bool = False
    last: bool = False
    compiled: bool = False
    graph: bool = False


# Graphs come last: a capture that fails may leave a device on which nothing more can be measured.
ARMS = (
    Arm("product"),
    Arm("trials", free=True),
    Arm("tf32", tf32=True),
    Arm("tf32 trials", tf32=True, free=True),
    Arm("channels_last", last=True),
    Arm("tf32 trials channels_last", tf32=True, free=True, last=True),
    Arm("bf16", "bfloat16"),
    Arm("bf16 trials", "bfloat16", free=True),
    Arm("bf16 trials channels_last", "bfloat16", free=True, last=True),
    Arm("compile", compiled=True),
    Arm("bf16 compile", "bfloat16", compiled=True),
    Arm("graph", graph=True),
    Arm("bf16 graph", "bfloat16", graph=True),
)


@dataclass(frozen=True)
class Case:
    what: str
    channels: int
    side: int


@dataclass(frozen=True)
class Run:
    """How to measure, on which device."""

    device: torch.device
    warm: int
    repeats: int
    backend: str
    bandwidth: float


@dataclass(frozen=True)
class Found:
    times: list[float]
    peak: int | None
    gradient: Tensor | None


def layers_of(channels: int) -> int:
    return len(_architecture(channels).dilations)


def _architecture(channels: int) -> architecture.Architecture:
    settings = dataclasses.replace(Settings(), model=f"meshnet-10x{channels}")
    return architecture.from_settings(settings)


def moved(case: Case, value: int) -> int:
    """Bytes that a step or an inference must move; see the top."""
    layers, voxels = layers_of(case.channels) * case.channels, case.side**3
    forward = 1 + 2 * layers + CLASSES
    if case.what == "inference":
        return value * voxels * forward
    return voxels * (value * (forward + 2 * CLASSES + 1 + 6 * layers + CLASSES) + 8)


def work(case: Case) -> float:
    """Floating point operations of the convolutions; backward has twice as many, but for the image's gradient."""
    first, rest = 27 * case.channels, 27 * case.channels**2 * (layers_of(case.channels) - 1)
    head = case.channels * CLASSES
    times = (1, 1) if case.what == "inference" else (2, 3)
    return 2.0 * case.side**3 * (times[0] * first + times[1] * (rest + head))


def bandwidth(device: torch.device, size: int) -> float:
    """Bytes per second of a copy on the device, read and written."""
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    times = timed(lambda: target.copy_(source), device, 9)
    return 2 * size / statistics.median(times[1:])


def timed(call: Call, device: torch.device, repeats: int) -> list[float]:
    """Seconds of each call alone; on a GPU the device's own."""
    if device.type != "cuda":
        return [_host_time(call) for _ in range(repeats)]
    found = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize(device)
        found.append(begin.elapsed_time(end) / 1e3)
    return found


def _host_time(call: Call) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def flags(arm: Arm) -> AbstractContextManager[None]:
    return torch.backends.cudnn.flags(enabled=True, benchmark=arm.free, deterministic=not arm.free, allow_tf32=arm.tf32)


def inputs(case: Case, arm: Arm, device: torch.device) -> tuple[Tensor, Tensor]:
    stream, shape = torch.Generator().manual_seed(1), (1, case.side, case.side, case.side)
    labels = torch.randint(0, CLASSES, shape, generator=stream)
    images = (labels / 2 + 0.1 * torch.randn(shape, generator=stream))[:, None].to(device)
    layout = torch.channels_last_3d if arm.last else torch.contiguous_format
    return images.to(memory_format=layout), labels.to(device)


def network(case: Case, arm: Arm, device: torch.device) -> MeshNet:
    model = build(_architecture(case.channels), 0).to(device)
    return model.to(memory_format=torch.channels_last_3d) if arm.last else model  # type: ignore[call-overload]


def call_of(case: Case, arm: Arm, run: Run, model: MeshNet) -> Call:
    images, labels = inputs(case, arm, run.device)
    criterion = loss.criterion(Settings())

    def learn() -> Tensor:
        with autocast(run.device, arm.precision):
            scores = model(images)
        return criterion(scores, labels)

    def infer() -> Tensor:
        with autocast(run.device, arm.precision):
            scores = model(images)
        return scores.float().softmax(1)

    wanted = infer if case.what == "inference" else learn
    if arm.compiled:
        torch._dynamo.reset()
        wanted = torch.compile(wanted, backend=run.backend, dynamic=False)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        wanted().backward()

    def look() -> Tensor:
        with torch.no_grad():
            return wanted()

    return look if case.what == "inference" else step


def captured(call: Call) -> Call:
    """Record a call as a CUDA graph, after warming up on a stream of its own as the recording wants it."""
    if not torch.cuda.is_available():
        raise RuntimeError("CUDA graphs need CUDA")
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def measure(case: Case, arm: Arm, run: Run) -> Found:
    if run.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(run.device)
    model = network(case, arm, run.device).train(case.what == "step")
    with flags(arm):
        call = call_of(case, arm, run, model)
        call = captured(call) if arm.graph else call
        for _ in range(run.warm):
            call()
        times = timed(call, run.device, run.repeats)
    peak = torch.cuda.max_memory_allocated(run.device) if run.device.type == "cuda" else None
    grads = [value.grad.flatten().cpu() for value in model.parameters() if value.grad is not None]
    return Found(times, peak, torch.cat(grads) if grads else None)


def tried(case: Case, arm: Arm, run: Run) -> Found | str:
    """Measure, or say why not: the other arms go on."""
    try:
        return measure(case, arm, run)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:80] if str(error).strip() else ''}"
    finally:
        gc.collect()
        if run.device.type == "cuda":
            torch.cuda.empty_cache()


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def line(case: Case, arm: Arm, run: Run, found: Found, first: Found | None) -> str:
    median = statistics.median(found.times)
    limit = moved(case, 2 if arm.precision == "bfloat16" else 4) / run.bandwidth
    gain = f"{statistics.median(first.times) / median:5.2f}x" if first else "     -"
    peak = f"{found.peak / 2**30:6.2f} GiB" if found.peak is not None else "         -"
    return (
        f"{median * 1e3:9.2f} ms | {gain} | limit {limit * 1e3:8.2f} ms, {median / limit:6.1f} times it | "
        f"{work(case) / median / 1e12:6.2f} TFLOP/s | {peak} | {_apart(found, first)}"
    )


def _apart(found: Found, first: Found | None) -> str:
    if found.gradient is None or first is None or first.gradient is None:
        return "-"
    return f"{float((found.gradient - first.gradient).norm() / first.gradient.norm()):.1e}"


def rows(case: Case, arm: Arm, run: Run, found: Found | str, first: Found | None) -> Iterator[list[object]]:
    fixed = [case.what, case.channels, case.side, arm.name]
    if isinstance(found, str):
        yield [*fixed, "", "", "", "", "", found]
        return
    bytes_moved = moved(case, 2 if arm.precision == "bfloat16" else 4)
    for turn, seconds in enumerate(found.times):
        limit = bytes_moved / run.bandwidth
        yield [*fixed, turn, seconds, limit, "" if found.peak is None else found.peak, _apart(found, first), ""]


def compare(run: Run, cases: list[Case], arms: list[Arm]) -> list[list[object]]:
    done: list[list[object]] = []
    firsts: dict[Case, Found] = {}
    for arm, case in product(arms, cases):
        found = tried(case, arm, run)
        if arm == ARMS[0] and isinstance(found, Found):
            firsts[case] = found
        told = found if isinstance(found, str) else line(case, arm, run, found, firsts.get(case))
        say(f"{case.what:9} {case.channels:2} ch {case.side:3}^3 {arm.name:26} | {told}")
        done += rows(case, arm, run, found, firsts.get(case))
    return done


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--sides", type=int, nargs="*", default=[64, 128, 256])
    parser.add_argument("--channels", type=int, nargs="*", default=[5, 16])
    parser.add_argument("--arms", nargs="*", choices=[arm.name for arm in ARMS], default=[arm.name for arm in ARMS])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="tiny, and compiled without a compiler")
    parser.add_argument("--csv", type=Path, default=Path("benchmarks/results/gpu.csv"))
    return parser.parse_args()


def main() -> None:
    chosen = options()
    # What is compared is PyTorch's path; on a CPU the product would take its own kernels.
    os.environ["COINSTAC_MESHNET_NATIVE"] = "off"
    found = decide(chosen.device)
    if found.device.type == "cuda":
        torch.cuda.set_device(found.device)
    if chosen.quick:
        torch.set_num_threads(1)
    sides, channels, repeats = ([8], [5], 2) if chosen.quick else (chosen.sides, chosen.channels, chosen.repeats)
    speed = bandwidth(found.device, (4 if chosen.quick else 1024) << 20)
    run = Run(found.device, 1 if chosen.quick else 3, repeats, "aot_eager" if chosen.quick else "inductor", speed)
    say(f"{found.reason}; product: {arithmetic(found.device, 'float32')}; torch {torch.__version__}")
    say(f"copy {speed / 1e9:.1f} GB/s; {native.status().reason}")
    cases = [Case(*each) for each in product(("step", "inference"), channels, sides)]
    table = compare(run, cases, [arm for arm in ARMS if arm.name in chosen.arms])
    chosen.csv.parent.mkdir(parents=True, exist_ok=True)
    with chosen.csv.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["# " + found.reason, f"torch {torch.__version__}", f"copy {speed:.0f} bytes/s"])
        writer.writerow(
            ["what", "channels", "side", "arm", "turn", "seconds", "limit", "peak bytes", "gradient apart", "failed"]
        )
        writer.writerows(table)


if __name__ == "__main__":
    main()
