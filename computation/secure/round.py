"""One round: every site uploads masked words, and when it is known who did, the masks are taken off the sum of them.

A site's words are hidden under one mask with each other site, which the two of them know, and under one of its own.
Those of pairs cancel in the sum. Of a site that is missing, the pairs' masks do not: the others give their seeds. Its
own mask is there for the case that its words come late after all, when those seeds are known. Of a site that is there,
the others give their shares of its own mask. A site never gives both for one site in one round.

Who runs the centre and `c` of the sites, and lies to every site as it likes, learns of the others no more than a sum of
at least two of them as long as `c + 2 <= least`: for a site's own mask it needs `least - 1` shares, so `least - 1 - c`
honest sites that were told it is there, and these keep the seeds of their pairs with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from computation.errors import ContributionError, MessageError
from computation.secure import masks, sharing
from computation.secure.fixed import Words
from computation.secure.keys import Circle, Ring

__all__ = ["Answer", "Upload", "answer", "mark", "unmask", "upload"]


@dataclass(frozen=True)
class Upload:
    """What goes along with a site's masked words.

    Attributes
    ----------
    shares : mapping of bytes
        Of its own mask, sealed for each other site.
    marks : mapping of bytes
        Of each share, by which it is known again when the other site gives it.
    """

    shares: Mapping[str, bytes] = field(default_factory=dict)
    marks: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What a site gives when it knows who is there.

    Attributes
    ----------
    shares : mapping of bytes
        Its share of the own mask of each other site that is there.
    seeds : mapping of bytes
        Of the mask that it shares with each site that is missing.
    """

    shares: Mapping[str, bytes] = field(default_factory=dict)
    seeds: Mapping[str, bytes] = field(default_factory=dict)


def mark(share: bytes) -> bytes:
    """Return by what a share is known again; it tells nothing of it."""
    return hashlib.sha256(b"share" + share).digest()


def upload(ring: Ring, round: int, words: Words) -> Upload:
    """Mask a site's words, in place, and return what goes along with them.

    Once more in the same round, the words are hidden under another mask of the site's own.
    """
    own, circle = sharing.made(), ring.circle
    masks.add(words, own)
    for other in ring.others:
        (masks.add if ring.adds(other) else masks.subtract)(words, ring.seed(other, round))
    split = sharing.split(own, [circle.place(other) for other in ring.others], circle.needed)
    shares = {other: split[circle.place(other)] for other in ring.others}
    return Upload(
        {other: ring.seal(other, round, share) for other, share in shares.items()},
        {other: mark(share) for other, share in shares.items()},
    )


def answer(ring: Ring, round: int, sealed: Mapping[str, bytes], there: Collection[str]) -> tuple[Answer, list[str]]:
    """Return what a site gives so that the masks can be taken off, and whose shares it could not open.

    Parameters
    ----------
    ring : Ring
        The site's.
    round : int
        Which.
    sealed : mapping of bytes
        What each other site that is there sealed for this one.
    there : collection of str
        Whose words are in the sum. A site that is not among them gives nothing.

    Raises
    ------
    MessageError
        If they are not sites of the circle, or too few: a sum of so few is none.
    """
    circle = ring.circle
    if not set(there) <= set(circle.sites) or len(set(there)) < circle.least:
        raise MessageError(
            f"the centre asks for the sum of {len(set(there))} sites in round {round}; wanted at least {circle.least} "
            f"of the {len(circle.sites)} that joined"
        )
    if ring.site not in there:
        return Answer(), []
    shares, closed = {}, []
    for other in ring.others:
        if other in there:
            try:
                shares[other] = ring.open(other, round, sealed[other])
            except (MessageError, KeyError):
                closed.append(other)
    seeds = {other: ring.seed(other, round) for other in ring.others if other not in there}
    return Answer(shares, seeds), closed


def unmask(circle: Circle, words: Words, uploads: Mapping[str, Upload], answers: Mapping[str, Answer]) -> None:
    """Take all masks off the sum of those that are there, in place.

    Parameters
    ----------
    circle : Circle
        Of the run.
    words : numpy.ndarray
        The sum modulo 2^64 of what the sites of `uploads` sent.
    uploads : mapping of Upload
        Of each site that is there.
    answers : mapping of Answer
        Of each of these that gave one.

    Raises
    ------
    ContributionError
        If a mask cannot be known; those who did not give what was wanted are named, and the words are as they were.
    """
    there = sorted(uploads)
    own = {site: _own(circle, site, uploads[site], answers) for site in there}
    pairs = _pairs(circle, there, answers)
    for site in there:
        masks.subtract(words, own[site])
    for (site, missing), seed in pairs.items():
        (masks.subtract if site < missing else masks.add)(words, seed)


def _own(circle: Circle, site: str, sent: Upload, answers: Mapping[str, Answer]) -> bytes:
    """Return a site's own mask from shares of which each is known by its mark."""
    given = {other: one.shares[site] for other, one in sorted(answers.items()) if site in one.shares}
    sound = {circle.place(other): share for other, share in given.items() if mark(share) == sent.marks.get(other)}
    if len(sound) < circle.needed:
        raise ContributionError(
            f"the mask of site {site} is lost: {len(sound)} of its shares came back whole, wanted {circle.needed}"
        )
    return sharing.joined(dict(list(sound.items())[: circle.needed]))


def _pairs(circle: Circle, there: Collection[str], answers: Mapping[str, Answer]) -> dict[tuple[str, str], bytes]:
    """Return the seeds of all pairs of one that is there and one that is not."""
    pairs = {}
    for missing in (site for site in circle.sites if site not in there):
        for site in there:
            given = answers.get(site, Answer()).seeds.get(missing)
            if given is None:
                raise ContributionError(
                    f"site {site} was there and did not give the seed of its pair with site {missing}, which was not"
                )
            pairs[site, missing] = given
    return pairs
