"""Connections to a node: one for many calls, and another one as soon as it cannot be trusted to hold."""

import asyncio

import pytest
from websockets.asyncio.server import serve

from simulator import wire


class Echo:
    """A server that counts its connections and does something after each reply."""

    def __init__(self, after=None):
        self.connections, self._after = 0, after

    async def _attend(self, connection):
        self.connections += 1
        async for text in connection:
            await connection.send(text)
            if self._after:
                await self._after(connection)

    async def calls(self, count, line):
        """Make so many calls and close the line, without which the server's end would take long."""
        async with serve(self._attend, "127.0.0.1", 0, close_timeout=30) as server:
            port = server.sockets[0].getsockname()[1]
            for number in range(count):
                assert await line.call("127.0.0.1", port, b"%d" % number) == b"%d" % number
                await asyncio.sleep(0.02)
            line.close()
            line.close()


def test_calls_share_a_connection_and_the_node_can_end_when_it_is_closed():
    echo = Echo()
    asyncio.run(asyncio.wait_for(echo.calls(3, wire.Line()), 10))
    assert echo.connections == 1


async def aborted(connection):
    connection.transport.abort()


async def spoken(connection):
    await asyncio.sleep(0.005)  # with the reply it would be dropped, since nobody waits for it
    await connection.send("unasked")


@pytest.mark.parametrize("after", [lambda it: it.close(), aborted, spoken])
def test_a_connection_that_the_node_ended_or_spoke_on_is_not_used_again(after):
    echo = Echo(after)
    asyncio.run(asyncio.wait_for(echo.calls(3, wire.Line()), 10))
    assert echo.connections == 3


def test_a_connection_that_was_silent_for_long_is_not_used_again(monkeypatch):
    monkeypatch.setattr(wire, "_KEPT", 0.0)
    echo = Echo()
    asyncio.run(asyncio.wait_for(echo.calls(2, wire.Line()), 10))
    assert echo.connections == 2


def test_a_call_that_was_given_up_leaves_no_connection_to_a_late_reply():
    async def slow(connection):
        async for text in connection:
            await asyncio.sleep(0.3)
            await connection.send(text)

    async def run():
        line = wire.Line()
        async with serve(slow, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(line.call("127.0.0.1", port, b"first"), 0.1)
            assert await line.call("127.0.0.1", port, b"second") == b"second"
            line.close()

    asyncio.run(asyncio.wait_for(run(), 10))
