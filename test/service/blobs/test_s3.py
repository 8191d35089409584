"""What a signed URL of S3 lets its bearer do, and what not; where files lie; a bucket that fails."""

import base64
import hashlib
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("boto3", reason="AWS'S STORE AND FILES ARE NOT TESTED: its extra is not installed")
from service.blobs.base import BlobError, BlobMissing
from service.blobs.s3 import CONFIG, S3Blobs

KEY = "runs/x/steps/0000000001/a/u"
CONTENT = b"c" * 500
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NOW = int(time.time() * 1000)


def _send(signed, content=CONTENT, method="PUT", url=None, **changed):
    headers = {name: value for name, value in {**signed.headers, **changed}.items() if value is not None}
    request = urllib.request.Request(url or signed.url, content, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.read()
        return error.code


def test_an_announced_file_is_taken_once(s3):
    signed = s3.sign_put(KEY, len(CONTENT), DIGEST, NOW, 60)
    assert (signed.method, signed.expires) == ("PUT", NOW + 60_000)
    assert _send(signed) == 200
    assert s3.read(KEY, 500) == CONTENT
    assert _send(signed) == 412
    assert s3.read(KEY, 500) == CONTENT


def test_size_content_type_digest_and_condition_are_signed(s3):
    url = s3.sign_put(KEY, len(CONTENT), DIGEST, NOW, 60).url
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == ["60"]
    wanted = {"content-length", "content-type", "host", "if-none-match", "x-amz-checksum-sha256"}
    assert set(query["X-Amz-SignedHeaders"][0].split(";")) == wanted


def test_nothing_else_can_be_sent_to_it(s3):
    signed = s3.sign_put(KEY, len(CONTENT), DIGEST, NOW, 60)
    other = base64.b64encode(hashlib.sha256(b"d" * 500).digest()).decode()
    assert _send(signed, CONTENT + b"c") in (400, 403)
    assert _send(signed, CONTENT[:-1]) in (400, 403)
    assert _send(signed, b"d" * 500) == 400
    assert _send(signed, b"d" * 500, **{"x-amz-checksum-sha256": other}) == 403
    assert _send(signed, **{"If-None-Match": None}) == 403
    assert _send(signed, **{"x-amz-checksum-sha256": None}) == 403
    assert _send(signed, **{"Content-Type": "text/html"}) == 403
    assert _send(signed, url=signed.url.replace("/u?", "/v?")) == 403
    assert _send(signed, None, method="GET") == 403
    assert _send(signed, None, method="DELETE") == 403
    assert _send(signed, url=signed.url.partition("?")[0]) == 403
    assert _send(signed, url=re.sub("X-Amz-Expires=60", "X-Amz-Expires=6000", signed.url)) == 403
    with pytest.raises(BlobMissing):
        s3.read(KEY, 500)


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_its_host_is_the_buckets_own_as_others_redirect(region):
    import boto3
    from emulator import DUMMY

    client = boto3.client("s3", **{**DUMMY, "region_name": region}, config=CONFIG)
    for signed in (
        S3Blobs("b-1", client).sign_get("a", NOW, 60),
        S3Blobs("b-1", client).sign_put("a", 1, DIGEST, 0, 9),
    ):
        assert signed.url.startswith(f"https://b-1.s3.{region}.amazonaws.com/a?X-Amz-Algorithm=AWS4-HMAC-SHA256")


def test_it_expires(s3):
    signed = s3.sign_put(KEY, len(CONTENT), DIGEST, NOW, 1)
    time.sleep(2.1)
    assert _send(signed) == 403


def test_of_many_that_send_at_once_one_does(s3):
    signed = s3.sign_put(KEY, len(CONTENT), DIGEST, NOW, 60)
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda _: _send(signed), range(16)))
    assert sorted(set(statuses)) in ([200, 412], [200, 409, 412])
    assert statuses.count(200) == 1


def test_a_file_is_fetched_by_its_url_alone_and_under_a_harmless_name(s3):
    s3.write("runs/x/content/a", b"model")
    signed = s3.sign_get("runs/x/content/a", NOW, 60, 'a"; filename=evil.exe\r\nX: ü')
    with urllib.request.urlopen(signed.url, timeout=10) as answer:
        assert answer.read() == b"model"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="a__ filename_evil.exe__X_ _"'
    assert _send(signed, None, "GET", signed.url.replace("content/a", "content/b")) in (403, 404)
    assert _send(signed, b"x", "PUT") == 403


def test_single_updates_lie_where_the_buckets_rule_deletes_them(s3, emulator):
    rule = (Path(__file__).parents[3] / "infrastructure/storage.tf").read_text()
    assert 'prefix = "updates/"' in rule
    for key in (KEY, "runs/x/content/c", "runs/x/state/s", "runs/y/steps/0/a/u"):
        s3.write(key, b"1")
    listed = emulator.client("s3").list_objects_v2(Bucket=s3._bucket)["Contents"]
    keys = {one["Key"] for one in listed}
    assert keys == {"updates/x/0000000001/a/u", "updates/y/0/a/u", "runs/x/content/c", "runs/x/state/s"}
    s3.delete_under("runs/x/steps/0000000001")
    s3.delete_under("runs/y")
    assert s3.read("runs/x/content/c", 1) == b"1"
    for key in (KEY, "runs/y/steps/0/a/u"):
        with pytest.raises(BlobMissing):
            s3.read(key, 1)


def test_more_files_than_one_request_lists_are_deleted(s3):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: s3.write(f"runs/x/a{number}", b"1"), range(1_010)))
    s3.delete_under("runs/x")
    with pytest.raises(BlobMissing):
        s3.read("runs/x/a1009", 1)


def test_a_client_that_signs_by_the_old_version_is_refused(emulator):
    old = emulator.client("s3", config=CONFIG.merge(type(CONFIG)(signature_version="s3")))
    for sign in (lambda one: one.sign_get("a", NOW, 60), lambda one: one.sign_put("a", 1, DIGEST, NOW, 60)):
        with pytest.raises(BlobError, match="s3v4"):
            sign(S3Blobs("bucket", old))


def test_a_bucket_that_is_not_there_is_an_error_and_no_missing_file(emulator):
    blobs = S3Blobs("nowhere", emulator.client("s3", config=CONFIG))
    for use in (
        lambda: blobs.write("a", b"1"),
        lambda: blobs.read("a", 1),
        lambda: blobs.delete_under("a"),
    ):
        with pytest.raises(BlobError) as caught:
            use()
        assert type(caught.value) is BlobError


def test_a_bucket_that_cannot_be_reached_is_an_error():
    import boto3
    from emulator import DUMMY

    config = CONFIG.merge(type(CONFIG)(retries={"max_attempts": 1}))
    blobs = S3Blobs("bucket", boto3.client("s3", endpoint_url="http://127.0.0.1:9", **DUMMY, config=config))
    for use in (lambda: blobs.write("a", b"1"), lambda: blobs.read("a", 1), lambda: blobs.delete("a")):
        with pytest.raises(BlobError) as caught:
            use()
        assert "127.0.0.1" not in caught.value.public
