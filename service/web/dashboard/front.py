"""What every page of the web application is made with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from service.bell import Bell
from service.cases.desk import Desk
from service.clock import Clock
from service.identity.local import Local
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
    identity : Local
        Who logs in.
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
    """

    desk: Desk | None
    identity: Local
    bell: Bell | None = None
    address: str = ""
    secure: bool = False
    streams: bool = True
    tabs: Tabs = of_centre

    @property
    def clock(self) -> Clock:
        """The server's, by which pages tell the time."""
        return self.desk.clock if self.desk else self.identity.clock

    @cached_property
    def courses(self) -> Courses:
        """The numbers of runs that were looked at lately."""
        assert self.desk is not None
        return Courses(self.desk)
