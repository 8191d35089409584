"""What NVFlare's job process runs at the centre."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from nvflare.apis.client import Client
from nvflare.apis.controller_spec import ClientTask, Task
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal

from computation.errors import MeshNetError
from neuroflame import parameters, results
from neuroflame.beat import Beat
from neuroflame.gathering import Gathering
from neuroflame.node import Centre
from neuroflame.packet import Packet
from neuroflame.places import RUNNING, Places
from neuroflame.tasks import CALL, ENDING, KEY, LATE, PULSE

__all__ = ["MeshNetController"]


class MeshNetController(Controller):  # type: ignore[misc]  # the library is not typed
    """Broadcasts the centre's calls and gathers what the sites answer, until the handler says `success`."""

    def __init__(self) -> None:
        super().__init__()
        self._places: Places
        self._gathering: Gathering
        self._called: Callable[[str], str]
        self._late = ""

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Listen for signs of life, and give some."""
        self._places = Places.told()
        self._places.status.say(RUNNING)
        beat = Beat(self._places.beat, self._places.timing)
        threading.Thread(target=beat.give, name="beat", daemon=True).start()
        self._called = parameters.read(self._places.parameters).name
        self._gathering = Gathering(self._places.sites, self._places.timing, called=self._called)
        fl_ctx.get_engine().register_aux_message_handler(topic=PULSE, message_handle_func=self._hear)

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Do nothing: what is open goes with the process."""

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """Leave an answer that comes too late."""

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Hear from NVFlare that a site's job process has gone."""
        if event_type == EventType.CLIENT_DISCONNECTED:
            site = self._called(str(fl_ctx.get_prop(FLContextKey.DISCONNECTED_CLIENT_NAME)))
            self._gathering.fail(f"site {site}'s job process has ended before the run did; look at its log")

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Lead the run to its end and tell every site how it ended."""
        try:
            last = self._lead(Centre(self._places), abort_signal, fl_ctx)
        except Exception as error:
            sentence = self._places.status.fail(error)
            self._part(Packet.failed(1, sentence), abort_signal, fl_ctx)
            self.system_panic(sentence, fl_ctx)
            return
        self._part(last, abort_signal, fl_ctx)

    def _lead(self, centre: Centre, abort_signal: Signal, fl_ctx: FLContext) -> Packet:
        packet = Packet(1)
        while True:
            self._broadcast(CALL, packet, fl_ctx)
            answer = centre.answer(packet.iteration, self._gathering.wait(lambda: self._look(abort_signal)))
            if answer.success:
                centre.end(answer)
                return results.farewell(packet.iteration, answer, centre.page)
            packet = Packet(packet.iteration + 1, message=answer.output, files=answer.files)

    def _look(self, abort_signal: Signal) -> bool:
        """Say who is waited for, where that has changed, and return whether somebody ended the run."""
        if self._late != (late := self._gathering.late):
            self._late = late
            self._places.waiting.say(RUNNING, late)
        return bool(abort_signal.triggered)

    def _part(self, packet: Packet, abort_signal: Signal, fl_ctx: FLContext) -> None:
        self._broadcast(ENDING, packet, fl_ctx)
        self._gathering.farewell(lambda: abort_signal.triggered)

    def _broadcast(self, name: str, packet: Packet, fl_ctx: FLContext) -> None:
        self._gathering.open()
        data = Shareable()
        data[KEY] = packet.plain()
        task = Task(name=name, data=data, result_received_cb=self._take)
        sites = list(self._gathering.sites)
        self.broadcast(task=task, fl_ctx=fl_ctx, targets=sites, min_responses=len(sites))

    def _take(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        """Take one site's answer, in the thread that brought it."""
        site, result = client_task.client.name, client_task.result
        if client_task.task.name == ENDING:
            self._gathering.put(site, Packet(1))
            return
        try:
            packet = Packet.parse(f"site {self._called(site)}", _content(self._called(site), result))
        except MeshNetError as error:
            packet = Packet.failed(1, error.public)
        self._gathering.put(site, packet)
        client_task.result = None

    def _hear(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        self._gathering.heard(fl_ctx.get_peer_context().get_identity_name())
        reply = make_reply(ReturnCode.OK)
        reply[LATE] = self._gathering.late
        return reply


def _content(site: str, result: Any) -> Any:
    code = result.get_return_code()
    if code != ReturnCode.OK:
        raise MeshNetError(f"site {site} answered NVFlare's {str(code)[:40]} and nothing else; look at its log")
    return result.get(KEY)
