"""Whose words these are: every message is signed, and held against the key that its sender joined with.

A site brings its public key with the join. The plan names all keys and the centre's own, and what each site said; its
digest, the run's charter, is in everything that is signed afterwards. So all who take a message of this run for good
hold the same plan, and its fingerprint, read aloud over the telephone, tells whether somebody between has put other
keys in. Files are signed by their digests, in the message that they go with.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from computation.errors import ConsensusError, MessageError, PayloadError, ResumeError
from computation.federation import foreign, keys
from computation.wire import payload
from computation.wire.messages import JoinOffer, Plan
from computation.wire.messages.seal import files_of, is_sealed, sealed
from computation.wire.payload import Payload
from computation.wire.signing import Key, digest_of, fingerprint

if TYPE_CHECKING:  # the service's API, which only checks words, has no library for progress lines
    from computation.tracking import Tracker

__all__ = ["CENTRE", "Charter", "Origin", "check_join", "facts", "fingerprints", "named", "tell"]

#: Under which the centre signs; no site has this id.
CENTRE = ""
#: Groups of letters of a charter's fingerprint: whoever makes up plans could look for two that have the same.
_GROUPS = 6

T = TypeVar("T")


def tell(tracker: Tracker, plan: Plan) -> None:
    """Write down whose keys hold in this run, in the letters that people compare; none do where there is no centre."""
    if not plan.centre:
        return
    charter = Charter.of(plan)
    tracker.event("keys", all=charter.fingerprint, centre=fingerprint(plan.centre), sites=fingerprints(plan))


def facts(plan: Plan) -> dict[str, str]:
    """Return what a page says of a run's keys besides those of the sites."""
    if not plan.centre:
        return {}
    return {"Key of the centre": fingerprint(plan.centre), "Fingerprint of all keys": Charter.of(plan).fingerprint}


def fingerprints(plan: Plan) -> dict[str, str]:
    """Return the fingerprint of each site's key."""
    return {site: fingerprint(key) for site, key in sorted(plan.keys.items())}


def named(sender: str) -> str:
    """Return a sender as sentences name it."""
    return f"site {sender}" if sender else "the centre"


@dataclass(frozen=True)
class Charter:
    """What everything that is said in a run is held against.

    Attributes
    ----------
    digest : str
        SHA-256 of the plan; empty before there is one.
    keys : mapping of str
        Public key of each sender, the centre's under `CENTRE`.
    """

    digest: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan) -> Charter:
        """Return the charter that a plan is."""
        return cls(digest_of(plan.as_json()), {CENTRE: plan.centre, **plan.keys})

    @property
    def fingerprint(self) -> str:
        """The few letters that are the same wherever this plan is held."""
        return fingerprint(self.digest, _GROUPS)

    def check(self, sender: str, message: Any) -> None:
        """Refuse a message that its sender did not sign in this run.

        Parameters
        ----------
        sender : str
            Under whose name it came: a site's id, or `CENTRE`.
        message : object
            Foreign JSON.

        Raises
        ------
        MessageError
            Saying whose it is instead, where that can be told.
        """
        if is_sealed(message, self.keys.get(sender, ""), sender, self.digest):
            return
        others = [one for one in self.keys if one != sender and is_sealed(message, self.keys[one], one, self.digest)]
        if others:
            raise MessageError(f"the message is one that {named(others[0])} signed, copied; wanted words of its own")
        raise _unsigned()

    def read(self, sender: str, parse: Callable[[Any], T], message: Any) -> T:
        """Read a message after `check`; whatever is wrong with it is put down to its sender by name."""
        return foreign.read(named(sender), partial(self._read, sender, parse), message)

    def _read(self, sender: str, parse: Callable[[Any], T], message: Any) -> T:
        self.check(sender, message)
        return parse(message)


def _unsigned() -> MessageError:
    return MessageError(
        "the message is not signed by its sender for this run: it was altered, replayed or made up on its way, or it "
        "comes of another version of the image"
    )


def check_join(site: str, message: Any) -> JoinOffer:
    """Read a site's first message, which must be signed with the key that it brings.

    Raises
    ------
    MeshNetError
        Naming the site.
    """
    return foreign.read(named(site), partial(_joined, site), message)


def _joined(site: str, message: Any) -> JoinOffer:
    offer = JoinOffer.parse(message)
    if not is_sealed(message, offer.key, site):
        raise _unsigned()
    return offer


class Origin:
    """One side's key, and what it has signed and heard.

    Parameters
    ----------
    name : str
        The side's id; `CENTRE` at the centre.
    folder : Path
        Of its checkpoints, in which its key is kept.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self._folder = name, folder
        self.charter = Charter()
        #: SHA-256 of what this site said at the join.
        self.said = ""
        self._shipped: dict[str, str] = {}
        self._heard: dict[str, dict[str, str]] = {}

    @cached_property
    def key(self) -> Key:
        """The side's key, made at its first use."""
        return keys.own(self._folder)

    def ship(self, folder: Path, name: str, item: Payload) -> None:
        """Write a payload that goes with the next message."""
        file = f"{payload.PREFIX}{name}.bin"
        self._shipped[file] = payload.write(folder / file, item)

    def sign(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return a message with this side's seal, over the files that go with it too."""
        shipped, self._shipped = self._shipped, {}
        return sealed(message, self.key, self.name, self.charter.digest, shipped)

    def hear(self, sender: str, parse: Callable[[Any], T], message: Any) -> T:
        """Read a message, and remember the files that it signs; errors as for `Charter.read`."""
        read = self.charter.read(sender, parse, message)
        self._heard[sender] = files_of(message)
        return read

    def wanted(self, sender: str, name: str) -> str:
        """Return the digest that a sender has signed of a file, for `payload.read`.

        Raises
        ------
        PayloadError
            If its message signs no such file.
        """
        try:
            return self._heard[sender][f"{payload.PREFIX}{name}.bin"]
        except KeyError:
            raise PayloadError("the message signs no such payload; wanted it with the file's digest") from None

    def join(self, offer: JoinOffer) -> dict[str, Any]:
        """Return a site's first message, with its key and its seal."""
        whole = replace(offer, key=self.key.public, nonce=secrets.token_hex(32))
        message = self.sign(whole.as_json())
        self.said = digest_of(message)
        return message

    def welcome(self, message: Any) -> Plan:
        """Read the plan, and take over its keys; errors as for `Charter.read`.

        Raises
        ------
        ConsensusError
            If the plan was not made of what this site said.
        """
        plan = foreign.read(named(CENTRE), self._planned, message)
        self._heard[CENTRE] = files_of(message)
        self.charter = Charter.of(plan)
        return plan

    def _planned(self, message: Any) -> Plan:
        plan = Plan.parse(message)
        if not is_sealed(message, plan.centre, CENTRE):
            raise _unsigned()
        if set(plan.keys) != set(plan.sites) or len({plan.centre, *plan.keys.values()}) != 1 + len(plan.keys):
            raise MessageError("the plan does not name one key for each site and one for the centre")
        if plan.keys.get(self.name) != self.key.public or plan.said.get(self.name) != self.said:
            raise ConsensusError(
                "the plan was not made of what this site said at the join: somebody between speaks for this site, or "
                "the plan is of another run; compare keys by telephone and start the run again"
            )
        return plan

    def admit(self, messages: Mapping[str, Any]) -> dict[str, JoinOffer]:
        """Read the sites' first messages, in site order.

        Raises
        ------
        MeshNetError
            Naming the site, or two that have one key.
        """
        offers = {site: check_join(site, messages[site]) for site in sorted(messages)}
        owners = {self.key.public: CENTRE}
        for site, offer in offers.items():
            other = owners.setdefault(offer.key, site)
            if other != site:
                raise MessageError(
                    f"{named(site)} and {named(other)} have one key; give each a key file of its own, or name none"
                )
            self._heard[site] = files_of(messages[site])
        return offers

    def found(self, plan: Plan, offers: Mapping[str, JoinOffer], messages: Mapping[str, Any]) -> Plan:
        """Return the plan with all keys, and with what each site said."""
        return replace(
            plan,
            centre=self.key.public,
            keys={site: offer.key for site, offer in sorted(offers.items())},
            said={site: digest_of(messages[site]) for site in sorted(messages)},
        )

    def announce(self, plan: Plan) -> dict[str, Any]:
        """Return the message of the plan, which is this run's charter from now on."""
        message = self.sign(plan.as_json())
        self.charter = Charter.of(plan)
        return message

    def go_on(self, plan: Plan | None, said: str = "") -> None:
        """Take over the plan, where there is one, and what this side said at the join.

        Raises
        ------
        ResumeError
            If this side's key is not the one with which it began.
        """
        self.said = said
        self.charter = Charter.of(plan) if plan else Charter()
        if self.name in self.charter.keys and self.charter.keys[self.name] != self.key.public:
            raise ResumeError(
                f"this node's key is not the one with which the run began; restore its file, or the value of "
                f"{keys.VARIABLE}, and start again"
            )
