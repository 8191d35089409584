"""A message's seal: its sender's signature over the message, the run, and the digests of the files that go with it.

A copied message was sealed by another sender, a replayed one in another run or for another round, an altered one not at
all. `sealed` puts the seal on; `is_sealed` tells whose it is; the parsers of messages leave it alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from computation.checks import is_text
from computation.wire.reader import Reader
from computation.wire.signing import SIGNATURE_BYTES, Key, statement, verify

__all__ = ["files_of", "is_sealed", "sealed", "skip"]

_FILES, _SIGNATURE = "files", "signature"
#: Files that may go with one message; see `coinstac.carried`.
_MOST = 8


def sealed(
    message: Mapping[str, Any], key: Key, sender: str, charter: str = "", files: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return a message with its seal.

    Parameters
    ----------
    message : mapping
        Plain JSON.
    key : Key
        The sender's.
    sender : str
        Id of the site that speaks; empty for the centre.
    charter : str
        Digest of the run's plan, which all keep; empty where there is none yet.
    files : mapping of str, optional
        By the name of each file that goes with it, the digest that `payload.write` returned.
    """
    body = {**message, _FILES: dict(files or {})}
    return {**body, _SIGNATURE: key.sign(_said(sender, charter, body))}


def is_sealed(message: Any, public: str, sender: str, charter: str = "") -> bool:
    """Tell whether a foreign message carries the seal of this key, sender and run; for parameters see `sealed`."""
    if not isinstance(message, Mapping) or not is_text(message.get(_SIGNATURE), 2 * SIGNATURE_BYTES):
        return False
    body = dict(message)
    del body[_SIGNATURE]
    try:
        said = _said(sender, charter, body)
    except (ValueError, TypeError, OverflowError, RecursionError):  # nobody can have signed that
        return False
    return verify(public, message[_SIGNATURE], said)


def _said(sender: str, charter: str, body: Mapping[str, Any]) -> bytes:
    return statement("message", sender, charter, body)


def files_of(message: Any) -> dict[str, str]:
    """Return the digest of each file that a message says it comes with; raises `MessageError`."""
    return _files(Reader("message", message))


def skip(reader: Reader) -> None:
    """Take a seal out of a message, where there is one, without a look at whose it is; raises `MessageError`."""
    if (signature := reader.pop(_SIGNATURE)) is None:
        return
    fits = is_text(signature, 2 * SIGNATURE_BYTES)
    reader.take(_SIGNATURE, "a signature in hexadecimal", fits, None)
    _files(reader)


def _files(reader: Reader) -> dict[str, str]:
    files = reader.digests_by_name(_FILES)
    return reader.take(_FILES, f"at most {_MOST} files", len(files) <= _MOST, files)
