"""What travels between a site and the centre: a message as JSON text, files as bytes, and nothing of NVFlare's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from computation.checks import is_text, parse_json
from computation.coinstac.carried import LARGEST, check_files
from computation.coinstac.server import REPLY_LIMIT
from computation.errors import MessageError

__all__ = ["CALL", "END", "ERROR", "KINDS", "LONGEST", "Packet"]

#: A call or its answer; one sentence about what went wrong; the run's end, which nobody answers with more than a word.
CALL, ERROR, END = KINDS = ("call", "error", "end")

_FIELDS = {"iteration", "kind", "message", "files"}
_MOST_ITERATIONS = 10**9
#: Characters of a sentence that travels.
LONGEST = 600


@dataclass(frozen=True)
class Packet:
    """One message and what goes with it.

    Attributes
    ----------
    iteration : int
        Which call it belongs to, from 1.
    kind : str
        One of `KINDS`.
    message : dict
        Plain JSON values.
    files : dict of bytes
        By name.
    """

    iteration: int
    kind: str = CALL
    message: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def failed(cls, iteration: int, sentence: str) -> Packet:
        """Return a packet that says what went wrong, in one sentence that everybody may read."""
        return cls(iteration, ERROR, {"error": sentence[:LONGEST]})

    @property
    def error(self) -> str:
        """The sentence; empty where nothing went wrong."""
        return str(self.message["error"]) if self.kind == ERROR else ""

    def plain(self) -> dict[str, Any]:
        """Return it in types that NVFlare carries as they are."""
        text = json.dumps(self.message, allow_nan=False, separators=(",", ":"))
        return {"iteration": self.iteration, "kind": self.kind, "message": text, "files": dict(self.files)}

    @classmethod
    def parse(cls, who: str, raw: Any, largest: int = LARGEST) -> Packet:
        """Read what somebody else sent.

        Parameters
        ----------
        who : str
            Sent it, such as `site a`.
        raw : object
            What came.
        largest : int
            Most bytes of one file.

        Raises
        ------
        MessageError
            Naming who, if it is anything but a packet.
        """
        if not isinstance(raw, dict) or set(raw) != _FIELDS:
            raise MessageError(f"{who} sent no packet; wanted {', '.join(sorted(_FIELDS))} and nothing else")
        iteration, kind, text, files = (raw[name] for name in ("iteration", "kind", "message", "files"))
        if type(iteration) is not int or not 1 <= iteration <= _MOST_ITERATIONS or kind not in KINDS:
            raise MessageError(f"{who} sent a packet of no iteration or kind; wanted {', '.join(KINDS)} of one from 1")
        check_files(who, files, largest)
        message = _message(who, text)
        if kind == ERROR and not _is_sentence(message.get("error")):
            raise MessageError(f"{who} failed and sent no sentence that says why; look at its log")
        return cls(iteration, kind, message, files)


def _is_sentence(value: Any) -> bool:
    return is_text(value, LONGEST) and value != ""


def _message(who: str, text: Any) -> dict[str, Any]:
    if not isinstance(text, str) or len(text) > REPLY_LIMIT:
        raise MessageError(f"{who} sent no message, or one that is too long; wanted at most {REPLY_LIMIT} characters")
    try:
        message = parse_json(text)
    except ValueError as error:
        raise MessageError(f"{who} sent a message that is not JSON", str(error)) from error
    if not isinstance(message, dict):
        raise MessageError(f"{who} sent a message that is no object")
    return message
