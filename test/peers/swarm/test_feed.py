"""The thin feeder's log: every change is found, keys only go forward, and nothing is readable on the way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="THE SWARM IS NOT TESTED: its extra is not installed")

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.errors import MessageError, PeersError
from peers.swarm.entry import MODES, MOST_BYTES, parsed
from peers.swarm.feed import Chain, Log, Ticket, Writer
from peers.swarm.ratchet import advanced, derived, following

SEED, SIDE = bytes(range(32)), b"s" * 32
ROOT = Path(__file__).parents[3]


def writer(mode="private", seed=SEED):
    return Writer.new(seed, mode, SIDE if mode == "restricted" else b"")


def filled(count, mode="private", say=lambda place: f"temperature {place}".encode()):
    own = writer(mode)
    ticket = own.ticket
    return own, ticket, [own.append(say(place)) for place in range(count)]


@given(key=st.binary(min_size=32, max_size=32), purpose=st.binary(max_size=40), salt=st.binary(max_size=40))
def test_the_ratchets_derivation_is_hkdf_of_rfc_5869(key, purpose, salt):
    expected = HKDF(hashes.SHA256(), 32, salt or None, purpose).derive(key)
    assert derived(key, purpose, salt) == expected


@pytest.mark.parametrize("mode", MODES)
def test_o28_of_1000_messages_a_reader_from_t_on_reads_those_and_none_before(mode):
    own = writer(mode)
    entries, tickets = [], []
    for place in range(1000):
        tickets.append(own.ticket)
        entries.append(own.append(f"temperature {place}".encode()))
    late = tickets[400]
    assert [late.read(one) for one in entries[400:]] == [f"temperature {place}".encode() for place in range(400, 1000)]
    for early in (399, 0):
        with pytest.raises(MessageError, match="keys only go forward"):
            late.read(entries[early])
    # Nor does the key itself open the message before, whatever it claims to be.
    with pytest.raises(MessageError, match="does not open"):
        Ticket(late.author, 399, late.key, late.side).read(entries[399])
    assert advanced(tickets[0].key, 400) == late.key


def test_o28_a_wrong_side_key_opens_nothing():
    _, ticket, (entry,) = filled(1, "restricted")
    assert ticket.read(entry) == b"temperature 0"
    for side in (b"x" * 32, b""):
        with pytest.raises(MessageError, match="does not open"):
            Ticket(ticket.author, 0, ticket.key, side).read(entry)


def test_o28_every_flipped_bit_of_1000_messages_is_found():
    _, ticket, entries = filled(1000)
    for place, entry in enumerate(entries):
        blob = bytearray(entry.whole)
        bit = place * 7919 % (8 * len(blob))
        blob[bit // 8] ^= 1 << bit % 8
        with pytest.raises(MessageError):
            Chain(ticket.author, place, entry.previous).take(bytes(blob))


@settings(deadline=None)
@given(bit=st.integers(0, 10**9))
def test_o28_any_flipped_bit_is_found(bit):
    _, ticket, (entry,) = filled(1)
    blob = bytearray(entry.whole)
    blob[bit // 8 % len(blob)] ^= 1 << bit % 8
    with pytest.raises(MessageError):
        Chain(ticket.author).take(bytes(blob))


def test_o28_of_1000_messages_each_that_is_dropped_reordered_or_replayed_is_found():
    _, ticket, entries = filled(1000)
    chain = Chain(ticket.author)
    for place, entry in enumerate(entries):
        if place + 1 < len(entries):  # the next one first: this one was dropped, or overtaken
            with pytest.raises(MessageError, match=f"messages {place} to {place} of a feed are missing"):
                chain.take(entries[place + 1].whole)
        chain.take(entry.whole)
        for earlier in {place, place // 2}:
            with pytest.raises(MessageError, match="came again"):
                chain.take(entries[earlier].whole)
    assert chain.number == 1000


def test_o28_of_1000_forged_messages_each_is_found():
    own, ticket, entries = filled(1000)
    other = Writer.new(b"another author's seed, 32 bytes.", "private")
    fork = writer()
    for place, entry in enumerate(entries):
        forged = other.append(b"forged")
        posing = forged.whole.replace(forged.author, ticket.author)
        with pytest.raises(MessageError, match="signature"):
            parsed(posing)
        with pytest.raises(MessageError, match="another author"):
            Chain(ticket.author, place, entry.previous).take(forged.whole)
        # The author's own second story from here on is none of this feed.
        told_otherwise = fork.append(b"otherwise")
        if place:
            with pytest.raises(MessageError, match="does not follow"):
                Chain(ticket.author, place, entry.previous).take(told_otherwise.whole)
    assert own.number == 1000


@pytest.mark.parametrize("mode", MODES)
def test_o28_no_plaintext_is_on_the_wire(mode):
    _, _, entries = filled(50, mode, lambda place: b"the patient's temperature" * 4)
    wire = b"".join(entry.whole for entry in entries)
    assert b"patient" not in wire
    assert SEED not in wire and SIDE not in wire
    assert len({entry.sealed for entry in entries}) == 50  # equal messages do not look equal


def test_a_writer_forgets_the_keys_of_what_it_wrote(tmp_path):
    own, ticket, entries = filled(5)
    own.save(tmp_path / "feed.json")
    kept = (tmp_path / "feed.json").read_text()
    assert ticket.key.hex() not in kept and SEED.hex() not in kept
    assert (tmp_path / "feed.json").stat().st_mode & 0o77 == 0
    again = Writer.load(tmp_path / "feed.json")
    chain = Chain(ticket.author)
    for entry in [*entries, again.append(b"more")]:
        chain.take(entry.whole)
    assert following(advanced(ticket.key, 5)) == again.key


@pytest.mark.parametrize("text", ["", "a:b", "zz:0:zz", f"{'00' * 32}:-1:{'00' * 32}", f"{'00' * 3}:0:{'00' * 32}"])
def test_a_reading_key_that_is_none_is_refused(text):
    with pytest.raises(PeersError, match="reading key"):
        Ticket.parsed(text)


def test_a_reading_key_is_text_and_holds_no_side_key():
    ticket = writer("restricted").ticket
    assert SIDE.hex() not in ticket.written()
    assert Ticket.parsed(ticket.written(), SIDE) == ticket


@pytest.mark.parametrize(
    ("seed", "mode", "side"),
    [(SEED, "open", b""), (b"short", "public", b""), (SEED, "restricted", b""), (SEED, "public", SIDE)],
)
def test_a_feed_that_cannot_be_begun_is_refused(seed, mode, side):
    with pytest.raises(PeersError):
        Writer.new(seed, mode, side)


def test_a_message_that_is_too_long_is_refused():
    with pytest.raises(MessageError, match="too long"):
        writer().append(bytes(MOST_BYTES))
    assert len(writer().append(bytes(48_000)).whole) <= MOST_BYTES


@given(blob=st.binary(max_size=300))
def test_garbage_is_one_error(blob):
    with pytest.raises(MessageError):
        parsed(blob)


class Watch:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_log_keeps_what_is_allowed_and_no_flood(tmp_path):
    own, ticket, entries = filled(30)
    watch = Watch()
    log = Log([ticket.author], tmp_path, most=10, seconds=60.0, clock=watch)
    with pytest.raises(MessageError, match="not on the list"):
        log.take(Writer.new(b"x" * 32, "public").append(b"hello").whole)
    for entry in entries[:10]:
        log.take(entry.whole)
    with pytest.raises(MessageError, match="send slower"):
        log.take(entries[10].whole)
    watch.now = 12.0  # a fifth of the time, a fifth of the messages
    assert [log.take(entry.whole).number for entry in entries[10:12]] == [10, 11]
    with pytest.raises(MessageError, match="send slower"):
        log.take(entries[12].whole)
    assert list(log.entries(ticket.author)) == [entry.whole for entry in entries[:12]]
    assert own.number == 30


def test_a_log_goes_on_after_a_crash_in_the_middle_of_a_message(tmp_path):
    _, ticket, entries = filled(4)
    log = Log([ticket.author], tmp_path)
    for entry in entries[:3]:
        log.take(entry.whole)
    (file,) = tmp_path.iterdir()
    os.truncate(file, file.stat().st_size - 5)
    again = Log([ticket.author], tmp_path)
    for entry in entries[2:]:
        again.take(entry.whole)
    assert list(Log([ticket.author], tmp_path).entries(ticket.author)) == [entry.whole for entry in entries]


def test_a_feed_has_bounded_room(tmp_path):
    _, ticket, entries = filled(10)
    log = Log([ticket.author], tmp_path, most_bytes=5 * (4 + len(entries[0].whole)))
    for entry in entries[:5]:
        log.take(entry.whole)
    with pytest.raises(MessageError, match="no room"):
        log.take(entries[5].whole)


def test_the_thin_feeder_needs_the_standard_library_and_one_package():
    code = "import sys, peers.swarm.feed; sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'libp2p')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
