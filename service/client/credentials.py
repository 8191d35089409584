"""What a site shows to be known: a token, or what a new one can be had for; never from the command line.

A command line is in every process list and in the shell's history, so secrets come from a file that only its owner can
read, or from the environment.
"""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from computation.checks import is_text, parse_json
from computation.errors import IdentityError
from computation.files import plain

__all__ = ["TOKEN", "Credentials", "read"]

#: The environment's variable that may hold a token.
TOKEN = "COINSTAC_MESHNET_TOKEN"
_LONGEST_FILE, _LONGEST = 64 * 1024, 8 * 1024
_FIELDS = ("server", "token", "refresh", "sign_in", "client", "username", "password")


@dataclass(frozen=True)
class Credentials:
    """A site's, of one of these kinds.

    Attributes
    ----------
    server : str
        The only service that they are for; empty where that is not said.
    token : str
        Of a site's account on the service: it holds until it is revoked.
    refresh : str
        Has new tokens, from the service, or from the user pool where there is one.
    sign_in, client : str
        Where the user pool answers, and for whom it makes tokens.
    username, password : str
        Of a user of the pool.
    """

    server: str = ""
    token: str = field(default="", repr=False)
    refresh: str = field(default="", repr=False)
    sign_in: str = ""
    client: str = ""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if sum(map(bool, (self.token, self.refresh, self.username and self.password))) != 1:
            raise IdentityError("the credentials hold no secret, or several; wanted a token, or one way to have one")
        if bool(self.sign_in) != bool(self.client) or (self.username and not self.sign_in):
            raise IdentityError("the credentials name half a user pool; wanted its 'sign_in' and its 'client'")


def read(path: Path | None, environment: Mapping[str, str] = os.environ) -> Credentials:
    """Return a site's credentials.

    Parameters
    ----------
    path : Path, optional
        A file of this user that nobody else can read: a token, or a JSON object of the names in `Credentials`. Without
        one the environment must hold a token.
    environment : mapping
        The process's.

    Raises
    ------
    IdentityError
        If there are none, or others can read the file. No text of it is in the message.
    """
    if path is not None:
        return _parsed(_private(path))
    if token := environment.get(TOKEN, "").strip():
        return Credentials(token=_secret("token", token))
    raise IdentityError(
        f"there are no credentials; name a file with --credentials, or put a token into the environment as {TOKEN}"
    )


def _private(path: Path) -> bytes:
    try:
        with plain(path) as file:
            found = os.fstat(file.fileno())
            if stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid not in (os.geteuid(), 0):
                raise IdentityError(
                    "others can read the credentials; revoke them if anybody may have, then `chmod 600` the file",
                    f"{path}: mode {stat.S_IMODE(found.st_mode):o}",
                )
            return file.read(_LONGEST_FILE)
    except OSError as error:
        raise IdentityError("the file of credentials cannot be read; wanted a plain one of yours", str(error)) from None


def _parsed(content: bytes) -> Credentials:
    text = content.removeprefix(codecs.BOM_UTF8).strip()  # as some editors begin every file
    if not text.startswith(b"{"):
        return Credentials(token=_secret("token", text.decode("ascii", "replace")))
    try:
        table = parse_json(text)
    except ValueError as error:
        raise IdentityError(f"the credentials are no JSON ({error}); have new ones made") from None
    unknown = sorted(set(table) - set(_FIELDS))
    if unknown:
        raise IdentityError(f"the credentials hold something unknown; wanted some of {', '.join(_FIELDS)}")
    return Credentials(**{name: _secret(name, value) for name, value in table.items()})


def _secret(name: str, value: object) -> str:
    # What goes into a header must not be able to begin another one.
    if not is_text(value, _LONGEST) or not isinstance(value, str) or not value.isascii() or not value:
        raise IdentityError(f"the credentials' {name!r} is no such text; wanted printable ASCII")
    return value
