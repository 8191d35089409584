"""What an embedded service keeps, and where in its folder; every file of it is readable by its owner alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from computation.errors import ServiceError
from computation.locks import locked
from service.bell import Bell
from service.blobs.files import Files
from service.cases.desk import Desk
from service.identity.accounts import Accounts
from service.identity.local import Local
from service.identity.records import Records
from service.store.sqlite import SqliteStore

__all__ = ["Place"]


@dataclass(frozen=True)
class Place:
    """The data folder of one service.

    Attributes
    ----------
    folder : Path
        Made if missing, when something is opened in it.
    """

    folder: Path

    @property
    def work(self) -> Path:
        """Where workers keep what they need while they run."""
        return self.folder / "work"

    @property
    def log(self) -> Path:
        """The log; it holds no secret, path or subject."""
        return self.folder / "service.log"

    @property
    def order(self) -> Path:
        """What a site's machine was asked to do last."""
        return self.folder / "order.json"

    @property
    def founding(self) -> str:
        """The command that makes the first administrator, in the words of a shell: it is to be typed."""
        return f"coinstac-meshnet service admin NAME --data {shlex.quote(str(self.folder))}"

    def expect_founded(self) -> None:
        """Refuse a folder in which no service is: an account there would be one of nowhere.

        Raises
        ------
        ServiceError
            Saying how to name the right one, or how to begin.
        """
        if not self._people.is_file():
            text = "there is no service in that folder; name the one that `serve` has with --data, or begin one"
            raise ServiceError(f"{text}: {self.founding}", str(self.folder.absolute()))

    def bell(self) -> Bell:
        """Return what rings in all processes of this folder."""
        return Bell(self._made() / "bells")

    def desk(self, bell: Bell) -> Desk:
        """Open records and files.

        Raises
        ------
        ServiceError
            If they cannot be read or written, or are of a newer version.
        """
        store = SqliteStore(self._made() / "service.sqlite")
        files = Files(self.folder / "files", small=store.shelf)
        return Desk(store, files, ring=bell, ready=bell.work, together=store.together)

    def local(self) -> Local:
        """Open the accounts; errors as for `desk`."""
        self._made()
        return Local(Records(self._people.absolute()))

    def accounts(self) -> Accounts:
        """Open the accounts to change them; errors as for `desk`."""
        return self.local().accounts

    def has_administrator(self) -> bool:
        """Tell whether somebody keeps the accounts; errors as for `desk`."""
        accounts = self.accounts()
        with closing(accounts.records):
            return bool(accounts.administrators)

    @property
    def _people(self) -> Path:
        return self.folder / "identity.sqlite"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only service of this folder.

        Raises
        ------
        ServiceError
            If another one is running.
        """
        try:
            with locked(self._made() / "service.sqlite", patience=0.0):
                yield
        except TimeoutError as error:
            raise ServiceError("another service is running with this data folder; end it first", str(error)) from None

    def _made(self) -> Path:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ServiceError("the data folder cannot be made or used; name another with --data", str(error)) from None
        return self.folder.absolute()
