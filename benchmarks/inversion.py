"""What does a gradient show of the sub-volume it was computed on? Gradient inversion at the demo's size.

Run: `.venv/bin/python -m benchmarks.inversion [--steps 1000] [--side 16]`. The attacker has what the centre has: the
model of the first round and one site's gradient; and more than it has: the true labels. It looks for the image whose
gradient points in the same direction, with little total variation (Geiping et al. 2020, arXiv 2003.14053: signed steps
of Adam, cosine matching). Cases: one sub-volume; the mean over more of them, as larger `local_steps` send; and one
sub-volume whose gradient was bounded and got the noise of setting `dp`. Prints one table and adds
its rows to benchmarks/results/inversion.csv.

`found` is the correlation of the best image with the true one within the head. `guess` is that of an image that needs
no gradient, only the labels: each tissue at its true mean intensity. An attack says something of the person where it is
above; `--start tissue` begins there.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.oasis import ledger
from computation.model import architecture
from computation.model.network import MeshNet, build
from computation.scans.store.opening import open_store
from computation.settings import Settings, parse
from computation.training import loss
from sqlite_fixtures.build import Subjects
from sqlite_fixtures.build import build as build_people

RESULTS = Path(__file__).parent / "results" / "inversion.csv"
#: Weight of the total variation, and the steps' length.
_SMOOTH, _RATE = 1e-2, 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--many", type=int, default=8, help="sub-volumes of the mean")
    parser.add_argument("--dp", type=float, nargs="*", default=[1.0], metavar="NOISE", help="noise multipliers")
    parser.add_argument("--start", choices=("noise", "tissue"), default="noise", help="what the search begins with")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    os.environ["COINSTAC_MESHNET_NATIVE"] = "off"  # the native kernels have no second derivative
    torch.set_num_threads(options.threads)
    settings = parse({"model": "meshnet-10x5", "patch_size": options.side, "precision": "float64"})[0]
    images, labels = _people(options.side, options.many)
    cases: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
        "one sub-volume": (1, lambda gradient: gradient),
        **{f"one sub-volume, dp_noise {noise:g}": (1, _noised(noise)) for noise in options.dp},
        f"mean of {options.many}": (options.many, lambda gradient: gradient),
    }
    rows = []
    for name, (count, made) in cases.items():
        rows.append(_row(name, settings, images[:count], labels[:count], made, options))
        print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    ledger.append(RESULTS, rows)


def _people(side: int, count: int) -> tuple[Tensor, Tensor]:
    """Return sub-volumes from the middle of the head, of one person each, and their labels."""
    with tempfile.TemporaryDirectory() as folder:
        (path,) = build_people(folder, sites=1, subjects=Subjects(count, 0, 0))
        with open_store(path) as store:
            scans = store.scans("train")
            low = tuple(length // 2 - side // 2 + 8 for length in scans[0].shape)
            where = [(scan, (low[0], low[1], low[2]), (side, side, side)) for scan in scans]
            images = np.stack([store.read_image(*one) for one in where])[:, None]
            labels = np.stack([store.read_label(*one).astype(np.int64) for one in where])
    return torch.from_numpy(images.astype(np.float64)), torch.from_numpy(labels)


def _noised(noise: float) -> Callable[[Tensor], Tensor]:
    """Return what bounds a gradient to one and adds noise, as the mechanism of `dp` does to the sum of one scan."""

    def made(gradient: Tensor) -> Tensor:
        bounded = gradient / max(1.0, float(gradient.norm()))
        return bounded + noise * torch.from_numpy(np.random.default_rng(4).normal(size=len(bounded)))

    return made


def _row(
    name: str,
    settings: Settings,
    images: Tensor,
    labels: Tensor,
    made: Callable[[Tensor], Tensor],
    options: argparse.Namespace,
) -> dict[str, Any]:
    model = build(architecture.from_settings(settings), settings.seed).double()
    sent = made(_gradient(model, settings, images, labels).detach())
    guess = _by_tissue(images[0], labels[0])
    begin = torch.from_numpy(np.random.default_rng(5).normal(0.5, 0.1, images.shape))
    if options.start == "tissue":
        begin = torch.stack([_by_tissue(image, label) for image, label in zip(images, labels, strict=True)])
    cosine, found = _inverted(model, settings, sent, labels, begin, options.steps)
    first, head = images[0, 0], labels[0] > 0
    return {
        "case": name,
        "start": options.start,
        "steps": options.steps,
        "side": images.shape[-1],
        "cosine": round(cosine, 4),
        "found": round(_alike(found[0, 0], first, head), 3),
        "guess": round(_alike(guess[0], first, head), 3),
        "found_whole": round(_alike(found[0, 0], first, head | True), 3),
        "guess_whole": round(_alike(guess[0], first, head | True), 3),
    }


def _gradient(model: MeshNet, settings: Settings, images: Tensor, labels: Tensor) -> Tensor:
    """Return the flat gradient of the mean loss, with a graph back to the images."""
    value = loss.criterion(settings)(model(images), labels)
    parts = torch.autograd.grad(value, list(model.parameters()), create_graph=images.requires_grad)
    return torch.cat([part.flatten() for part in parts])


def _inverted(
    model: MeshNet, settings: Settings, sent: Tensor, labels: Tensor, begin: Tensor, steps: int
) -> tuple[float, Tensor]:
    """Return the cosine that was reached, and the images."""
    guess = begin.clone().requires_grad_()
    optimiser = torch.optim.Adam([guess], _RATE)
    course = torch.optim.lr_scheduler.MultiStepLR(optimiser, [steps * 3 // 8, steps * 5 // 8, steps * 7 // 8], 0.1)
    cosine = 0.0
    for _ in range(steps):
        optimiser.zero_grad()
        near = torch.cosine_similarity(_gradient(model, settings, guess, labels), sent, dim=0)
        (1 - near + _SMOOTH * _variation(guess)).backward()  # type: ignore[no-untyped-call]
        assert guess.grad is not None
        guess.grad.sign_()
        optimiser.step()
        course.step()
        with torch.no_grad():
            guess.clamp_(0, 1)
        cosine = float(near.detach())
    return cosine, guess.detach()


def _variation(images: Tensor) -> Tensor:
    return torch.stack([images.diff(dim=axis).abs().mean() for axis in (2, 3, 4)]).sum()


def _by_tissue(image: Tensor, label: Tensor) -> Tensor:
    """Return the image that says of each voxel its tissue's mean alone."""
    made = torch.zeros_like(image)
    for value in label.unique():
        made[0][label == value] = image[0][label == value].mean()
    return made


def _alike(one: Tensor, other: Tensor, where: Tensor) -> float:
    return float(np.corrcoef(one[where].numpy(), other[where].numpy())[0, 1])


if __name__ == "__main__":
    main()
