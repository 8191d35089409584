"""A 2-D U-Net that predicts one picture from 97, learnt by several processes: an ordinary loop and five lines.

::

    torchrun --nproc-per-node 2 -m peers.examples.unet

The network is that of S. Raja's thesis on ring all-reduce (2019), 8,660,513 parameters that are trained: there, a T1
image from 90 diffusion images, 6 of anisotropy and one without diffusion. Here slices are made from a seed, and small.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from peers.batches import Shuffled
from peers.callbacks import Distributed
from peers.engines import torchrun
from peers.examples import data, options

__all__ = ["UNet", "main"]

_SIDE = 32


def _block(inputs: int, outputs: int, drop: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Dropout(drop),
    )


class UNet(nn.Module):
    """A U-Net for the regression of one picture from many (Ronneberger et al. 2015, arXiv 1505.04597).

    Parameters
    ----------
    channels : int
        Of the input.
    width : int
        Channels of the first level; each further one has twice as many.
    levels : int
        With the bridge; sides must be divisible by `2 ** (levels - 1)`.
    """

    def __init__(self, channels: int = 97, width: int = 32, levels: int = 5) -> None:
        super().__init__()
        widths = [width << level for level in range(levels - 1)]
        self.down = nn.ModuleList(
            _block(inputs, outputs, 0.25) for inputs, outputs in zip([channels, *widths], widths, strict=False)
        )
        self.bridge = _block(widths[-1], 2 * widths[-1], 0.5)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * outputs, outputs, 3, stride=2, padding=1, output_padding=1)
            for outputs in reversed(widths)
        )
        self.joined = nn.ModuleList(_block(2 * outputs, outputs, 0.25) for outputs in reversed(widths))
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map `(N, channels, H, W)` to `(N, 1, H, W)`."""
        kept = []
        for block in self.down:
            kept.append(block(images))
            images = nn.functional.max_pool2d(kept[-1], 2)
        images = self.bridge(images)
        for up, block in zip(self.up, self.joined, strict=True):
            images = block(torch.cat([kept.pop(), up(images)], 1))
        picture: Tensor = self.head(images)
        return picture


def main(arguments: Sequence[str] | None = None) -> None:
    """Learn slices, and print each epoch's pooled mean squared error."""
    asked = options.parse(__doc__, arguments, epochs=2, batch=4, rate=1e-3, count=16)
    with torchrun.joined(options.group()) as group:  # 1
        torch.manual_seed(asked.seed + group.rank)
        own = data.slices(asked.count, _SIDE, asked.seed + group.rank)
        batches = Shuffled(own, asked.batch, asked.seed, group.name)
        model = UNet()
        optimizer = torch.optim.Adam(model.parameters(), asked.rate)
        distributed = Distributed(model, optimizer, group)  # 2
        distributed.on_train_begin()  # 3
        for epoch in range(1, asked.epochs + 1):
            for images, pictures in batches(epoch):
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(model(images), pictures)
                loss.backward()  # type: ignore[no-untyped-call]
                distributed.on_batch_end(loss, len(pictures))  # 4
            told = distributed.on_epoch_end()  # 5
            if group.rank == 0:
                print(f"epoch {epoch}: mean squared error {told['loss']:.4f}", flush=True)


if __name__ == "__main__":
    main()
