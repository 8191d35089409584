"""What strategies share whose common model steps towards the mean model, as a server's optimiser would.

Reddi et al. 2021, "Adaptive federated optimization", arXiv 2003.00295, algorithm 1: the mean of what the sites' models
moved by takes the place of a gradient. Nobody but the holders of a copy steps it: the centre and each site do so alike
and to the last bit, so that what travels is one mean model. The arithmetic is that of `training.optimiser`, for the
same reason. Batch-norm statistics take no such step, in which a variance might become negative: their mean is taken.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from computation.errors import ResumeError
from computation.strategies.base import Combined
from computation.strategies.fedavg import FedAvg
from computation.training.faults import NotFiniteError
from computation.training.learner import Learner
from computation.training.optimiser import Floats

__all__ = ["ServerStep"]


class ServerStep(FedAvg):
    """Step towards the mean model; see the module.

    Parameters
    ----------
    *names : str
        Of the moments that the steps need.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self._moments: dict[str, Floats] = {}

    def apply(self, learner: Learner, combined: Combined) -> None:
        """Step the parameters towards the mean's, and take over the mean batch-norm statistics.

        Raises
        ------
        NotFiniteError
            If the step leaves the range of the dtype.
        ResumeError
            If what is remembered is of another model.
        """
        where, values = learner.parts["parameters"], combined.values.copy()
        common, mean = learner.vector()[where].astype(np.float64), values[where].astype(np.float64)
        self._expect_room_for(common)
        with np.errstate(all="ignore"):
            values[where] = self._stepped(common, mean)
        if not np.isfinite(values[where]).all():
            raise NotFiniteError(
                f"the step towards the mean of round {combined.round} made the model infinite; lower 'server_rate'"
            )
        learner.load_vector(values)

    def _expect_room_for(self, common: Floats) -> None:
        for name, moment in self._moments.items():
            if moment.shape != common.shape:
                raise ResumeError(
                    f"the strategy remembers {moment.size} values as {name!r}; wanted {common.size}; start again"
                )

    @abstractmethod
    def _stepped(self, common: Floats, mean: Floats) -> Floats:
        """Return the new parameters, and remember what the next step needs; neither argument is changed."""

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return the moments; nothing before the first step."""
        return dict(self._moments), {}

    def load_state(self, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> None:
        """Go back to a state; raises `ResumeError` if it is not one of this strategy."""
        names = set(self._names) if arrays else set()
        if set(arrays) != names or values or any(array.dtype != np.float64 for array in arrays.values()):
            raise ResumeError("the checkpoint holds the state of another strategy; start the run again")
        self._moments = dict(arrays)
