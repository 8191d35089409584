"""What every site keeps of the centre's results; its own page, models and predictions lie there already."""

from __future__ import annotations

import html
from pathlib import Path

from computation.coinstac.carried import Answer
from computation.errors import MessageError
from computation.files import replacing
from computation.wire.payload import PREFIX
from neuroflame.packet import END, Packet
from neuroflame.rules import write

__all__ = ["farewell", "keep_farewell"]

#: The centre's page on its way, and where a site keeps it: after its own, which the platform's app is to show.
_PAGE = f"{PREFIX}page.html"
_FOLDER = "the-centre"
#: Another party's page: shown as it is, and nothing in it can run or reach this machine (HTML, iframe, "sandbox").
_FRAME = """<!doctype html><meta charset="utf-8"><title>The centre</title>
<body style="margin:0"><iframe sandbox style="border:0;width:100vw;height:100vh" srcdoc="{}"></iframe>
"""


def farewell(iteration: int, answer: Answer, page: bytes) -> Packet:
    """Return the packet that tells sites that the run succeeded."""
    return Packet(iteration, END, answer.output, {_PAGE: page})


def keep_farewell(output: Path, packet: Packet) -> None:
    """Put the centre's page and summary into a site's output folder.

    Raises
    ------
    MessageError
        If the packet is no end of a run.
    """
    if packet.kind != END or set(packet.files) != {_PAGE}:
        raise MessageError("the centre ended the run without its page; use one version of the image")
    folder = output / _FOLDER
    folder.mkdir(exist_ok=True)
    page = bytes(packet.files[_PAGE]).decode("utf-8", errors="replace")
    with replacing(folder / "index.html") as partial:
        partial.write_bytes(_FRAME.format(html.escape(page)).encode())
    write(folder / "summary.json", packet.message)
