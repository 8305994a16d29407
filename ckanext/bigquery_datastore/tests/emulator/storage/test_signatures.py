"""V4 signed URLs: whoever has one may read, until it expires (facts, section 5)."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Iterator

import httpx
import pytest
from google.cloud import storage
from google.oauth2 import service_account

from ..conftest import Emulator

CONTENT = b"0123456789"


@pytest.fixture
def sign(running: Emulator, bucket: storage.Bucket, fresh: str) -> Callable[..., str]:
    """Signs a URL of a fresh object with the emulator's throw-away key."""
    blob = bucket.blob(f"{fresh}/dätä.csv")
    blob.content_disposition = 'attachment; filename="data.csv"'
    blob.upload_from_string(CONTENT, content_type="text/csv; charset=utf-8")
    key = service_account.Credentials.from_service_account_file(str(running.key_file))

    def signed(**options: object) -> str:
        options = {"expiration": datetime.timedelta(hours=1), **options}
        return blob.generate_signed_url(
            version="v4", credentials=key, api_access_endpoint=running.storage_url, **options
        )

    return signed


def test_a_signed_url_gives_the_object_with_its_headers(sign: Callable[..., str]) -> None:
    answer = httpx.get(sign())
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="data.csv"'
    assert answer.headers["content-length"] == "10"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"] == f'"{hashlib.md5(CONTENT).hexdigest()}"'
    assert answer.headers["x-goog-generation"].isdigit()


def test_the_url_can_name_the_file(sign: Callable[..., str]) -> None:
    named = "attachment; filename*=UTF-8''fl%C3%BCge.csv"
    answer = httpx.get(sign(response_disposition=named))
    assert answer.headers["content-disposition"] == named


@pytest.mark.parametrize(
    ("range_", "status", "content", "where"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
    ],
)
def test_a_range_of_a_signed_url(
    sign: Callable[..., str], range_: str, status: int, content: bytes | None, where: str
) -> None:
    answer = httpx.get(sign(), headers={"Range": range_})
    assert (answer.status_code, answer.headers["content-range"]) == (status, where)
    if content is not None:
        assert answer.content == content
        assert answer.headers["content-disposition"] == 'attachment; filename="data.csv"'


def test_a_download_is_resumed_only_from_the_same_object(sign: Callable[..., str]) -> None:
    url = sign()
    etag = httpx.get(url).headers["etag"]
    same = httpx.get(url, headers={"Range": "bytes=5-", "If-Range": etag})
    other = httpx.get(url, headers={"Range": "bytes=5-", "If-Range": '"another"'})
    assert (same.status_code, same.content) == (206, CONTENT[5:])
    assert (other.status_code, other.content) == (200, CONTENT)
    assert httpx.get(url, headers={"If-None-Match": etag}).status_code == 304


def test_an_expired_url_is_refused(sign: Callable[..., str]) -> None:
    signed_at = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=2)
    url = sign(expiration=datetime.timedelta(seconds=1))
    stamp = httpx.URL(url).params["X-Goog-Date"]
    old = url.replace(stamp, signed_at.strftime("%Y%m%dT%H%M%SZ"))
    answer = httpx.get(old)
    assert (answer.status_code, "<Code>ExpiredToken</Code>" in answer.text) == (400, True)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda url: url + "&response-content-disposition=inline",
        lambda url: url.replace("X-Goog-Expires=3600", "X-Goog-Expires=604800"),
        lambda url: url.replace(".csv?", ".csv2?"),
        lambda url: url[:-4] + "0000",
    ],
)
def test_a_url_that_was_changed_is_refused(
    sign: Callable[..., str], tamper: Callable[[str], str]
) -> None:
    answer = httpx.get(tamper(sign()))
    assert (answer.status_code, "<Code>SignatureDoesNotMatch</Code>" in answer.text) == (403, True)


def test_a_url_is_signed_for_one_method(sign: Callable[..., str]) -> None:
    assert httpx.head(sign(method="HEAD")).headers["content-length"] == "10"
    assert httpx.head(sign()).status_code == 403


def test_a_signed_url_of_nothing_is_no_such_key(
    running: Emulator, bucket: storage.Bucket, fresh: str
) -> None:
    key = service_account.Credentials.from_service_account_file(str(running.key_file))
    url = bucket.blob(fresh).generate_signed_url(
        version="v4",
        credentials=key,
        api_access_endpoint=running.storage_url,
        expiration=datetime.timedelta(hours=1),
    )
    answer = httpx.get(url)
    assert (answer.status_code, "<Code>NoSuchKey</Code>" in answer.text) == (404, True)


RULES = [
    {"origin": ["https://only.example"], "method": ["PUT"], "maxAgeSeconds": 60},
    {"origin": ["*"], "method": ["GET", "HEAD"], "responseHeader": ["Range", "ETag"]},
]


@pytest.fixture
def shared(bucket: storage.Bucket) -> Iterator[None]:
    """The bucket with rules for scripts of other sites."""
    bucket.cors = RULES
    bucket.patch()
    yield
    bucket.cors = []
    bucket.patch()


@pytest.mark.parametrize("origin", ["https://portal.example", "null"])
def test_a_script_of_another_site_may_read_where_the_bucket_says_so(
    sign: Callable[..., str], shared: None, origin: str
) -> None:
    answer = httpx.get(sign(), headers={"Origin": origin})
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-expose-headers"] == "Range, ETag"
    # So that it can tell why it may not.
    refused = httpx.get(sign() + "x", headers={"Origin": origin})
    assert refused.status_code == 403 and "access-control-allow-origin" in refused.headers


def test_a_browser_is_told_before_it_asks(sign: Callable[..., str], shared: None) -> None:
    def ask(method: str, headers: str, origin: str = "https://portal.example") -> dict[str, str]:
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": headers,
        }
        answer = httpx.options(sign(), headers=asked)
        assert answer.status_code == 200
        return {k: v for k, v in answer.headers.items() if k.startswith("access-control")}

    allowed = ask("GET", "range")
    assert allowed["access-control-allow-origin"] == "*"
    assert allowed["access-control-allow-methods"] == "GET, HEAD"
    assert allowed["access-control-allow-headers"] == "range"
    assert ask("GET", "x-other") == ask("DELETE", "") == ask("PUT", "") == {}
    own = ask("PUT", "", "https://only.example")
    assert own["access-control-allow-origin"] == "https://only.example"
    assert own["access-control-max-age"] == "60"


def test_a_bucket_without_rules_tells_no_script(sign: Callable[..., str]) -> None:
    answer = httpx.get(sign(), headers={"Origin": "https://portal.example"})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]
