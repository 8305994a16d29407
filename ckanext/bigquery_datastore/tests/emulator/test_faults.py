"""What goes wrong on demand, and the record of what was asked."""

from __future__ import annotations

import time

import httpx
import pytest
import requests
from google.api_core.exceptions import (
    Forbidden,
    NotFound,
    PreconditionFailed,
    ServiceUnavailable,
)
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, storage
from google.oauth2 import service_account

from .conftest import LOCATION, Emulator, _environment, until


def fault(emulator: Emulator, service: str, **rule: object) -> dict[str, object]:
    return emulator.admin("POST", "faults", {"service": service, **rule})


def test_a_refusal_meets_as_many_requests_as_it_says(
    emulator: Emulator, bucket: storage.Bucket, fresh: str
) -> None:
    fault(emulator, "storage", method="GET", path=f"/o/{fresh}", status=503, skip=1, times=2)
    blob = bucket.blob(fresh)
    outcomes = []
    for _ in range(4):
        try:
            blob.reload(retry=None)
        except ServiceUnavailable:
            outcomes.append(503)
        except NotFound:
            outcomes.append(404)
    assert outcomes == [404, 503, 503, 404]


def test_googles_client_overcomes_a_passing_failure(
    emulator: Emulator, bucket: storage.Bucket, fresh: str
) -> None:
    bucket.blob(fresh).upload_from_string("x")
    fault(emulator, "storage", method="GET", path=fresh, status=503, headers={"Retry-After": "1"})
    assert bucket.blob(fresh).download_as_bytes() == b"x"


def test_a_permission_can_be_missing(emulator: Emulator, bq: bigquery.Client, dataset: str) -> None:
    fault(
        emulator,
        "bigquery",
        method="GET",
        path="/tables/",
        reason="accessDenied",
        message="Access Denied: Table t: Permission bigquery.tables.get denied",
    )
    with pytest.raises(Forbidden, match=r"Permission bigquery\.tables\.get denied") as caught:
        bq.get_table(f"local.{dataset}.t")
    assert caught.value.errors[0]["reason"] == "accessDenied"


def test_a_connection_can_be_dropped(
    emulator: Emulator, bucket: storage.Bucket, fresh: str
) -> None:
    fault(emulator, "storage", path=fresh, drop=True)
    with pytest.raises(requests.exceptions.ConnectionError):
        bucket.blob(fresh).reload(retry=None)
    fault(emulator, "bigquery", path="/jobs", drop=True)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{emulator.bigquery_url}/bigquery/v2/projects/local/jobs")


def test_an_answer_can_be_lost_after_its_effect(
    emulator: Emulator, bucket: storage.Bucket, fresh: str
) -> None:
    part = bucket.blob(f"{fresh}/part")
    part.upload_from_string("x")
    fault(emulator, "storage", method="POST", path="/compose", status=503, when="after")
    # The client tries again, and meets what its first try has made.
    with pytest.raises(PreconditionFailed):
        bucket.blob(f"{fresh}/whole").compose([part], if_generation_match=0)
    assert bucket.blob(f"{fresh}/whole").download_as_bytes() == b"x"


def test_a_job_can_start_though_its_insertion_failed(
    emulator: Emulator, bq: bigquery.Client, fresh: str
) -> None:
    fault(emulator, "bigquery", method="POST", path="/jobs", drop=True, when="after")
    with pytest.raises(requests.exceptions.ConnectionError):
        bq.query("SELECT 1", job_id=fresh, location=LOCATION, job_retry=None, retry=None)
    assert bq.get_job(fresh, location=LOCATION).state == "DONE"


def test_a_body_can_be_cut_short(emulator: Emulator, bucket: storage.Bucket, fresh: str) -> None:
    bucket.blob(fresh).upload_from_string("0123456789" * 1000)
    fault(emulator, "storage", path=f"/o/{fresh}.*alt=media", truncate=2500)
    url = f"{emulator.storage_url}/storage/v1/b/exports/o/{fresh}?alt=media"
    received = b""
    with pytest.raises(httpx.RemoteProtocolError), httpx.stream("GET", url) as answer:
        assert answer.headers["content-length"] == "10000"
        for chunk in answer.iter_raw():
            received += chunk
    assert received == b"0123456789" * 250
    assert bucket.blob(fresh).download_as_bytes() == b"0123456789" * 1000


def test_an_answer_can_be_slow(emulator: Emulator, bucket: storage.Bucket, fresh: str) -> None:
    fault(emulator, "storage", path=fresh, delay=0.4)
    started = time.monotonic()
    assert bucket.get_blob(fresh) is None
    assert time.monotonic() - started >= 0.4


def test_a_rule_can_look_into_the_body(emulator: Emulator, bq: bigquery.Client) -> None:
    fault(emulator, "bigquery", body="SELECT 17", reason="backendError", status=500)
    answer = httpx.post(
        f"{emulator.bigquery_url}/bigquery/v2/projects/local/queries",
        json={"query": "SELECT 17", "useLegacySql": False},
    )
    assert answer.status_code == 500
    assert [row[0] for row in bq.query_and_wait("SELECT 18")] == [18]


def test_requests_are_counted_with_who_made_them(
    emulator: Emulator, bucket: storage.Bucket, fresh: str
) -> None:
    bucket.blob(fresh).upload_from_string("x")
    credentials = service_account.Credentials.from_service_account_file(
        str(emulator.key_file), scopes=["https://www.googleapis.com/auth/cloud-platform"]
    )
    with _environment("STORAGE_EMULATOR_HOST", emulator.storage_url):
        client = storage.Client(project="local", credentials=credentials)
    client.bucket("exports").blob(fresh).reload()
    bucket.blob(fresh).reload()
    found = emulator.admin("GET", f"requests?service=storage&method=GET&path={fresh}")
    assert found["count"] == 2
    assert found["identities"] == {
        "emulator@local.iam.gserviceaccount.com": 1,
        "anonymous": 1,
    }


def test_a_client_that_goes_away_stops_the_stream(
    emulator: Emulator, bucket: storage.Bucket, fresh: str
) -> None:
    part = bucket.blob(f"{fresh}/part")
    part.upload_from_string(b"x" * 8_000_000)
    bucket.blob(f"{fresh}/whole").compose([part] * 20)
    name = f"{fresh}%2Fwhole"
    url = f"{emulator.storage_url}/storage/v1/b/exports/o/{name}?alt=media"
    with httpx.stream("GET", url) as answer:
        next(answer.iter_raw())

    def seen() -> list[dict[str, int]]:
        return emulator.admin("GET", f"requests?path={fresh}/whole&method=GET")["requests"]

    assert until(seen)[0]["sent"] < 160_000_000


def test_a_wrong_rule_is_refused(emulator: Emulator) -> None:
    for rule in ({"service": "moon"}, {"path": "("}, {"unknown": 1}, {"when": "later"}):
        answer = httpx.post(f"{emulator.bigquery_url}/emulator/faults", json=rule)
        assert answer.status_code == 400
    assert emulator.admin("GET", "faults") == {"faults": []}


def test_anonymous_clients_are_welcome(emulator: Emulator) -> None:
    with _environment("BIGQUERY_EMULATOR_HOST", emulator.bigquery_url):
        client = bigquery.Client(project="local", credentials=AnonymousCredentials())
    assert [row[0] for row in client.query_and_wait("SELECT 1")] == [1]
