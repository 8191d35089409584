"""A handler in this process, called over another carrier than COINSTAC's; what the platform keeps is kept here.

Messages are plain JSON values and files are bytes, in both directions. All that a call is checked for lies in
`server.Responder`, which answers here as it does behind the WebSocket; files have plain names under one prefix.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from computation.checks import is_plain_name, parse_json
from computation.coinstac.node import Service
from computation.coinstac.server import REQUEST_LIMIT, Responder
from computation.errors import MeshNetError, MessageError, unwritable
from computation.files import follow, overwrite, plain, replacing, succession
from computation.locks import locked
from computation.wire.payload import PREFIX

__all__ = ["LARGEST", "MOST", "Answer", "Carried", "check_files"]

#: Bytes of one file, by default: larger than any MeshNet's values by an order of magnitude.
LARGEST = 256 * 2**20
#: Files that one sender may bring with one message; our own messages have two at most.
MOST = 8

_NAME = re.compile(rf"{PREFIX}[A-Za-z0-9._-]{{1,64}}")
#: In the folder: who was called there, how far it came, and what the platform would keep.
_RECORD = "carried.json"
_FOLDERS = ("base", "transfer", "cache")


@dataclass(frozen=True)
class Answer:
    """What a handler returned.

    Attributes
    ----------
    output : dict
        Its message, plain JSON values.
    files : dict of bytes
        What goes with it, by name.
    success : bool
        Whether the run is over; only the centre says so.
    """

    output: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    success: bool = False


class Carried:
    """One side of one run; close it, or use it as a context manager.

    Parameters
    ----------
    service : Service
        A site's or the centre's handler, of this process alone: `local.create()` or `remote.create()`.
    folder : Path
        Of this side of this run and nothing else; made if missing. A process that is started again on it goes on from
        the handler's checkpoints.
    client : str
        The side's id.
    output : Path, optional
        Where results and checkpoints go; a folder in `folder` by default.
    lent : mapping of Path, optional
        Files of this machine that the handler finds in its input folder, by the names it finds them under.
    largest : int
        Most bytes that one file may have, in either direction.

    Raises
    ------
    MessageError
        If the folder is in use, or is another side's.
    MeshNetError
        If it cannot be written.
    """

    def __init__(
        self,
        service: Service,
        folder: Path,
        client: str,
        *,
        output: Path | None = None,
        lent: Mapping[str, Path] | None = None,
        largest: int = LARGEST,
    ) -> None:
        self._mode, self._largest = service.mode, largest
        self._folder, self._output = folder.absolute(), (output or folder / "output").absolute()
        self._transfer, self._record = self._folder / "transfer", self._folder / _RECORD
        self._places = {name: str(self._folder / name) for name in _FOLDERS} | {"output": str(self._output)}
        self._client, self._respond = client, Responder(lambda mode: service)
        self._held = ExitStack()
        with _written("run"):
            self._make(lent or {})
        self._hold()
        try:
            self.iteration, self._caches = self._recall()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Carried:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the folder up; another process may then go on with it."""
        self._held.close()

    @property
    def base(self) -> Path:
        """Folder in which the handler finds what came."""
        return self._folder / "base"

    @property
    def output(self) -> Path:
        """Folder of the results."""
        return self._output

    def call(
        self,
        iteration: int,
        message: Mapping[str, Any],
        files: Mapping[str, Any] | None = None,
        *,
        missed: bool = False,
    ) -> Answer:
        """Answer one call.

        Parameters
        ----------
        iteration : int
            From 1; the one after the last, or once more the last, whose answer was lost with a process.
        message : mapping
            A site's: what the owner and the member set, then what the centre said. The centre's: by site, in the order
            of arrival.
        files : mapping, optional
            What came with it. A site's: bytes by name. The centre's: bytes by name, by site.
        missed : bool
            Whether the centre has answered this call without this site already. The site then takes over what came and
            computes nothing, and nobody needs its answer: so one that was away goes through the calls that it missed.

        Returns
        -------
        Answer

        Raises
        ------
        MessageError
            With one sentence that every side may read, if the handler fails, the call is out of order, or a file has a
            name or a length that none may have. The details are in `error.log` in the output folder.
        MeshNetError
            If a folder cannot be written.
        """
        self._expect(iteration)
        # A call that is repeated is answered from where the last one began.
        cache = self._caches[iteration > self.iteration]
        request = self._request(iteration, message, cache, missed)
        arrivals = self._arrivals(message, files or {})
        with _written("input"):
            self._clear()
            for folder, brought in arrivals.items():
                _put(folder, brought)
        data = _read_reply(self._respond(request))
        answer = Answer(data["output"], self._collected(), bool(data.get("success")))
        self._keep(iteration, [cache, cache | data.get("cache", {})])
        return answer

    def _hold(self) -> None:
        """Be the only process, and the only object in it, that uses the folder."""
        with _written("run"):
            try:
                self._held.enter_context(locked(self._folder / _RECORD, patience=0.0))
            except TimeoutError as error:
                text = "the run's folder is in use by another run; give each its own"
                raise MessageError(text, str(error)) from error

    def _make(self, lent: Mapping[str, Path]) -> None:
        for path in (self._output, *(self._folder / name for name in _FOLDERS)):
            path.mkdir(parents=True, exist_ok=True)
        for name, path in lent.items():
            place = self._folder / "base" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with replacing(place) as link:
                link.unlink(missing_ok=True)
                link.symlink_to(path.absolute())

    def _recall(self) -> tuple[int, list[dict[str, Any]]]:
        """Return how far the folder's run has come, and what is kept from before and from after its last call."""
        path, damage = self._folder / _RECORD, None
        for one in succession(path):
            try:
                kept = parse_json(one.read_bytes())
                whose, iteration, caches = kept["side"], kept["iteration"], kept["caches"]
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError) as error:
                damage = damage or error
                continue
            if whose != self._side:
                text = "the run's folder is already used by another site or run; give each its own"
                raise MessageError(text, str(path))
            return iteration, caches
        if damage:
            raise MessageError("the run's folder holds a damaged record; begin anew in another", str(damage))
        return 0, [{}, {}]

    @property
    def _side(self) -> list[str]:
        return [self._mode, self._client]

    def _expect(self, iteration: int) -> None:
        if type(iteration) is not int or iteration < 1 or iteration not in (self.iteration, self.iteration + 1):
            raise MessageError(
                f"call {str(iteration)[:20]} came to a folder whose run has answered {self.iteration}; wanted the next "
                "or the last again, and a folder of its own for each run"
            )

    def _request(self, iteration: int, message: Mapping[str, Any], cache: Mapping[str, Any], missed: bool) -> str:
        state: dict[str, Any] = {"clientId": self._client, "iteration": iteration, "missed": missed}
        state |= {f"{name}Directory": place for name, place in self._places.items()}
        data = {"input": message, "cache": cache, "state": state}
        try:
            text = json.dumps({"mode": self._mode, "data": data}, allow_nan=False)
        except (ValueError, TypeError, RecursionError) as error:
            raise MessageError("a message holds what JSON cannot carry; wanted finite numbers and texts") from error
        if len(text) > REQUEST_LIMIT:
            raise MessageError(f"a call of {len(text)} bytes came; wanted at most {REQUEST_LIMIT}")
        return text

    def _arrivals(self, message: Mapping[str, Any], files: Mapping[str, Any]) -> dict[Path, Mapping[str, bytes]]:
        """Return what is to be put into which folder, all of it checked before any of it is written."""
        base = self.base
        if self._mode == "local":
            check_files("the centre", files, self._largest)
            return {base: files}
        for site in (*message, *files):
            if not is_plain_name(site):
                raise MessageError("a site's id is no plain name; wanted at most 200 characters and no '/'")
        for site, brought in files.items():
            if site not in message:
                raise MessageError(f"files came from site {site}, which sent no message; wanted them together")
            check_files(f"site {site}", brought, self._largest)
        return {base / site: brought for site, brought in files.items()}

    def _clear(self) -> None:
        """Remove what a call that failed or was lost has left for others."""
        for path in self._transfer.iterdir():
            path.unlink()

    def _collected(self) -> dict[str, bytes]:
        files = {}
        for path in sorted(self._transfer.iterdir()):
            try:
                with plain(path) as file:
                    # Python makes room for all that is asked for, whatever there is.
                    files[path.name] = file.read(min(os.fstat(file.fileno()).st_size, self._largest) + 1)
            except OSError as error:
                raise MessageError("a file that should travel cannot be read", str(error)) from error
            path.unlink()
        check_files("this side", files, self._largest)
        return files

    def _keep(self, iteration: int, caches: list[dict[str, Any]]) -> None:
        text = json.dumps({"side": self._side, "iteration": iteration, "caches": caches})
        with _written("run"):
            follow(self._record, text.encode())
        self.iteration, self._caches = iteration, caches


def check_files(who: str, files: Any, largest: int = LARGEST) -> None:
    """Refuse files that no side sends.

    Parameters
    ----------
    who : str
        Sent them, for the sentence.
    files : object
        What should be a few bytes by plain names that begin with the payload's prefix.
    largest : int
        Most bytes of one.

    Raises
    ------
    MessageError
        Saying who and what.
    """
    if not isinstance(files, Mapping) or len(files) > MOST:
        raise MessageError(f"{who} sent no files by name, or more than {MOST}; wanted a few payloads")
    for name, content in files.items():
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise MessageError(f"{who} sent a file of a name that none may have; wanted {PREFIX}... and no place")
        if not isinstance(content, bytes | bytearray | memoryview):
            raise MessageError(f"{who} sent a file that is no bytes; wanted a payload")
        if len(content) > largest:
            raise MessageError(f"{who} sent a file of {len(content)} bytes; wanted at most {largest}")


def _put(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write what came over what came before; what is cut off by a crash is put once more, or fails its checksum."""
    for name, content in files.items():
        path = folder / name
        try:
            overwrite(path, [content])
        except FileNotFoundError:
            folder.mkdir()
            overwrite(path, [content])


def _read_reply(text: str) -> dict[str, Any]:
    reply = json.loads(text)
    if reply["type"] == "stderr":
        raise MessageError(reply["data"])
    data: dict[str, Any] = reply["data"]
    return data


@contextmanager
def _written(kind: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MeshNetError(unwritable(kind), str(error)) from error
