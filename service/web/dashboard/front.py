"""What every page of the web application is made with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from service.bell import Bell
from service.cases.desk import Desk
from service.clock import Clock
from service.identity.hosted import Hosted
from service.identity.local import Local
from service.identity.records import Account
from service.web.dashboard import words
from service.web.dashboard.course import Courses
from service.web.dashboard.tabs import Tabs, of_centre

__all__ = ["Front"]


@dataclass(frozen=True)
class Front:
    """The web application's surroundings.

    Attributes
    ----------
    desk : Desk or None
        Where cases are handled; none at a site's own machine, which keeps no runs.
    identity : Local or Hosted
        Who logs in: by an account of this service's own, or at a user pool's pages.
    bell : Bell or None
        Hears of changes; without one, pages look every second or two.
    address : str
        The service's URL as sites reach it, for the commands that pages show; as the browser has it where empty.
    secure : bool
        Whether browsers reach it by TLS alone.
    streams : bool
        Whether an answer may last for minutes; without that, pages ask again and again.
    tabs : callable
        What the bar of somebody's pages leads to.
    roles : mapping of str
        The roles that mean something here, with what each may do.
    """

    desk: Desk | None
    identity: Local | Hosted
    bell: Bell | None = None
    address: str = ""
    secure: bool = False
    streams: bool = True
    tabs: Tabs = of_centre
    roles: Mapping[str, str] = field(default_factory=lambda: words.ROLES)

    @property
    def clock(self) -> Clock:
        """The server's, by which pages tell the time."""
        return self.desk.clock if self.desk else self.identity.clock

    @property
    def keeps_accounts(self) -> bool:
        """Whether accounts are this service's own, so that there are pages for them."""
        return isinstance(self.identity, Local)

    @property
    def local(self) -> Local:
        """The service's own accounts, for the pages that are there because of them."""
        assert isinstance(self.identity, Local)
        return self.identity

    @property
    def people(self) -> tuple[Account, ...]:
        """Everybody who may be in a run."""
        return self.local.records.accounts() if self.keeps_accounts else self.hosted.people()

    @property
    def hosted(self) -> Hosted:
        """The user pool's door, for the pages that lead to it."""
        assert isinstance(self.identity, Hosted)
        return self.identity

    @cached_property
    def courses(self) -> Courses:
        """The numbers of runs that were looked at lately."""
        assert self.desk is not None
        return Courses(self.desk)
