"""What a run is to be: written once by its coordinator, and what every site consents to, by its digest."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from typing import Any

from computation.checks import is_text
from computation.errors import SettingsError
from computation.settings import Member, Settings, options, parse
from service.protocol.canonical import canonical, digest_of
from service.protocol.refusals import Malformed

__all__ = ["Participant", "Spec", "is_site", "is_subject"]

#: Everybody is invited in one change of the store, which DynamoDB bounds to a hundred records.
_MOST_SITES = 64
_MOST_VIEWERS = 24
#: Seconds that one step may take: a week, for sites that train at night.
_LONGEST_STEP = 7 * 86_400
_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_site(value: object) -> bool:
    """Tell whether a foreign value can name a site: folders and blobs are named by it."""
    return isinstance(value, str) and _SITE.fullmatch(value) is not None


def is_subject(value: object) -> bool:
    """Tell whether a foreign value can be the subject of a token."""
    return is_text(value, 200) and value != "" and value == str(value).strip()


@dataclass(frozen=True)
class Participant:
    """One site of a run.

    Attributes
    ----------
    subject : str
        Who it is: the subject of its tokens.
    site : str
        What it is called in the run; draws of the trainer depend on it.
    """

    subject: str
    site: str


@dataclass(frozen=True)
class Spec:
    """What a run is to be.

    Attributes
    ----------
    name, description : str
        For people.
    settings : mapping
        The owner's settings, all of them, as `computation.settings` cleaned them.
    participants : tuple of Participant
        Sites that are invited, by name.
    viewers : tuple of str
        Subjects that may look on.
    quorum : int
        Sites that must have committed when a step is closed.
    start_quorum : int
        Sites that must have accepted when the run starts; 0 is as many as `quorum`.
    deadline : int
        Seconds that a step waits for its sites.
    extensions : int
        How often a step below the quorum waits for as long again before the run fails.
    inactive_after : int
        Steps in a row that a site may miss before nobody waits for it any more.
    preparation : mapping of str to str
        How the scans of every site must have been prepared, such as their spacing; empty where it is not asked.
    """

    name: str
    settings: Mapping[str, Any]
    participants: tuple[Participant, ...]
    description: str = ""
    viewers: tuple[str, ...] = ()
    quorum: int = 1
    start_quorum: int = 0
    deadline: int = 3600
    extensions: int = 2
    inactive_after: int = 3
    preparation: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: Any) -> Spec:
        """Read a coordinator's JSON.

        Raises
        ------
        Malformed
            If a name is unknown (the nearest is named), a value cannot be, or a quorum is larger than the run.
        """
        if not isinstance(raw, dict):
            raise _wrong("spec", "no object", "an object with name, settings and participants")
        _known(raw, [item.name for item in fields(cls)])
        spec = cls(
            name=_text(raw, "name", 200, least=1),
            description=_text(raw, "description", 2000),
            settings=_settings(raw.get("settings", {})),
            participants=_participants(raw.get("participants")),
            viewers=_viewers(raw.get("viewers", [])),
            quorum=_whole(raw, "quorum", 1, _MOST_SITES, 1),
            start_quorum=_whole(raw, "start_quorum", 0, _MOST_SITES, 0),
            deadline=_whole(raw, "deadline", 1, _LONGEST_STEP, 3600),
            extensions=_whole(raw, "extensions", 0, 100, 2),
            inactive_after=_whole(raw, "inactive_after", 1, 1_000_000, 3),
            preparation=_facts(raw.get("preparation", {})),
        )
        spec._check_together()
        return spec

    def _check_together(self) -> None:
        if self.quorum > len(self.participants):
            seen = f"{self.quorum} with {len(self.participants)} participants"
            raise _wrong("quorum", seen, "at most as many as take part, or no step would ever close")
        if self.start_quorum and not self.quorum <= self.start_quorum <= len(self.participants):
            seen = f"{self.start_quorum} with a quorum of {self.quorum} and {len(self.participants)} participants"
            raise _wrong("start_quorum", seen, "0, or from the quorum to as many as take part")
        subjects = [one.subject for one in self.participants]
        if set(subjects) & set(self.viewers):
            raise _wrong("viewers", "a participant", "only those who do not take part")

    @property
    def starts(self) -> int:
        """Sites that must have accepted when the run starts."""
        return self.start_quorum or self.quorum

    def as_json(self) -> dict[str, Any]:
        """Return the spec as plain JSON values, without `start_quorum` where it is 0: specs had none at first.

        So what sites have consented to keeps its digest.
        """
        left = () if self.start_quorum else ("start_quorum",)
        return {
            **{item.name: getattr(self, item.name) for item in fields(self) if item.name not in left},
            "settings": dict(self.settings),
            "participants": [{"subject": one.subject, "site": one.site} for one in self.participants],
            "viewers": list(self.viewers),
            "preparation": dict(self.preparation),
        }

    @cached_property
    def record(self) -> Settings:
        """The owner's settings as a record."""
        made: Settings = parse(self.settings)[0]
        return made

    @cached_property
    def text(self) -> str:
        """The one text that stands for the spec."""
        return canonical(self.as_json())

    @cached_property
    def digest(self) -> str:
        """What a site consents to: the SHA-256 of `text`."""
        return digest_of(self.as_json())

    def site_of(self, subject: str) -> str:
        """Return the name of a subject's site; empty where it has none."""
        return next((one.site for one in self.participants if one.subject == subject), "")


@lru_cache(maxsize=64)
def read(text: str) -> Spec:
    """Return the spec that a stored text stands for; it was checked when it was written."""
    return Spec.parse(json.loads(text))


def _wrong(what: str, seen: str, wanted: str) -> Malformed:
    return Malformed("spec", f"the run's {what} is {seen}; wanted {wanted}", field=what)


def _known(raw: Mapping[str, Any], names: Sequence[str]) -> None:
    for name in raw:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            public = f"the spec has no field {str(name)[:40]!r}{hint} (it has {', '.join(names)})"
            raise Malformed("spec", public, field=str(name)[:40])


def _text(raw: Mapping[str, Any], name: str, most: int, least: int = 0) -> str:
    value = raw.get(name, "")
    if not is_text(value, most) or len(value.strip()) < least:
        raise _wrong(name, "missing, too long or not printable", f"{least} to {most} printable characters")
    return str(value)


def _whole(raw: Mapping[str, Any], name: str, low: int, high: int, default: int) -> int:
    value = raw.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise _wrong(name, repr(value)[:60], f"a whole number from {low} to {high}")
    return value


def _settings(raw: Any) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise _wrong("settings", "no object", "an object with a value for each setting that differs from its default")
    own = sorted(set(map(str, raw)) & set(options(Member)))
    if own:
        raise _wrong("settings", f"{own[0]!r} too, which each site sets for itself", "the owner's only")
    try:
        settings: Settings = parse(raw)[0]
    except SettingsError as error:
        raise Malformed("settings", error.public, field="settings") from None
    if settings.secure_aggregation:
        text = "setting 'secure_aggregation' is on; a round of this service has one step, so wanted it off"
        raise Malformed("settings", text, field="settings")
    return settings.as_json()


def _participants(raw: Any) -> tuple[Participant, ...]:
    if not isinstance(raw, list) or not 1 <= len(raw) <= _MOST_SITES:
        text = f"the run names no site, or too many; wanted 1 to {_MOST_SITES} of them as participants"
        raise Malformed("spec", text, field="participants")
    made = tuple(_participant(item) for item in raw)
    # On some file systems two names that differ in case only are one folder.
    names, subjects = [one.site.casefold() for one in made], [one.subject for one in made]
    if len(set(names)) < len(names) or len(set(subjects)) < len(subjects):
        raise _wrong("participants", "a list that names one twice", "each site and each subject once")
    return made


def _participant(raw: Any) -> Participant:
    if not isinstance(raw, dict) or set(raw) != {"subject", "site"}:
        raise _wrong("participants", "a list of something else", "objects with subject and site")
    if not is_site(raw["site"]):
        raise _wrong("participants", "a site of another name", "1 to 64 of A-Z, a-z, 0-9, '.', '_', '-', no '.' first")
    if not is_subject(raw["subject"]):
        raise _wrong("participants", "a subject that is none", "1 to 200 printable characters")
    return Participant(raw["subject"], raw["site"])


def _viewers(raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list) or len(raw) > _MOST_VIEWERS or not all(map(is_subject, raw)):
        raise _wrong("viewers", "no such list", f"a list of at most {_MOST_VIEWERS} subjects")
    if len(set(raw)) < len(raw):
        raise _wrong("viewers", "a list that names one twice", "each once")
    return tuple(raw)


def _facts(raw: Any) -> Mapping[str, str]:
    sound = isinstance(raw, dict) and len(raw) <= 32
    if not sound or not all(is_text(name, 40) and is_text(value, 200) for name, value in raw.items()):
        raise _wrong("preparation", "no such object", "an object of at most 32 texts")
    return dict(raw)
