"""Who sends to whom, and with which weights: directed graphs over peers, and mixing matrices on them.

Peers are counted from 0, in the order of their names; rounds from any number, every graph repeats after a few of them.
In a mixing matrix `P`, `P[i, j]` is the weight that receiver `i` gives to what sender `j` sent. There are three kinds,
and they are three things:

- `row`: every receiver's weights sum to 1. `x <- P x` again and again brings all peers to one vector, which is the mean
  under the matrix's left Perron vector, not the mean.
- `column`: every sender's weights sum to 1. The sum over peers stays; push-sum divides and gets the mean.
- `doubly`: both; the mean stays at every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from computation.errors import PeersError

__all__ = [
    "GRAPHS",
    "KINDS",
    "Graph",
    "Matrix",
    "check",
    "drawn",
    "mixing",
    "named",
    "of_matrix",
    "perron",
    "second_eigenvalue",
    "spectral_gap",
]

#: Mixing matrix of shape (peers, peers): receivers down, senders across.
Matrix: TypeAlias = npt.NDArray[np.float64]
#: For every peer the others to which it sends, or from which it receives, ascending.
Neighbours: TypeAlias = tuple[tuple[int, ...], ...]

#: Over which axes a kind's sums are 1.
_AXES = {"row": (1,), "column": (0,), "doubly": (1, 0)}
_LINES = {1: "row", 0: "column"}
KINDS = tuple(_AXES)
#: How far a sum of a given matrix may be from 1: numbers of ten digits are near enough.
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Graph:
    """Who sends to whom, round by round.

    Attributes
    ----------
    name : str
        One of `GRAPHS`, or "matrix".
    rounds : tuple of tuple of tuple of int
        For each round of a period, for each peer: the others to which it sends.
    """

    name: str
    rounds: tuple[Neighbours, ...]

    @property
    def peers(self) -> int:
        """How many there are."""
        return len(self.rounds[0])

    def out(self, peer: int, round: int = 0) -> tuple[int, ...]:
        """Return to whom a peer sends in a round: others only, ascending."""
        return self.rounds[round % len(self.rounds)][peer]

    def into(self, peer: int, round: int = 0) -> tuple[int, ...]:
        """Return from whom a peer receives in a round: others only, ascending."""
        return self._reverse[round % len(self.rounds)][peer]

    @cached_property
    def _reverse(self) -> tuple[Neighbours, ...]:
        return tuple(_reversed(neighbours) for neighbours in self.rounds)

    def heard(self, round: int = 0) -> npt.NDArray[np.bool_]:
        """Return a matrix that says whether receiver `i` hears sender `j` in a round; nobody hears itself."""
        result = np.zeros((self.peers, self.peers), bool)
        for sender in range(self.peers):
            result[list(self.out(sender, round)), sender] = True
        return result


def _reversed(neighbours: Neighbours) -> Neighbours:
    result: list[list[int]] = [[] for _ in neighbours]
    for sender, receivers in enumerate(neighbours):
        for receiver in receivers:
            result[receiver].append(sender)
    return tuple(map(tuple, result))


def named(name: str, peers: int, degree: int = 2, seed: int = 0) -> Graph:
    """Make a graph by its name.

    Parameters
    ----------
    name : str
        "ring": to both sides. "complete": to all. "exponential": in round `r` to the one `2**(r mod ceil(log2(peers)))`
        places on (one-peer exponential graph; Assran et al. 2019, Ying et al. 2021). "random": to `degree` others,
        drawn once for the whole run.
    peers : int
        From 1; one alone sends to nobody.
    degree : int
        Of a random graph: to how many others each peer sends, from 1 to all. One of them is the next in a random ring
        through all peers, so that the graph is always strongly connected; from how many a peer receives differs.
    seed : int
        Of a random graph. Equal seeds give equal graphs: each peer makes it for itself.

    Returns
    -------
    Graph
        Over its rounds, there is a path from each peer to each.

    Raises
    ------
    PeersError
        If there is no graph of that name, nobody to be in it, or no such degree.
    """
    if name not in GRAPHS:
        raise PeersError(f"there is no graph {name!r}; wanted one of {', '.join(GRAPHS)}")
    if peers < 1:
        raise PeersError(f"a graph of {peers} peers; wanted at least 1")
    return Graph(name, GRAPHS[name](peers, degree, seed))


def _ring(peers: int, degree: int, seed: int) -> tuple[Neighbours, ...]:
    sides = ({(peer - 1) % peers, (peer + 1) % peers} - {peer} for peer in range(peers))
    return (tuple(tuple(sorted(both)) for both in sides),)


def _complete(peers: int, degree: int, seed: int) -> tuple[Neighbours, ...]:
    return (tuple(tuple(other for other in range(peers) if other != peer) for peer in range(peers)),)


def _exponential(peers: int, degree: int, seed: int) -> tuple[Neighbours, ...]:
    if peers == 1:
        return (((),),)
    # `(peers - 1).bit_length()` is ceil(log2(peers)), exactly.
    hops = [2**power for power in range((peers - 1).bit_length())]
    return tuple(tuple(((peer + hop) % peers,) for peer in range(peers)) for hop in hops)


def _random(peers: int, degree: int, seed: int) -> tuple[Neighbours, ...]:
    if peers == 1:
        return (((),),)
    if not 1 <= degree < peers:
        raise PeersError(f"{peers} peers that send to {degree} others each; wanted 1 to {peers - 1} others")
    generator = np.random.default_rng(seed)
    ring = generator.permutation(peers).tolist()
    following = dict(zip(ring, ring[1:] + ring[:1], strict=True))
    return (tuple(_receivers(peer, following[peer], peers, degree, generator) for peer in range(peers)),)


def _receivers(peer: int, next: int, peers: int, degree: int, generator: np.random.Generator) -> tuple[int, ...]:
    """Draw to whom a peer sends: the next one, and others than that."""
    rest = [other for other in range(peers) if other not in (peer, next)]
    return tuple(sorted([next, *generator.choice(rest, degree - 1, replace=False).tolist()]))


#: Each graph's receivers, from the number of peers, the degree and the seed.
GRAPHS: dict[str, Callable[[int, int, int], tuple[Neighbours, ...]]] = {
    "ring": _ring,
    "complete": _complete,
    "exponential": _exponential,
    "random": _random,
}


def mixing(graph: Graph, kind: str, round: int = 0) -> Matrix:
    """Return the mixing matrix on a graph in one round; every peer gives its own vector a weight too.

    Parameters
    ----------
    graph : Graph
        Who sends to whom.
    kind : str
        "row": a receiver weighs all that it has alike. "column": a sender shares out alike. "doubly": a ring keeps 1/2
        and takes 1/4 from each side, an exponential graph keeps 1/2 and takes 1/2, any other has Metropolis-Hastings
        weights (Xiao and Boyd, Fast linear iterations for distributed averaging, 2004): on a complete one 1/peers.
    round : int
        Of the graph.

    Returns
    -------
    numpy.ndarray, shape (peers, peers)
        `P[i, j]`: what receiver `i` gives to sender `j`.

    Raises
    ------
    PeersError
        If there is no such kind, or none that is doubly stochastic because somebody hears whom it does not tell.
    """
    _known(kind)
    heard = graph.heard(round)
    if kind == "doubly":
        return _doubly(graph.name, heard)
    weights = (heard | np.eye(graph.peers, dtype=bool)).astype(np.float64)
    return _divided(weights, kind)


def _divided(weights: Matrix, kind: str) -> Matrix:
    result: Matrix = weights / weights.sum(_AXES[kind], keepdims=True)
    return result


def _doubly(name: str, heard: npt.NDArray[np.bool_]) -> Matrix:
    degrees = heard.sum(1)
    if name in ("ring", "exponential"):
        weights = heard / (2 * max(1, degrees[0]))
    elif (heard == heard.T).all():
        weights = heard / (1 + np.maximum.outer(degrees, degrees))
    else:
        raise PeersError(
            f"graph {name} has no doubly stochastic mixing matrix here, as some send to peers that do not answer; "
            "take kind column with push-sum, or another graph"
        )
    result: Matrix = weights + np.diag(1 - weights.sum(1))
    return result


def _known(kind: str) -> None:
    if kind not in KINDS:
        raise PeersError(f"there is no kind {kind!r} of mixing matrix; wanted one of {', '.join(KINDS)}")


def drawn(peers: int, kind: str, generator: np.random.Generator) -> Matrix:
    """Draw a mixing matrix in which everybody hears everybody: uniform numbers from 0 to 1, divided by their sums.

    Parameters
    ----------
    peers : int
        From 1.
    kind : str
        "row" or "column".
    generator : numpy.random.Generator
        Chance.

    Raises
    ------
    PeersError
        If it is another kind.
    """
    if kind not in ("row", "column"):
        raise PeersError(f"a random mixing matrix of kind {kind!r}; wanted row or column")
    weights = 1 - generator.random((peers, peers))  # above 0, so that it is connected
    return _divided(weights, kind)


def check(matrix: npt.ArrayLike, kind: str) -> Matrix:
    """Refuse a matrix with which peers cannot be mixed.

    Parameters
    ----------
    matrix : array_like, shape (peers, peers)
        `P[i, j]`: what receiver `i` gives to sender `j`, in every round alike.
    kind : str
        What it shall be: "row", "column" or "doubly".

    Returns
    -------
    numpy.ndarray
        The matrix, as float64.

    Raises
    ------
    PeersError
        If it is not square, finite and without negative numbers; if a sum is off by more than 1e-9; if there is no path
        from each peer to each; or if vectors would only travel in circles for ever. The message says where.
    """
    _known(kind)
    result = _square(matrix)
    for axis in _AXES[kind]:
        sums = result.sum(axis)
        for place in np.flatnonzero(abs(sums - 1) > _TOLERANCE)[:1]:
            line = f"{_LINES[axis]} {place} (from 0)"
            raise PeersError(f"{line} of the mixing matrix sums to {sums[place]:.12g}; wanted 1, for kind {kind}")
    _refuse_apart(result > 0)
    return result


def _square(matrix: npt.ArrayLike) -> Matrix:
    try:
        result = np.asarray(matrix, np.float64)
    except (TypeError, ValueError) as error:
        raise PeersError("the mixing matrix is no square of numbers; wanted a row of numbers for each peer") from error
    if result.ndim != 2 or result.shape[0] != result.shape[1] or not result.size:
        raise PeersError(
            f"the mixing matrix has shape {result.shape}; wanted a square, a row and a column for each peer"
        )
    for row, column in np.argwhere(~(np.isfinite(result) & (result >= 0)))[:1]:
        where = f"row {row}, column {column} (from 0)"
        raise PeersError(f"{where} of the mixing matrix is {result[row, column]:.12g}; wanted a finite number from 0")
    return result


def _refuse_apart(heard: npt.NDArray[np.bool_]) -> None:
    """Refuse a matrix of which no power is positive everywhere, and say which of the two reasons it has."""
    peers = len(heard)
    paths = np.linalg.matrix_power(heard | np.eye(peers, dtype=bool), peers)
    for receiver, sender in np.argwhere(~paths)[:1]:
        raise PeersError(
            f"peer {receiver} (from 0) never hears of peer {sender}, not even through others; "
            "wanted a mixing matrix with a path from each peer to each"
        )
    # Wielandt's bound: if a power is positive at all, this one is.
    if not np.linalg.matrix_power(heard, (peers - 1) ** 2 + 1).all():
        raise PeersError("the mixing matrix only moves vectors in circles; give a peer a weight for its own")


def of_matrix(matrix: Matrix) -> Graph:
    """Return who sends to whom where this matrix mixes: those with a weight above 0."""
    senders = range(len(matrix))
    receivers = (np.flatnonzero(matrix[:, sender]).tolist() for sender in senders)
    others = (tuple(peer for peer in all if peer != sender) for sender, all in zip(senders, receivers, strict=True))
    return Graph("matrix", (tuple(others),))


def second_eigenvalue(matrix: Matrix) -> float:
    """Return the second largest modulus of the eigenvalues: what is left, in the end, of a difference after a step."""
    return float(np.sort(abs(np.linalg.eigvals(matrix)))[-2]) if len(matrix) > 1 else 0.0


def spectral_gap(matrix: Matrix) -> float:
    """Return 1 less the second largest modulus of the eigenvalues: the larger, the sooner peers agree."""
    return 1 - second_eigenvalue(matrix)


def perron(matrix: npt.ArrayLike) -> Matrix:
    """Return how much each peer counts, in the end, where a row-stochastic matrix mixes.

    Parameters
    ----------
    matrix : array_like, shape (peers, peers)
        Row-stochastic.

    Returns
    -------
    numpy.ndarray, shape (peers,)
        Left Perron vector: `pi @ P == pi`, all above 0, with sum 1. `x <- P x` brings every peer to `pi @ x`.

    Raises
    ------
    PeersError
        If `check` refuses the matrix.
    """
    weights = check(matrix, "row")
    peers = len(weights)
    # `pi (P - 1) = 0` and `sum(pi) = 1`, added up to one system that is never singular.
    result: Matrix = np.linalg.solve(weights.T - np.eye(peers) + 1, np.ones(peers)).astype(np.float64)
    return result
