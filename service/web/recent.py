"""What was shown a moment ago, as the JSON of that time: all sites of a run ask for one result within moments."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from service.web.operations import Encoded

__all__ = ["Recent"]

#: Milliseconds for which a text is shown again: the signed URLs in it must still be good for long after that.
_LASTING = 30_000
#: Texts that are kept, and the bytes of each: those with larger files are made anew.
_MOST, _LONGEST = 8, 2**20


class Recent:
    """Makes a text once for all who want it; any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[int, Encoded]] = OrderedDict()

    def get(self, key: Hashable, now: int, make: Callable[[], Encoded]) -> Encoded:
        """Return a text, made if there is none that is recent; who asks meanwhile waits for that one.

        Parameters
        ----------
        key : hashable
            All that the text depends on, but for the time.
        now : int
            The service's time.
        make : callable
            Makes it; what it raises passes through.
        """
        with self._lock:
            made, text = self._kept.get(key, (0, None))
            if text is not None and 0 <= now - made < _LASTING:
                return text
            text = make()
            if len(text.content) <= _LONGEST:
                self._kept[key] = now, text
                self._kept.move_to_end(key)
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
            return text
