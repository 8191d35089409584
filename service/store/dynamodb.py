"""A store in one DynamoDB table: everything of a run lies in one partition, and nothing is ever scanned.

=============  ===============================  ==================  ====================
record         partition, sort key              gsi1                gsi2
=============  ===============================  ==================  ====================
run            ``RUN#id``, ``META``             ``RUNS``, id
membership     ``RUN#id``, ``MEMBER#subject``   ``OF#subject``, id
presence       ``RUN#id``, ``SEEN#subject``
step           ``RUN#id``, ``STEP#number``                          ``ACTIVE``, id/number
upload         ``RUN#id``, ``UPLOAD#step#...``
update         ``RUN#id``, ``UPDATE#step#...``
event          ``RUN#id``, ``EVENT#id``
answer         ``ANSWER#subject``, route#name
session        ``SESSION#id``, ``META``
=============  ===============================  ==================  ====================

Both indices hold keys alone, the second only those of steps that are open or aggregating. An index lags behind by a
fraction of a second, so `runs`, `memberships_of` and `active` may not list what is that new; the records that they
return are read from the table, as all others, consistently. Expired uploads, answers and sessions go by
the table's own clock.
"""

from __future__ import annotations

import secrets
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

from service.protocol.codec import dump, kind_of, load
from service.protocol.records import Answer, Event, Membership, Presence, Record, Run, Session, Step, Update, Upload
from service.store.base import Change, Contended, Create, Drop, Hold, Page, Replace, StoreBroken, cut

__all__ = ["CONFIG", "DynamoStore"]

R = TypeVar("R", bound=Record)
Item = dict[str, Any]

CONFIG = Config(
    retries={"mode": "standard", "max_attempts": 6},
    connect_timeout=3,
    read_timeout=10,
    max_pool_connections=32,
)
#: Bytes of a text above which it is deflated: an item has at most 400 KiB.
_LONG = 32 * 1024
#: What DynamoDB takes in one request.
_MOST_READ, _MOST_DELETED = 100, 25
#: Tries, with growing pauses, of what DynamoDB did only in part.
_TRIES = 8
_META, _MEMBER, _SEEN, _STEP, _UPLOAD, _UPDATE, _EVENT = "META", "MEMBER", "SEEN", "STEP", "UPLOAD", "UPDATE", "EVENT"
_SORTED: Mapping[type[Any], str] = {
    Membership: _MEMBER,
    Presence: _SEEN,
    Step: _STEP,
    Upload: _UPLOAD,
    Update: _UPDATE,
    Event: _EVENT,
}
#: Why a transaction is cancelled: others were faster, or the table is busy.
_OTHERS = {"ConditionalCheckFailed", "TransactionConflict"}
_PUT_OFF = {"ThrottlingError", "ProvisionedThroughputExceeded", "TransactionInProgressException"}


class DynamoStore:
    """See `Store`.

    Parameters
    ----------
    table : str
        Its name; see `infrastructure/storage.tf`.
    client : optional
        botocore's for DynamoDB; by default one for the account and region of the environment.
    """

    def __init__(self, table: str, client: Any = None) -> None:
        self._table = table
        self._client = client or get_session().create_client("dynamodb", config=CONFIG)

    def write(self, *changes: Change) -> None:
        """See `Store`."""
        # The token makes a retry of what had happened already a success, where a condition would fail.
        told = {
            "TransactItems": [self._change(change) for change in changes],
            "ClientRequestToken": secrets.token_hex(16),
        }
        for pause in _pauses():
            with _broken():
                if self._written(told):
                    return
            time.sleep(pause)
        raise _busy()

    def _written(self, told: Item) -> bool:
        """Try to write, and tell whether that is decided; botocore does not itself repeat what is only put off."""
        try:
            self._client.transact_write_items(**told)
        except ClientError as error:
            if _reasons(error) & _PUT_OFF and "ConditionalCheckFailed" not in _reasons(error):
                return False
            raise
        return True

    def _change(self, change: Change) -> Item:
        record, table = change.record, {"TableName": self._table}
        if isinstance(change, Drop):
            return {"Delete": {**table, "Key": _key(record)}}
        if isinstance(change, Hold):
            return {"ConditionCheck": {**table, "Key": _key(record), **_version(change.record.version)}}
        condition: Item = {}
        if isinstance(change, Create):
            condition = {"ConditionExpression": "attribute_not_exists(pk)"}
        elif isinstance(change, Replace):
            condition = _version(change.record.version - 1)
        return {"Put": {**table, "Item": _item(record), **condition}}

    def _get(self, kind: type[R], partition: str, sort: str) -> R | None:
        with _broken():
            found = self._client.get_item(TableName=self._table, Key=_pair(partition, sort), ConsistentRead=True)
        return _record(kind, found["Item"]) if "Item" in found else None

    def _query(self, limit: int | None = None, **words: Any) -> list[Item]:
        """Return the items of one query, or its first ones; DynamoDB gives them a megabyte at a time."""
        items: list[Item] = []
        more: Item = {}
        with _broken():
            while limit is None or len(items) < limit:
                most = {} if limit is None else {"Limit": limit - len(items)}
                page = self._client.query(TableName=self._table, **words, **most, **more)
                items += page["Items"]
                if "LastEvaluatedKey" not in page:
                    break
                more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
        return items

    def _all(self, kind: type[R], run: str, prefix: str) -> tuple[R, ...]:
        """Return the records of a run whose sort keys begin so, by their own keys."""
        items = self._query(
            KeyConditionExpression="pk = :p AND begins_with(sk, :s)",
            ExpressionAttributeValues=_texts(p=_partition(run), s=f"{prefix}#"),
            ConsistentRead=True,
        )
        return tuple(sorted((_record(kind, item) for item in items), key=lambda record: record.key))

    def _after(self, kind: type[R], run: str, after: str, limit: int) -> list[R]:
        """Return the first records of a run whose keys in it, all of one length, come after another."""
        name = _SORTED[kind]
        items = self._query(
            limit,
            KeyConditionExpression="pk = :p AND sk BETWEEN :a AND :b",
            # '!' comes before and '~' after whatever a key is made of.
            ExpressionAttributeValues=_texts(p=_partition(run), a=f"{name}#{after}!", b=f"{name}#~"),
            ConsistentRead=True,
        )
        return [_record(kind, item) for item in items]

    def _index(self, name: str, partition: str, condition: str, after: str, limit: int, forward: bool) -> list[Item]:
        """Return the keys that an index lists after a cursor, at most one more than the limit."""
        values = {"p": partition, "a": after} if after else {"p": partition}
        return self._query(
            limit + 1,
            IndexName=name,
            KeyConditionExpression=f"{name}pk = :p" + (f" AND {name}sk {condition} :a" if after else ""),
            ExpressionAttributeValues=_texts(**values),
            ScanIndexForward=forward,
        )

    def _listed(self, kind: type[R], keys: Iterable[Item]) -> tuple[R, ...]:
        """Return the records of keys, in their order, less those that are gone."""
        wanted = [(key["pk"]["S"], key["sk"]["S"]) for key in keys]
        found: dict[tuple[str, str], R] = {}
        for start in range(0, len(wanted), _MOST_READ):
            for item in self._batch([_pair(*pair) for pair in wanted[start : start + _MOST_READ]]):
                found[item["pk"]["S"], item["sk"]["S"]] = _record(kind, item)
        return tuple(found[pair] for pair in wanted if pair in found)

    def _batch(self, keys: list[Item]) -> Iterator[Item]:
        left = {self._table: {"Keys": keys, "ConsistentRead": True}}
        for pause in _pauses():
            with _broken():
                answer = self._client.batch_get_item(RequestItems=left)
            yield from answer["Responses"].get(self._table, [])
            left = answer.get("UnprocessedKeys", {})
            if not left:
                return
            time.sleep(pause)
        raise _busy()

    def run(self, id: str) -> Run | None:
        """See `Store`."""
        return self._get(Run, _partition(id), _META)

    def runs(self, after: str, limit: int) -> Page[Run]:
        """See `Store`."""
        keys = self._index("gsi1", "RUNS", "<", after, limit, False)
        return self._listed(Run, keys[:limit]), _cursor(keys, "gsi1", limit)

    def membership(self, run: str, subject: str) -> Membership | None:
        """See `Store`."""
        return self._get(Membership, _partition(run), _joined(_MEMBER, subject))

    def memberships(self, run: str) -> tuple[Membership, ...]:
        """See `Store`."""
        return self._all(Membership, run, _MEMBER)

    def memberships_of(self, subject: str, after: str, limit: int) -> Page[Membership]:
        """See `Store`."""
        keys = self._index("gsi1", _joined("OF", subject), "<", after, limit, False)
        return self._listed(Membership, keys[:limit]), _cursor(keys, "gsi1", limit)

    def presences(self, run: str) -> tuple[Presence, ...]:
        """See `Store`."""
        return self._all(Presence, run, _SEEN)

    def step(self, run: str, number: int) -> Step | None:
        """See `Store`."""
        return self._get(Step, _partition(run), f"{_STEP}#{number:010d}")

    def steps(self, run: str, after: str, limit: int) -> Page[Step]:
        """See `Store`."""
        return cut(self._after(Step, run, after, limit + 1), limit, lambda step: step.key[1])

    def active(self, after: str, limit: int) -> Page[Step]:
        """See `Store`."""
        cursor = after
        while True:
            keys = self._index("gsi2", "ACTIVE", ">", cursor, limit, True)
            cursor = _cursor(keys, "gsi2", limit)
            # The index may not know yet that a step is over.
            found = tuple(step for step in self._listed(Step, keys[:limit]) if step.active)
            if found or not cursor:
                return found, cursor

    def update(self, run: str, step: int, site: str) -> Update | None:
        """See `Store`."""
        return self._get(Update, _partition(run), _joined(_UPDATE, f"{step:010d}", site))

    def updates(self, run: str, step: int) -> tuple[Update, ...]:
        """See `Store`."""
        return self._all(Update, run, f"{_UPDATE}#{step:010d}")

    def upload(self, run: str, step: int, site: str, id: str) -> Upload | None:
        """See `Store`."""
        return self._get(Upload, _partition(run), _joined(_UPLOAD, f"{step:010d}", site, id))

    def uploads(self, run: str, step: int) -> tuple[Upload, ...]:
        """See `Store`."""
        return self._all(Upload, run, f"{_UPLOAD}#{step:010d}")

    def events(self, run: str, after: str, limit: int) -> Page[Event]:
        """See `Store`."""
        found = tuple(self._after(Event, run, after, limit))
        return found, found[-1].id if found else after

    def answer(self, subject: str, route: str, name: str) -> Answer | None:
        """See `Store`."""
        return self._get(Answer, _joined("ANSWER", subject), _joined(route, name))

    def session(self, id: str) -> Session | None:
        """See `Store`."""
        return self._get(Session, _joined("SESSION", id), _META)

    def forget(self, run: str) -> None:
        """See `Store`."""
        items = self._query(
            KeyConditionExpression="pk = :p",
            ExpressionAttributeValues=_texts(p=_partition(run)),
            ProjectionExpression="pk, sk",
            ConsistentRead=True,
        )
        # The run itself last: while anything is left of it, it can be asked for, and forgotten again.
        keys = sorted(items, key=lambda item: bool(item["sk"]["S"] == _META))
        for start in range(0, len(keys), _MOST_DELETED):
            self._delete([{"DeleteRequest": {"Key": key}} for key in keys[start : start + _MOST_DELETED]])

    def _delete(self, requests: list[Item]) -> None:
        left = {self._table: requests}
        for pause in _pauses():
            with _broken():
                left = self._client.batch_write_item(RequestItems=left).get("UnprocessedItems", {})
            if not left:
                return
            time.sleep(pause)
        raise _busy()

    def sweep(self, now: int) -> None:
        """See `Store`; the table does it."""

    def close(self) -> None:
        """See `Store`."""
        self._client.close()


def _joined(*parts: str) -> str:
    """Return one text for several, equal for equal ones alone."""
    return "#".join(part.replace("%", "%25").replace("#", "%23") for part in parts)


def _partition(run: str) -> str:
    return _joined("RUN", run)


def _place(record: Record) -> tuple[str, str]:
    if isinstance(record, Answer):
        return _joined("ANSWER", record.subject), _joined(*record.key[1:])
    if isinstance(record, Session):
        return _joined("SESSION", record.id), _META
    if isinstance(record, Run):
        return _partition(record.id), _META
    return _partition(record.run), _joined(_SORTED[type(record)], *record.key[1:])


def _pair(partition: str, sort: str) -> Item:
    return {"pk": {"S": partition}, "sk": {"S": sort}}


def _key(record: Record) -> Item:
    return _pair(*_place(record))


def _texts(**values: str) -> Item:
    return {f":{name}": {"S": value} for name, value in values.items()}


def _version(wanted: int) -> Item:
    return {
        "ConditionExpression": "#version = :version",
        "ExpressionAttributeNames": {"#version": "version"},
        "ExpressionAttributeValues": {":version": {"N": str(wanted)}},
    }


def _item(record: Record) -> Item:
    item = {**_key(record), "kind": {"S": kind_of(record)}, "body": _body(dump(record))}
    if isinstance(record, Run | Membership | Step | Session):
        item["version"] = {"N": str(record.version)}
    if isinstance(record, Upload | Answer | Session):
        item["expires"] = {"N": str(record.expires // 1000 + 1)}
    for name, (partition, sort) in _indexed(record):
        item |= {f"{name}pk": {"S": partition}, f"{name}sk": {"S": sort}}
    return item


def _indexed(record: Record) -> Iterator[tuple[str, tuple[str, str]]]:
    if isinstance(record, Run):
        yield "gsi1", ("RUNS", record.id)
    if isinstance(record, Membership):
        yield "gsi1", (_joined("OF", record.subject), record.run)
    if isinstance(record, Step) and record.active:
        yield "gsi2", ("ACTIVE", "/".join(record.key))


def _body(text: str) -> Item:
    content = text.encode()
    return {"S": text} if len(content) <= _LONG else {"B": zlib.compress(content, 6)}


def _record(kind: type[R], item: Item) -> R:
    body = item["body"]
    return load(kind, body["S"] if "S" in body else zlib.decompress(body["B"]).decode())


def _cursor(keys: list[Item], name: str, limit: int) -> str:
    return str(keys[limit - 1][f"{name}sk"]["S"]) if len(keys) > limit else ""


def _pauses() -> Iterator[float]:
    yield from (0.02 * 2**number for number in range(_TRIES))


def _busy() -> StoreBroken:
    return StoreBroken("the service's table is busier than it can be; try again in a minute")


@contextmanager
def _broken() -> Iterator[None]:
    """Say in one way what AWS says in many."""
    try:
        yield
    except ClientError as error:
        if _reasons(error) & _OTHERS:
            raise Contended("the record has changed since it was read, or there is one already") from None
        raise _failed(error) from error
    except BotoCoreError as error:
        raise _failed(error) from error


def _reasons(error: ClientError) -> set[str]:
    """Return why a transaction was cancelled, or else what went wrong."""
    listed = {str(one.get("Code")) for one in error.response.get("CancellationReasons", [])} - {"None"}
    return listed or {str(error.response.get("Error", {}).get("Code"))}


def _failed(error: Exception) -> StoreBroken:
    return StoreBroken("the service's table cannot be read or written now; try again in a minute", str(error))
