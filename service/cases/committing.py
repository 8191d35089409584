"""How a site's update comes into a step: room is reserved, files are sent, and one commit makes it count."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from computation.checks import is_digest
from computation.wire.messages.seal import files_of
from service import contents
from service.blobs.base import BlobMissing, Signed
from service.cases.desk import Desk, Seat, again, event, newest, seat, update_key
from service.identity.principal import Principal
from service.protocol import (
    Answer,
    Conflict,
    Forbidden,
    Gone,
    Malformed,
    Refusal,
    Step,
    Stored,
    TooLarge,
    TooMany,
    Unknown,
    Update,
    Upload,
    canonical,
    digest_of,
    identifier,
)
from service.protocol import transitions as to
from service.protocol.course import Known, check, known
from service.protocol.identifiers import is_identifier
from service.store.base import Change, Contended, Create, Hold, Replace

__all__ = ["MOST_MESSAGE", "RESERVED", "Content", "accept", "commit", "reserve"]

#: Characters of a message: a row of every store can hold it.
MOST_MESSAGE = 192 * 1024
#: Seconds for which a reservation holds.
RESERVED = 900
#: Reservations that one site may have in one step: its network may fail it now and then.
_MOST_UPLOADS = 32
#: Bytes of all files that come with a commit itself.
_MOST_INLINE = 2**20
_MOST_FILES = 4
_DAY = 86_400_000


@dataclass(frozen=True)
class Content:
    """What a site commits.

    Attributes
    ----------
    message : object
        Its handler's message, as JSON.
    base : str
        Digest of the result of the step before, to which this answers; empty at the join.
    uploads : sequence of str
        Ids of the reservations under which its files were sent.
    inline : mapping of bytes
        Files that came with the commit itself, by name; for small ones that saves two requests.
    """

    message: Any
    base: str = ""
    uploads: Sequence[str] = ()
    inline: Mapping[str, bytes] = field(default_factory=dict)


def reserve(
    desk: Desk, who: Principal, run: str, number: int, name: str, size: int, sha256: str
) -> tuple[Upload, Signed]:
    """Reserve room for a file of a step, and say how to send it.

    Raises
    ------
    Conflict, Gone
        If the step takes no commits.
    Malformed, TooLarge
        If no such file travels in it.
    TooMany
        If the site has reserved very often.
    """
    at = seat(desk, who, run)
    if type(number) is not int or number < 0:
        raise Conflict("not_open", "no such step takes commits; wanted the number of the open one")
    step = _open(desk, at, number)
    if not isinstance(name, str) or type(size) is not int or not is_digest(sha256):
        raise Malformed("file", "the file is not announced by name, size in bytes and SHA-256 in hexadecimal")
    contents.check_announced(at.run, step, name, size)
    now, site = desk.clock(), at.site
    mine = [one for one in desk.store.uploads(run, number) if one.site == site]
    if len(mine) >= _MOST_UPLOADS:
        raise TooMany("uploads", f"{len(mine)} uploads of one step are reserved; wanted at most {_MOST_UPLOADS}")
    id = identifier(now)
    file = Stored(name, size, sha256, update_key(run, number, site, id))
    upload = Upload(run, number, site, who.sub, id, file, now + 1000 * RESERVED)
    desk.store.write(Create(upload))
    return upload, desk.blobs.sign_put(file.key, size, sha256, now, RESERVED)


def accept(desk: Desk, who: Principal, run: str, consent: str, content: Content) -> tuple[Update, bool]:
    """Consent to a run's spec, and bring what the join asks for.

    Parameters
    ----------
    desk, who, run : Desk, Principal, str
        The desk, the site, the run.
    consent : str
        Digest of the spec that the site has read.
    content : Content
        Its join message, and the model to start from, where it has it.

    Returns
    -------
    Update
        What was committed to the join.
    bool
        Whether that happened now, and not before.

    Raises
    ------
    Conflict
        If the spec has another digest, the site has declined, or the run has started without it.
    Malformed
        If the site's scans or settings are not the run's.
    """
    at = seat(desk, who, run)
    if consent != at.run.digest:
        raise Conflict("consent", "the digest is not that of the run's spec; read it again", digest=at.run.digest)
    return _commit(desk, at, 0, content)


def commit(desk: Desk, who: Principal, run: str, number: int, content: Content) -> tuple[Update, bool]:
    """Commit a site's update to the open step: once, and for good.

    Returns
    -------
    Update
        What is committed.
    bool
        Whether that happened now: the same content once more changes nothing.

    Raises
    ------
    Conflict
        `round_closed` if it is too late (the current step is named), `not_open` if too early, `other_content` if
        something else was committed before, `wrong_base` and `wrong_model` if it was computed on something else.
    Malformed, TooLarge
        If message or files cannot be.
    Gone
        If the run has ended.
    """
    if type(number) is not int or number < 1:
        raise Conflict("not_open", "no such step takes commits; wanted one from 1: the join is committed by accepting")
    return _commit(desk, seat(desk, who, run), number, content)


def _commit(desk: Desk, at: Seat, number: int, content: Content) -> tuple[Update, bool]:
    run = at.run.id
    wanted = _announced(desk, at, number, content)
    seen, fresh = -1, True

    def once() -> tuple[Update, bool]:
        nonlocal at, seen, fresh
        at, fresh = at if fresh else seat(desk, at.who, run), False
        if (held := desk.store.update(run, number, at.site)) is not None:
            return _same(held, wanted), False
        step = _open(desk, at, number)
        if step.version != seen:
            _examine(desk, at, step, content, wanted)
            seen = step.version
        changes: list[Change] = [Create(wanted), Hold(step), *_consent(desk, at, number), _told(desk, at, wanted)]
        with desk.together():
            _keep(desk, wanted, content)
            desk.store.write(*changes)
        if len(desk.store.updates(run, number)) >= len(step.expected):
            (desk.ready or desk.ring)(run)
        return wanted, True

    return again(once)


def _announced(desk: Desk, at: Seat, number: int, content: Content) -> Update:
    """Return the update that the content comes to; its files are not read yet.

    Raises
    ------
    Unknown
        If an upload is not one of this site and step.
    Malformed, TooLarge
        If it cannot be told what is meant.
    """
    try:
        message = canonical(content.message)
    except (ValueError, TypeError, RecursionError):
        raise Malformed("message", "the message is no JSON with finite numbers; wanted the handler's own") from None
    if len(message) > MOST_MESSAGE:
        text = f"the message has {len(message)} characters; wanted at most {MOST_MESSAGE}: tensors travel in files"
        raise TooLarge("message", text, most=MOST_MESSAGE)
    files = sorted(_files(desk, at, number, content), key=lambda file: file.name)
    if len({file.name for file in files}) < len(files):
        raise Malformed("file", "two files have one name; wanted each once")
    told = [content.base, message, [[file.name, file.size, file.sha256] for file in files]]
    return Update(
        at.run.id, number, at.site, at.who.sub, message, tuple(files), digest=digest_of(told), committed=desk.clock()
    )


def _files(desk: Desk, at: Seat, number: int, content: Content) -> Iterator[Stored]:
    if len(content.uploads) + len(content.inline) > _MOST_FILES:
        raise Malformed("file", f"more than {_MOST_FILES} files came with one message; wanted one payload")
    for id in content.uploads:
        upload = desk.store.upload(at.run.id, number, at.site, id) if is_identifier(id) else None
        if upload is None:
            raise Unknown("upload", "there is no such upload of this site in this step; reserve one")
        yield upload.file
    if sum(map(len, content.inline.values())) > _MOST_INLINE:
        raise TooLarge("inline", f"files that come with a commit have {_MOST_INLINE} bytes at most; upload these")
    for name, data in content.inline.items():
        sha256 = hashlib.sha256(data).hexdigest()
        yield Stored(name, len(data), sha256, update_key(at.run.id, number, at.site, sha256))


def _same(held: Update, wanted: Update) -> Update:
    if held.digest != wanted.digest:
        text = "this site has committed something else to this step; what is committed stays, go on with the next step"
        raise Conflict("other_content", text, digest=held.digest)
    return held


def _open(desk: Desk, at: Seat, number: int) -> Step:
    """Return the open step, if it is this one and this site may commit to it."""
    run, now, site = at.run, desk.clock(), at.site
    to.refuse_if_ended(run)
    _expect_taking_part(at, number)
    step = newest(desk, run)
    if number > step.number:
        raise Conflict("not_open", f"step {number} is not open yet; wanted {step.number}", step=step.number)
    if number < step.number or step.state != "open" or (number == 0 and run.state != "inviting"):
        _told_once(desk, at, "late", number)
        raise Conflict("round_closed", f"step {number} is closed; go on with {step.number}", step=step.number)
    if run.state == "paused":
        raise Conflict("run_paused", "the run is paused; commit again when it goes on", step=step.number)
    if step.deadline and now >= step.deadline:
        _told_once(desk, at, "late", number)
        raise Conflict("deadline_passed", f"the deadline of step {number} has passed; ask for the current step")
    if site not in step.expected:
        raise Conflict("not_expected", "nobody waits for this site in this step; rejoin the run", step=step.number)
    return step


def _expect_taking_part(at: Seat, number: int) -> None:
    assert at.member is not None
    if at.member.state in ("declined", "left"):
        raise Gone("left", f"this site has {at.member.state}; ask the coordinator for another run")
    if at.member.state == "inactive":
        raise Conflict("inactive", "this site was away for long and nobody waits for it; rejoin the run")
    if at.member.state == "invited" and number > 0:
        raise Forbidden("not_accepted", "this site has not accepted the run; accept it first")


def _examine(desk: Desk, at: Seat, step: Step, content: Content, wanted: Update) -> None:
    """Hold message and files against the step, byte by byte."""
    try:
        if content.base != step.base:
            text = "the update answers another result than the run's last one; take the run's results in order"
            raise Conflict("wrong_base", text, base=step.base)
        offer = check(at.run, step, at.site, content.message, _known(desk, at, step))
        inline = content.inline
        files = {file.name: inline[file.name] if file.name in inline else _sent(desk, file) for file in wanted.files}
        contents.check(at.run, step, at.site, offer, files, files_of(content.message))
    except Refusal as why:
        _told_once(desk, at, "refused", step.number, why.code)
        raise


def _keep(desk: Desk, wanted: Update, content: Content) -> None:
    """Keep the files that came inline."""
    for file in wanted.files:
        if file.name in content.inline:
            desk.blobs.write(file.key, content.inline[file.name])


def _known(desk: Desk, at: Seat, step: Step) -> Known | None:
    """Return what was said at the join, which every later claim is held against."""
    if step.number == 0:
        return None
    joined, answer = desk.store.update(at.run.id, 0, at.site), desk.store.step(at.run.id, 0)
    assert joined is not None and answer is not None and answer.result is not None
    return known(joined.message, answer.result.message)


def _sent(desk: Desk, file: Stored) -> bytes:
    """Return what was sent under a reservation; neither URL nor place is believed."""
    try:
        content = desk.blobs.read(file.key, file.size)
    except BlobMissing:
        text = "the file has not come, or is larger than was announced; send it to the URL of its reservation"
        raise Conflict("not_uploaded", text, file=file.name) from None
    if len(content) != file.size or hashlib.sha256(content).hexdigest() != file.sha256:
        raise Malformed("altered", "the file that came is not the one that was announced; reserve and send it anew")
    return content


def _consent(desk: Desk, at: Seat, number: int) -> list[Change]:
    """Accept the run with the join; later the step's version tells of a site that no longer takes part."""
    assert at.member is not None
    if number > 0:
        return []
    now, digest = desk.clock(), at.run.digest
    return [
        Hold(at.run),
        Replace(to.moved(at.member, state="accepted", consent=digest, answered=now)),
        event(desk, at.run.id, "accepted", at.site, 0, spec=digest),
    ]


def _told(desk: Desk, at: Seat, update: Update) -> Create:
    size = sum(file.size for file in update.files)
    return event(desk, at.run.id, "committed", at.site, update.step, digest=update.digest, bytes=size)


def _told_once(desk: Desk, at: Seat, kind: str, number: int, code: str = "") -> None:
    """Write a line into the audit trail, but not another one for each time that a site tries the same again."""
    known = Answer(at.who.sub, f"{kind}/{at.run.id}/{number:010d}", code, "", "", desk.clock() + _DAY)
    with suppress(Contended):
        desk.store.write(
            Create(known), event(desk, at.run.id, kind, at.site, number, **({"code": code} if code else {}))
        )
