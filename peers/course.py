"""A whole run at one peer: join, the protocol's rounds, one model at the end. The same for every protocol and engine.

What a site and the centre do on COINSTAC, peers do among themselves, by the same code: all offers go to all, and each
peer settles the plan, pools the counts and writes the results as the centre and a site would. Course, from top to
bottom: `steps` below.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from computation.checks import is_text
from computation.coinstac import claim
from computation.coinstac.node import Folders
from computation.errors import PeersError
from computation.federation import consensus, ending, planning, screening
from computation.federation.site import SiteRun
from computation.federation.summary import Ended, summarise
from computation.tracking import RoundNumbers
from computation.training import checkpoint
from computation.wire.messages import FinishOffer, JoinOffer, Plan, Results
from peers import closing, joining, mail, resuming
from peers.closing import LastMean
from peers.peer import Peer
from peers.protocols.base import heeded
from peers.requests import Report, Request, Steps
from peers.rounds import Rounds

__all__ = ["Course", "Outcome"]

#: Signs of life that a peer gives in the time after which it would be taken for gone.
_SIGNS = 4
#: Dropped messages of one sender that are written down one by one.
_MOST_REFUSED = 100


class _Rule(Protocol):
    """What this asks of a protocol; see `peers.protocols`."""

    @property
    def name(self) -> str:
        """As the command line has it."""
        ...

    @property
    def common(self) -> bool:
        """Whether all peers hold one model after every round."""
        ...

    def __call__(self, peer: Peer) -> Steps:
        """Do all of a peer's rounds."""
        ...


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run came to at one peer.

    Attributes
    ----------
    summary : dict
        As a simulated run's, plain JSON, with `protocol`, `consensus_distance`, `consensus_distance_relative`,
        `last_mean` and `missing`.
    digest : str
        Of the final model.
    rounds : int
        That were run.
    distance, relative : float
        Consensus distance before the last mean; see `closing.LastMean`. 0 where all held one model.
    missing : dict of str
        Peers that were gone, and when that was noticed.
    """

    summary: dict[str, Any]
    digest: str
    rounds: int
    distance: float
    relative: float
    missing: dict[str, str]


class Course:
    """One peer's run.

    Parameters
    ----------
    name : str
        The peer's own.
    names : iterable of str
        Of all peers, this one among them.
    folders : Folders
        Its own: inputs and output. What an earlier run left in the output folder is moved aside.
    inputs : mapping
        The owner's and the member's settings, as a site gets them.
    protocol : protocol
        Says how peers come to one model.
    run : str
        Name of the run, the same at all peers; a run that goes on keeps the name that it had.
    patience : float
        Seconds after which a peer that says nothing is taken for gone.
    observer : callable, optional
        Hears the numbers of each round that is over.
    resume : bool
        Whether to go on from the checkpoints in the output folder, where there are some.

    Attributes
    ----------
    peer : Peer
        What the engine and the protocol know; complete once the run has begun.
    name : str
        Of the run.
    rule : str
        The protocol with its options, in words.

    Raises
    ------
    PeersError
        If the names are those of no run.
    MeshNetError
        If the inputs or the database cannot be used, or the output folder cannot be written.
    """

    def __init__(
        self,
        name: str,
        names: Iterable[str],
        folders: Folders,
        inputs: Mapping[str, Any],
        protocol: _Rule,
        run: str,
        *,
        patience: float = 60.0,
        observer: Callable[[RoundNumbers], object] | None = None,
        resume: bool = False,
    ) -> None:
        peers = tuple(names)
        joining.check_names(name, peers)
        if not run or not is_text(run, joining.LONGEST_RUN):
            wanted = f"wanted at most {joining.LONGEST_RUN} characters"
            raise PeersError(f"the run's name is empty, too long or not printable; {wanted}")
        self.site = SiteRun(folders)
        self.protocol, self.name, self.observer = protocol, run, observer
        self.offer, self.rule = self.site.join(inputs), joining.described(protocol)
        joining.check_settings(self.site.settings, heeded(protocol))
        self.peer = Peer(
            name,
            dict.fromkeys(peers, 1.0),
            self.site.trainer,
            rounds=0,
            seed=self.site.settings.seed,
            patience=patience,
            refused=self._refused,
            screened=partial(screening.report, self.site.tracker),
        )
        self._dropped: Counter[str] = Counter()
        self._token = (claim.held(folders.output) if resume else "") or claim.take(folders.output)
        self._kept = checkpoint.iterations(folders.checkpoints)
        self._run = resuming.run_of(folders, self._kept[-1]) if self._kept else ""

    def steps(self) -> Generator[Request, Any, Outcome]:
        """Do the whole run; yields what it asks of the network.

        Raises
        ------
        PeersError
            Naming peers without which the run cannot go on.
        ConsensusError
            Naming peers that do not hold the common model.
        ResumeError
            If checkpoints are of another run, or there is no round from which all can go on.
        MeshNetError
            Naming a peer whose settings, scans or messages do not fit.
        """
        try:
            rounds = yield from self._begin()
            yield from self._train(rounds)
            return (yield from self._end(rounds))
        finally:
            self.site.trainer.close()
            self.site.tracker.close()
            self.site.store.close()

    def _begin(self) -> Generator[Request, Any, Rounds]:
        """Join, make the plan, and take over the model to start from, or that of an interrupted run."""
        site, peer = self.site, self.peer
        offers, after = yield from self._join()
        agreed = planning.agreed(offers)
        plan = planning.plan(self.name, offers, agreed, site.trainer)
        peer.rounds = plan.rounds
        peer.weights, lowered = joining.weights(agreed.settings, offers, agreed)
        if after in self._kept:
            known = resuming.load(site, peer, plan, self.rule, after)
            rounds = Rounds(site, peer, offers, self.protocol.common)
            rounds.restore(*known)
        else:
            self._start(plan, lowered)
            rounds = Rounds(site, peer, offers, self.protocol.common)
            self._save(rounds, 0)
        peer.failed = rounds.fail
        return rounds

    def _join(self) -> Generator[Request, Any, tuple[dict[str, JoinOffer], int]]:
        """Return what each peer brings, and the round after which this one goes on."""
        # A peer that has nothing can begin, which is to go on from round 0.
        hello = joining.Hello(self.offer, self.rule, self._kept or (0,), self._run)
        if self._kept and not self.protocol.common:
            yield from joining.rejoin(self.site, self.peer, hello)
            self.name, newest = self._run, self._kept[-1]
            return {**resuming.offers(self.site.folders, newest), self.peer.name: self.offer}, newest
        hellos = yield from joining.join(self.peer, hello)
        self.name = resuming.agreed_run({name: one.run for name, one in hellos.items()}, self.name)
        yield from joining.start_from_given(self.site, self.peer)
        after = resuming.chosen({name: one.rounds for name, one in hellos.items()}) if self.protocol.common else 0
        return {name: one.offer for name, one in hellos.items()}, after

    def _start(self, plan: Plan, lowered: Iterable[str]) -> None:
        """Begin with the model that all start from, and say what is different without a centre."""
        site, values = self.site, self.site.trainer.vector()
        site.prepare(plan)
        site.start(values)
        self.peer.learner = site.trainer
        site.tracker.event("protocol", rule=self.rule, common=self.protocol.common)
        for name in joining.without_effect(site.settings, self.protocol.common):
            site.tracker.notice("without effect", f"setting {name!r} has no effect without a centre")
        for name in lowered:
            site.tracker.notice("capped", f"the weight of {name} was held at setting 'most_share'")

    def _save(self, rounds: Rounds, round: int) -> None:
        claim.check(self.site.folders.output, self._token)
        resuming.save(self.site, self.peer, rounds, self.rule, round)

    def _refused(self, sender: str, fault: str) -> None:
        """Write down that a message was dropped: the first of each sender for people, more of them for the journal."""
        self._dropped[sender] += 1
        if self._dropped[sender] <= _MOST_REFUSED:
            self.site.tracker.event("refused-message", sender=sender, fault=fault)
        if self._dropped[sender] == 1:
            self.site.tracker.notice("refused", f"a message of {sender} was dropped: {fault}")

    def _train(self, rounds: Rounds) -> Generator[Request, Any, None]:
        """Follow the protocol to its end, or until all agree that nothing more is to be learnt."""
        steps, answer = self.protocol(self.peer), None
        told = self.peer.clock()
        try:
            while not rounds.stopped:
                try:
                    request = steps.send(answer)
                except StopIteration:
                    return
                if isinstance(request, Report):
                    yield from self._hear(rounds, request)
                    # Who is in step with the others is heard of anyway.
                    if not self.protocol.common and self.peer.clock() - told > self.peer.patience / _SIGNS:
                        told = self.peer.clock()
                        yield from mail.sign(self.peer)
                answer = yield request
        finally:
            steps.close()

    def _hear(self, rounds: Rounds, report: Report) -> Generator[Request, Any, None]:
        """Take note of what the protocol says it did; a round that is over is ended with the others and kept."""
        rounds.note(report)
        if report.closed:
            numbers = yield from rounds.close(report)
            self._save(rounds, report.round)
            if self.observer:
                self.observer(numbers)

    def _end(self, rounds: Rounds) -> Generator[Request, Any, Outcome]:
        """Come to one model, count with it, and write the results."""
        site, mean = self.site, None
        there = set(self.peer.names)
        if not self.protocol.common:
            bounds = screening.Bounds.of(site.settings)
            mean = yield from closing.last_mean(self.peer, rounds.counted[self.peer.name], bounds)
            site.trainer.load_vector(mean.values)
            there = set(mean.learnt)
            self._tell(mean)
        offers, digest = yield from closing.finish(self.peer, site.count(), there)
        consensus.check({name: offer.model for name, offer in offers.items()}, digest, "at the end")
        missing = {name: "at the last mean" for name in self.peer.names if name not in there}
        missing |= {name: "at the last counts" for name in sorted(there) if name not in offers}
        for name, when in missing.items():
            site.tracker.notice("missing", f"{name} was gone {when}")
        tracker, done = site.tracker, site.round - 1
        announced, models = ending.results(rounds.selection, offers, site.trainer, done, rounds.stopped, tracker)
        site.deliver(announced, models)
        return self._outcome(rounds, announced, offers, mean, missing)

    def _tell(self, mean: LastMean) -> None:
        """Name the last mean as what it is."""
        whose = ", ".join(mean.shares)
        text = f"the final model is the mean of the last models of {whose}; consensus distance {mean.distance:.4g}"
        told = {"distance": mean.distance, "relative": mean.relative, "learnt": mean.learnt}
        self.site.tracker.event("last-mean", shares=mean.shares, **told)
        self.site.tracker.notice("last mean", f"{text}, {mean.relative:.3g} of the mean's norm")

    def _outcome(
        self,
        rounds: Rounds,
        announced: Results,
        offers: Mapping[str, FinishOffer],
        mean: LastMean | None,
        missing: dict[str, str],
    ) -> Outcome:
        counted = rounds.counted if mean is None else {**rounds.counted, **mean.learnt}
        ended = Ended(self.site.settings, rounds.offers, announced, offers, counted, rounds.selection.dice)
        summary = summarise(ended)
        distance, relative = (mean.distance, mean.relative) if mean else (0.0, 0.0)
        told = {
            "sites": {**{name: {} for name in self.peer.names}, **summary["sites"]},
            "protocol": self.rule,
            "consensus_distance": distance,
            "consensus_distance_relative": relative,
            "last_mean": mean.shares if mean else {},
            "missing": missing,
        }
        return Outcome({**summary, **told}, announced.final, announced.rounds, distance, relative, missing)
