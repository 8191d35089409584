"""Files in a private S3 bucket, sent and fetched by URLs that S3 itself checks (Signature Version 4).

What single sites sent lies under `updates/` and nothing else does, so that one rule of the bucket deletes it after some
days, whatever becomes of its run; rules know beginnings of keys only.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256 as sha256_of
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

from service.blobs.base import BlobError, BlobExists, BlobMissing, Signed, check_key

__all__ = ["CONFIG", "S3Blobs"]

#: Without the first of them botocore signs in a Lambda by a version that is refused, or believed unchecked, elsewhere.
#: The second names the bucket's own region, since the host of all regions redirects, and a signature is for one host.
#: The next two keep it from adding checksums of its own, which whoever uses the URL would have to send as well.
CONFIG = Config(
    signature_version="s3v4",
    s3={"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    retries={"mode": "standard", "max_attempts": 6},
    connect_timeout=3,
    read_timeout=30,
    max_pool_connections=32,
)
_TYPE = "application/octet-stream"
_SINGLE = re.compile(r"runs/([^/]+)/steps(?=/|$)")
_MISSING = {"NoSuchKey", "404", "NotFound"}
_TAKEN = {"PreconditionFailed", "412"}
#: Another write of the same key is under way; it ends one way or the other.
_UNDECIDED = {"ConditionalRequestConflict", "409"}
_TRIES = 5


class S3Blobs:
    """See `Blobs`.

    Parameters
    ----------
    bucket : str
        Its name; see `infrastructure/storage.tf`.
    client : optional
        botocore's for S3; by default one for the account and region of the environment.
    """

    def __init__(self, bucket: str, client: Any = None) -> None:
        self._bucket = bucket
        self._client = client or get_session().create_client("s3", config=CONFIG)

    def sign_put(self, key: str, size: int, sha256: str, now: int, seconds: int) -> Signed:
        """See `Blobs`."""
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()
        told = {"ContentLength": size, "ContentType": _TYPE, "ChecksumSHA256": checksum, "IfNoneMatch": "*"}
        url = self._sign("put_object", seconds, Key=_placed(key), **told)
        headers = {"Content-Type": _TYPE, "If-None-Match": "*", "x-amz-checksum-sha256": checksum}
        return Signed("PUT", url, headers, now + 1000 * seconds)

    def sign_get(self, key: str, now: int, seconds: int, name: str = "") -> Signed:
        """See `Blobs`."""
        told = {"ResponseContentDisposition": f'attachment; filename="{_plain(name)}"'} if name else {}
        url = self._sign("get_object", seconds, Key=_placed(key), **told)
        return Signed("GET", url, {}, now + 1000 * seconds)

    def _sign(self, verb: str, seconds: int, **told: Any) -> str:
        words = {"Bucket": self._bucket, **told}
        with _failing():
            url: str = self._client.generate_presigned_url(verb, Params=words, ExpiresIn=seconds)
        if "X-Amz-Algorithm=AWS4-HMAC-SHA256" not in url:
            raise BlobError("a file's URL would be signed by a version that holds nothing; let the client use s3v4")
        return url

    def write(self, key: str, content: bytes) -> None:
        """See `Blobs`."""
        checksum = base64.b64encode(sha256_of(content).digest()).decode()
        words = {"Bucket": self._bucket, "Key": _placed(key), "Body": content, "ContentType": _TYPE}
        for _ in range(_TRIES):
            try:
                self._client.put_object(**words, ChecksumSHA256=checksum, IfNoneMatch="*")
                return
            except ClientError as error:
                if _code(error) in _TAKEN:
                    self._expect_same(key, content)
                    return
                if _code(error) not in _UNDECIDED:
                    raise _failed(error) from error
            except BotoCoreError as error:
                raise _failed(error) from error
        raise BlobError("others write the same file all the time; try again in a second", key)

    def _expect_same(self, key: str, content: bytes) -> None:
        try:
            same = self.read(key, len(content)) == content
        except BlobMissing:
            same = False
        if not same:
            raise BlobExists("there is another file under that key, and files never change")

    def read(self, key: str, most: int) -> bytes:
        """See `Blobs`."""
        with _failing():
            answer = self._client.get_object(Bucket=self._bucket, Key=_placed(key))
            with answer["Body"] as body:
                if answer["ContentLength"] > most:
                    raise BlobMissing(f"the file is larger than {most} bytes")
                content: bytes = body.read()
        return content

    def delete(self, key: str) -> None:
        """See `Blobs`."""
        with _failing():
            self._client.delete_object(Bucket=self._bucket, Key=_placed(key))

    def delete_under(self, prefix: str) -> None:
        """See `Blobs`."""
        under = _placed(prefix)
        # A whole run lies in two places.
        for place in {under, under.replace("runs/", "updates/", 1)}:
            with _failing():
                self._delete_all(f"{place}/")

    def _delete_all(self, prefix: str) -> None:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        for page in pages:
            if keys := [{"Key": one["Key"]} for one in page.get("Contents", [])]:
                told = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": keys, "Quiet": True})
                if told.get("Errors"):
                    raise BlobError("files of the service cannot be deleted; mend its role", str(told["Errors"][:3]))


def _placed(key: str) -> str:
    """Return where a file lies in the bucket."""
    return _SINGLE.sub(r"updates/\1", check_key(key), count=1)


def _plain(name: str) -> str:
    """Return a name that means nothing else within quotes of a header."""
    return re.sub(r"[^A-Za-z0-9._ -]", "_", name)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _failed(error: Exception) -> BlobError:
    return BlobError("the service's bucket cannot be read or written now; try again in a minute", str(error))


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if _code(error) in _MISSING:
            raise BlobMissing("there is no such file") from None
        raise _failed(error) from error
    except BotoCoreError as error:
        raise _failed(error) from error
