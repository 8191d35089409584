"""Optimisers on one flat float64 vector, whose steps are the same bits on every machine.

Every site and the centre step their own copy of one optimiser, and the digests of the results must be equal. So a step
uses additions, subtractions, multiplications, divisions and square roots only, each correctly rounded by IEEE 754 and
each a NumPy call of its own: no fused multiply-add, no reduction whose order depends on the vector unit, and no power
function, whose last bit depends on the C library (bias corrections are running products). PyTorch's optimisers promise
none of this; in float64 they agree to rounding, which the tests check.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from computation.errors import ResumeError
from computation.settings import Settings

__all__ = ["SGD", "AdamW", "Floats", "Optimiser", "RMSprop", "named"]

Floats: TypeAlias = NDArray[np.float64]


class Optimiser(Protocol):
    """Moves a vector of parameters against a gradient."""

    def step(self, values: Floats, gradient: Floats, rate: float) -> Floats:
        """Return the new values, and remember what the next step needs.

        Parameters
        ----------
        values, gradient : numpy.ndarray of float64
            Shape `(n,)`; neither is changed.
        rate : float
            Learning rate of this step.
        """
        ...

    def state(self) -> dict[str, Floats]:
        """Return what the next step needs, as arrays that no later step changes."""
        ...

    def load_state(self, arrays: Mapping[str, Floats]) -> None:
        """Go back to a state.

        Raises
        ------
        ResumeError
            If it is not a state of this optimiser.
        """
        ...


def named(settings: Settings, size: int) -> Optimiser:
    """Return the optimiser that the settings name, for `size` parameters."""
    if settings.optimizer == "sgd":
        return SGD(size, momentum=settings.momentum, decay=settings.weight_decay)
    if settings.optimizer == "rmsprop":
        return RMSprop(size, decay=settings.weight_decay)
    return AdamW(size, decay=settings.weight_decay)


class _Stateful:
    """Keeps named arrays and hands them out; a step replaces arrays and never writes into them."""

    def __init__(self, **arrays: Floats) -> None:
        self._arrays = arrays

    def state(self) -> dict[str, Floats]:
        """Return what the next step needs, as arrays that no later step changes."""
        return dict(self._arrays)

    def load_state(self, arrays: Mapping[str, Floats]) -> None:
        """Go back to a state; raises `ResumeError` if it is not one of this optimiser."""
        wanted = {name: array.shape for name, array in self._arrays.items()}
        seen = {name: array.shape for name, array in arrays.items()}
        if seen != wanted or any(array.dtype != np.float64 for array in arrays.values()):
            raise ResumeError(
                f"the checkpoint's optimiser state has arrays {seen}; wanted {wanted} in float64; start the run again"
            )
        self._arrays = {name: arrays[name] for name in wanted}


class AdamW(_Stateful):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2).

    Parameters
    ----------
    size : int
        Number of parameters.
    betas : tuple of float
        Decay of the running means of gradient and squared gradient.
    eps : float
        Added to the root of the second moment.
    decay : float
        Weight decay, as a share of the learning rate.
    """

    def __init__(
        self, size: int, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, decay: float = 0.0
    ) -> None:
        super().__init__(first=np.zeros(size), second=np.zeros(size), powers=np.ones(2))
        self.betas, self.eps, self.decay = betas, eps, decay

    def step(self, values: Floats, gradient: Floats, rate: float) -> Floats:
        """Return the new values; see `Optimiser`."""
        (beta1, beta2), old = self.betas, self._arrays
        powers = old["powers"] * np.array(self.betas)
        first = old["first"] * beta1 + gradient * (1 - beta1)
        second = old["second"] * beta2 + gradient * gradient * (1 - beta2)
        self._arrays = {"first": first, "second": second, "powers": powers}
        corrections = 1.0 - powers
        root = np.sqrt(second / corrections[1]) + self.eps
        moved: Floats = values * (1 - rate * self.decay) - first / root * (rate / corrections[0])
        return moved


class SGD(_Stateful):
    """Stochastic gradient descent with momentum and an L2 penalty, as in PyTorch: the buffer holds gradients.

    Parameters
    ----------
    size : int
        Number of parameters.
    momentum : float
        Share of the buffer that stays; 0 is plain descent.
    decay : float
        L2 penalty, added to the gradient.
    """

    def __init__(self, size: int, *, momentum: float = 0.0, decay: float = 0.0) -> None:
        super().__init__(buffer=np.zeros(size))
        self.momentum, self.decay = momentum, decay

    def step(self, values: Floats, gradient: Floats, rate: float) -> Floats:
        """Return the new values; see `Optimiser`."""
        buffer = self._arrays["buffer"] * self.momentum + (gradient + values * self.decay)
        self._arrays = {"buffer": buffer}
        return values - buffer * rate


class RMSprop(_Stateful):
    """Gradient over the root of its running mean square (Tieleman and Hinton 2012), with an L2 penalty.

    Parameters
    ----------
    size : int
        Number of parameters.
    alpha : float
        Decay of the running mean.
    eps : float
        Added to the root.
    decay : float
        L2 penalty, added to the gradient.
    """

    def __init__(self, size: int, *, alpha: float = 0.99, eps: float = 1e-8, decay: float = 0.0) -> None:
        super().__init__(square=np.zeros(size))
        self.alpha, self.eps, self.decay = alpha, eps, decay

    def step(self, values: Floats, gradient: Floats, rate: float) -> Floats:
        """Return the new values; see `Optimiser`."""
        gradient = gradient + values * self.decay
        square = self._arrays["square"] * self.alpha + gradient * gradient * (1 - self.alpha)
        self._arrays = {"square": square}
        return values - gradient / (np.sqrt(square) + self.eps) * rate
