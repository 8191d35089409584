import socket

import pytest

pytest.importorskip("uvicorn", reason="THE SERVICE IS NOT TESTED: its extra is not installed")

from service.serving import Wanted, _listening


def test_answers_go_out_at_once(tmp_path):
    """What is not named TCP gets no TCP_NODELAY from asyncio, and each answer waits for the other side's ACK."""
    with _listening(Wanted(tmp_path, port=0)) as door:
        assert door.proto == socket.IPPROTO_TCP
