"""Threads of which one runs at a time, in an order that is drawn, in a time that only passes when all of them wait."""

import threading


class Baton:
    """Passed between threads; who has it runs.

    Parameters
    ----------
    dice : random.Random
        Draws who is next.
    forward : callable
        Told how many seconds pass.
    """

    def __init__(self, dice, forward):
        self._dice, self._forward = dice, forward
        self._change = threading.Condition()
        self._due, self._turn, self._light, self.seconds = {}, None, set(), 0.0

    def start(self, name, work):
        """Let a thread do its work as soon as it is its turn."""

        def run():
            self._wait(name)
            try:
                work()
            finally:
                with self._change:
                    del self._due[name]
                    self._turn = None
                    self._change.notify_all()

        self._due[name] = 0.0
        threading.Thread(target=run, name=name, daemon=True).start()

    def rest(self, name, seconds=0.0, light=False):
        """Called by the thread that runs: let others, and go on after so much time, or when those are woken."""
        with self._change:
            self._due[name], self._turn = self.seconds + seconds, None
            self._light |= {name} if light else set()
            self._change.notify_all()
        self._wait(name)
        self._light.discard(name)

    def wake(self):
        """Wake all who sleep lightly."""
        with self._change:
            self._due.update(dict.fromkeys(self._light, self.seconds))

    def _wait(self, name):
        with self._change:
            self._change.wait_for(lambda: self._turn == name)

    def step(self):
        """Let one thread run until it rests or ends; tell whether there was any."""
        with self._change:
            if not self._due:
                return False
            first = min(self._due.values())
            if first > self.seconds:
                self._forward(first - self.seconds)
                self.seconds = first
            ready = sorted(name for name, due in self._due.items() if due <= self.seconds)
            self._turn = self._dice.choice(ready)
            self._change.notify_all()
            self._change.wait_for(lambda: self._turn is None)
            return True
