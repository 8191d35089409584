"""A pooled 3-D U-Net of at least fifty times MeshNet's parameters, given the time that gradient averaging took.

MONAI's residual U-Net with the widths of its own spleen tutorial, 16 to 256 in five stages with two residual units
(4.8 million parameters), twice as wide where that is not fifty times the MeshNet of the settings; instance
normalisation. It gets what the pooled arm gets: everybody's scans, as many sub-volumes a step, the same draws, loss,
augmentation, AdamW and one-cycle, whose course follows the clock instead of the count of steps. Choices in its favour:
its own peak learning rate (`--unet-rate`, chosen on the validation people; docs/recipe.md),
channels innermost in memory, and MONAI's sliding window with Gaussian weights and half an overlap for labelling.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.oasis.arms import Training
from benchmarks.oasis.effects import SITES
from benchmarks.oasis.outcome import Outcome, Shares
from computation.model import architecture, network
from computation.scans.drawing.prefetch import Prefetcher
from computation.scans.store.opening import Store
from computation.scans.store.records import Scan
from computation.settings import Settings
from computation.training import head, loss
from computation.training.device import choose
from computation.training.sampler import patch_sampler
from computation.training.schedule import learning_rate

#: Peak learning rate, chosen with `--split valid` among 0.001, 0.002, 0.004 and 0.008.
RATE = 8e-3
TIMES = 50
_STAGES, _UNITS, _WIDTH = 5, 2, 16
#: Parts into which the schedule divides the time.
_PARTS = 10_000


class Padded(nn.Module):
    """A network that wants sides divisible by its strides, for sub-volumes of any size."""

    def __init__(self, inner: nn.Module, multiple: int) -> None:
        super().__init__()
        self.inner, self.multiple = inner, multiple

    def forward(self, volume: Tensor) -> Tensor:
        """Map `(N, 1, D, H, W)` to `(N, K, D, H, W)`."""
        sides = volume.shape[2:]
        gaps = [-side % self.multiple for side in sides]
        padded = nn.functional.pad(volume, [part for gap in reversed(gaps) for part in (0, gap)])
        scores = self.inner(padded)
        return scores[..., : sides[0], : sides[1], : sides[2]]


def build(settings: Settings, seed: int) -> Padded:
    """Return the U-Net, with weights drawn from the seed alone."""
    from monai.networks.nets import UNet

    wanted = TIMES * network.parameter_count(network.build(architecture.from_settings(settings), 0))
    width = _WIDTH
    while True:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            inner = UNet(
                spatial_dims=3,
                in_channels=1,
                out_channels=len(settings.classes),
                channels=tuple(width << stage for stage in range(_STAGES)),
                strides=(2,) * (_STAGES - 1),
                num_res_units=_UNITS,
            )
        if network.parameter_count(inner) >= wanted:
            return Padded(inner, 1 << (_STAGES - 1))
        width *= 2


def unet(training: Training, rate: float = RATE) -> list[Outcome]:
    """Train until the time is used up."""
    settings = training.settings(strategy="gradient-mean")
    device = choose(training.device)
    model = build(settings, training.seed).to(device, memory_format=torch.channels_last_3d)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=settings.weight_decay)
    criterion = loss.criterion(settings)
    watch, done = training.watch, 0
    together = len(SITES) * settings.batch_size * settings.local_steps
    with Prefetcher(patch_sampler(training.bench.pooled, settings, site="pooled", batch_size=together)) as sampler:
        watch.start()
        while watch.seconds < training.budget or not done:
            batch = sampler.batch(done)
            _set_rate(optimiser, settings, rate, watch.seconds / training.budget)
            value = _step(model, optimiser, criterion, batch.images.to(device), batch.labels.to(device))
            done += 1
            watch.tell(min(1, watch.seconds / training.budget), f"step {done}, loss {value:.3f}")
        spent = watch.spent
    count = network.parameter_count(model)
    return [Outcome("", _shares(model, settings, device), spent, done, done, 0, 0, count)]


def _set_rate(optimiser: torch.optim.Optimizer, settings: Settings, rate: float, share: float) -> None:
    now = learning_rate(settings, min(int(share * _PARTS), _PARTS - 1), _PARTS) / settings.learning_rate
    for group in optimiser.param_groups:
        group["lr"] = rate * now


def _step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    criterion: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
) -> float:
    model.train()
    optimiser.zero_grad(set_to_none=True)
    value = criterion(model(images.to(memory_format=torch.channels_last_3d)), labels)
    value.backward()
    optimiser.step()
    return float(value.detach())


def _shares(model: nn.Module, settings: Settings, device: torch.device) -> Shares:
    from monai.inferers import sliding_window_inference

    def shares(store: Store, scan: Scan) -> NDArray[np.float32]:
        image = store.read_image(scan, (0, 0, 0), scan.shape)
        # The same box as MeshNet's, so that the comparison is of networks and not of what they make of air.
        box = head.box_of(image) or (slice(None),) * 3
        part = torch.from_numpy(image[box])[None, None].to(device)
        window = part.shape[2:] if settings.whole_volume else settings.patch_size
        found = np.zeros((len(settings.classes), *image.shape), np.float32)
        found[0] = 1
        with torch.inference_mode():
            scores = sliding_window_inference(part, window, 2, model.eval(), overlap=0.5, mode="gaussian")
        found[(slice(None), *box)] = scores[0].softmax(0).cpu().numpy()
        return found

    return shares
