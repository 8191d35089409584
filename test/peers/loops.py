"""Ordinary loops in threads, whose requests the virtual engine performs: a torchrun in one process."""

import queue
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace

from peers.engines import virtual


@dataclass
class Loop:
    """One thread's view of the group."""

    name: str
    names: tuple
    asked: queue.Queue = field(default_factory=queue.Queue)
    told: queue.Queue = field(default_factory=queue.Queue)
    shadow: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(clock=None))

    def run(self, peer, steps):
        peer.clock = self.shadow.clock
        self.asked.put(steps)
        return self.told.get()

    def steps(self):
        """Carry out what the thread asks for, until it asks for nothing more; return what it ended with."""
        while not isinstance(steps := self.asked.get(), _End):
            self.told.put((yield from steps))
        if steps.error:
            raise steps.error
        return steps.value


@dataclass
class _End:
    value: object = None
    error: BaseException | None = None


def together(loops, network=None):
    """Run `loops`, functions of a group, by name; return the engine's outcome."""
    groups = {name: Loop(name, tuple(sorted(loops))) for name in loops}

    def work(name):
        try:
            groups[name].asked.put(_End(loops[name](groups[name])))
        except BaseException as error:
            groups[name].asked.put(_End(error=error))

    for name in loops:
        threading.Thread(target=work, args=(name,), daemon=True).start()
    return virtual.run({name: lambda g=group: (g.shadow, g.steps()) for name, group in groups.items()}, network)
