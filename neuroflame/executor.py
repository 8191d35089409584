"""What NVFlare's job process runs at a site."""

from __future__ import annotations

import os
import threading
import time

from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from computation.errors import MeshNetError
from neuroflame.node import Site
from neuroflame.places import Places
from neuroflame.tasks import ENDING, KEY, LATE, PULSE, SERVER

__all__ = ["MeshNetExecutor"]

_ANSWER_WITHIN = 10.0  # seconds for the answer to a sign of life


class MeshNetExecutor(Executor):  # type: ignore[misc]  # the library is not typed
    """Answers the centre's tasks; everything else is `node.Site`'s.

    Nothing is raised and nothing logged by NVFlare's ways: its log may travel.
    """

    def __init__(self) -> None:
        super().__init__()
        self._places: Places | None = None
        self._site: Site | None = None
        self._over = threading.Event()

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Begin and end with NVFlare's job."""
        if event_type == EventType.START_RUN:
            self._places = Places.told()
            self._site = Site(self._places)
            self._site.begin()
            threading.Thread(target=self._live, args=(fl_ctx.get_engine(),), name="pulse", daemon=True).start()
        elif event_type == EventType.END_RUN:
            self._over.set()

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Answer one task."""
        reply = Shareable()
        if self._site is None:
            raise MeshNetError("this site's job process has no run; look at its log")
        if task_name == ENDING:
            self._over.set()
            self._site.end(shareable.get(KEY))
        else:
            reply[KEY] = self._site.answer(shareable.get(KEY)).plain()
        return reply

    def _live(self, engine: object) -> None:
        """Give signs of life, and end this process when nobody has answered one for long."""
        assert self._places is not None and self._site is not None
        timing = self._places.timing
        heard = time.monotonic()
        while not self._over.wait(timing.pulse):
            if (answer := self._answered(engine)) is not None:
                heard = time.monotonic()
                self._site.waits(answer.get(LATE))
            elif time.monotonic() - heard > timing.silence and not self._over.is_set():
                self._site.give_up(f"the centre has not answered for {timing.silence:g} s; the run cannot go on")
                os._exit(1)  # the thread that computes would not hear of anything else

    def _answered(self, engine: object) -> Shareable | None:
        try:
            with engine.new_context() as context:  # type: ignore[attr-defined]
                answers = engine.send_aux_request(  # type: ignore[attr-defined]
                    targets=[SERVER],
                    topic=PULSE,
                    request=Shareable(),
                    timeout=_ANSWER_WITHIN,
                    fl_ctx=context,
                    optional=True,
                )
            answer = answers.get(SERVER)
            return answer if isinstance(answer, Shareable) and answer.get_return_code() == ReturnCode.OK else None
        except Exception:  # whatever the network does, the next one may get through
            return None
