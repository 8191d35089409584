"""What the other party sent is a packet, or an error that names it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computation.coinstac.carried import MOST
from computation.errors import MessageError
from computation.wire.payload import PREFIX
from neuroflame.packet import END, Packet

SOUND = {"iteration": 3, "kind": "call", "message": '{"a": 1}', "files": {f"{PREFIX}x.bin": b"x"}}
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize(
    "packet",
    [
        Packet(1),
        Packet(7, message={"phase": "plan", "loss": 0.5}, files={f"{PREFIX}model.bin": b"\0\1"}),
        Packet.failed(2, "one sentence"),
        Packet(9, END, {"rounds": 4}, {f"{PREFIX}page.html": b"<p>"}),
    ],
)
def test_a_packet_comes_back(packet):
    assert Packet.parse("site a", packet.plain()) == packet


def test_an_error_of_any_length_is_one_that_may_be_read():
    assert len(Packet.parse("a", Packet.failed(1, "x" * 5000).plain()).error) == 600


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"iteration": 0}, "no iteration"),
        ({"iteration": True}, "no iteration"),
        ({"iteration": 10**10}, "no iteration"),
        ({"kind": "shutdown"}, "no iteration or kind"),
        ({"kind": ["call"]}, "no iteration or kind"),
        ({"message": "{"}, "not JSON"),
        ({"message": "[1]"}, "no object"),
        ({"message": '{"a": NaN}'}, "not JSON"),
        ({"message": {"a": 1}}, "no message"),
        ({"files": {"site.db": b"x"}}, "a name that none may have"),
        ({"files": {f"{PREFIX}../site.db": b"x"}}, "a name that none may have"),
        ({"files": {f"{PREFIX}a": "text"}}, "no bytes"),
        ({"files": {f"{PREFIX}{index}": b"" for index in range(MOST + 1)}}, f"more than {MOST}"),
        ({"files": {f"{PREFIX}big": b"123456789"}}, "at most 8"),
        ({"files": None}, "no files by name"),
        ({"kind": "error"}, "no sentence"),
        ({"kind": "error", "message": '{"error": "two\\nlines"}'}, "no sentence"),
        ({"kind": "error", "message": '{"error": ""}'}, "no sentence"),
        ({"more": 1}, "no packet"),
    ],
)
def test_anything_else_is_refused_and_its_sender_named(changes, said):
    with pytest.raises(MessageError) as caught:
        Packet.parse("site a", {**SOUND, **changes}, largest=8)
    assert caught.value.public.startswith("site a") and said in caught.value.public


@given(raw=PLAIN | st.fixed_dictionaries(dict.fromkeys(SOUND, PLAIN)))
def test_no_value_does_anything_else(raw):
    try:
        Packet.parse("site a", raw)
    except MessageError as error:
        assert error.public.startswith("site a")
