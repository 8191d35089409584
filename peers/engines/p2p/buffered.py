"""A stream that takes at once whatever has come, however little of it its reader asks for.

libp2p answers each reading with a frame, which tells the other end that there is room again. Who reads a length byte by
byte, as libp2p itself does, so causes more frames than there are messages.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Buffered"]

_AT_ONCE = 65_536


class Buffered:
    """All that the stream is, with another way of reading.

    Parameters
    ----------
    stream : libp2p.abc.INetStream
        An open one; nobody else reads from it.
    """

    def __init__(self, stream: Any) -> None:
        self._stream, self._left = stream, bytearray()

    def __getattr__(self, name: str) -> Any:
        """Be as the stream in all else."""
        return getattr(self._stream, name)

    async def read(self, size: int) -> bytes:
        """Return some bytes, at most so many; raises what the stream raises at its end."""
        if not self._left:
            self._left += await self._stream.read(_AT_ONCE)
        part = bytes(self._left[:size])
        del self._left[:size]
        return part
