"""Nothing tells that a private file exists: an id that is unknown gets the very same answers."""

from __future__ import annotations

import random
import re
import statistics
import time
import uuid
from typing import Any

import pytest

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.tests.torture import sight
from ckanext.bigquery_datastore.tests.visiting import visit

pytestmark = [
    pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins", "nothing_remembered"),
    pytest.mark.ckan_config("ckan.auth.allow_dataset_collaborators", "true"),
    pytest.mark.ckan_config("ckan.datastore.sqlsearch.enabled", "true"),
    pytest.mark.ckan_config("ckan.cors.origin_allow_all", "true"),
    pytest.mark.ckan_config(config.DUMP_SQL_ENABLED, "true"),
]

SEED = 16
OUTSIDERS = ("anonymous", "stranger", "expired token", "revoked token")

# What belongs to a moment or to the request, and not to what was asked for.
MOMENTS = {"Date", "Set-Cookie"}
CSRF = re.compile(r'(name="_csrf_token"[^>]*content=|value=)"[^"]*"')

PATHS = [
    *(f"/datastore/dump/{{id}}{rest}" for rest in ("", "/status", "/a.csv", "/a.csv/status")),
    *(f"/datastore/dump/{{id}}?format={name}" for name in ("csv", "tsv", "json", "xml", "parquet")),
    "/datastore/dump/{id}?limit=1",
    "/datastore/dump/{id}?filters=%7B%22topsecretcolumn%22:%22topsecretrow%22%7D",
    "/datastore/dump/{id}?sort=topsecretcolumn&fields=topsecretcolumn",
    *(f"/datastore/about/{{id}}/{rest}" for rest in ("formats", "datapackage.json")),
    "/datastore/about/{id}/dictionary.csv",
    "/datastore/dump_sql?sql=SELECT%20*%20FROM%20%22{id}%22",
    "/datastore/dump_sql/status?sql=SELECT%20*%20FROM%20%22{id}%22",
    *(f"/dataset/{{dataset}}/datastore/{{id}}{rest}" for rest in ("", "/status", "/delete")),
]


def ways(etag: str, modified: str) -> list[tuple[str, dict[str, str]]]:
    """Methods and headers that a visitor may try."""
    asked = {"Origin": "http://elsewhere.example"}
    return [
        ("GET", {}),
        ("GET", {"Accept": "text/html"}),
        ("HEAD", {}),
        ("OPTIONS", {}),
        ("POST", {}),
        ("GET", {"If-None-Match": etag}),
        ("GET", {"If-Modified-Since": modified}),
        ("HEAD", {"If-None-Match": etag}),
        ("GET", {"Range": "bytes=0-9"}),
        ("GET", {"Range": "bytes=0-9", "If-Range": etag}),
        ("GET", {"Prefer": "respond-async"}),
        ("GET", asked),
        ("OPTIONS", {**asked, "Access-Control-Request-Method": "GET"}),
    ]


class Things:
    """A private table with a file that is ready, one without, and an id that nobody knows."""

    def __init__(self, app: Any) -> None:
        self.app, self.house = app, sight.house()
        sight.resource(self.house, "with a file", private=True)
        sight.resource(self.house, "without a file", private=True)
        self.house.ids["unknown"] = str(uuid.uuid4())
        found = visit(app, self.ids["with a file"], **self.house.visitors["member"].headers)
        while "_hop=" in (found.location or ""):
            found = visit(app, self.ids["with a file"], **self.house.visitors["member"].headers)
        assert found.status_code == 302
        self.etag, self.modified = found.headers["ETag"], found.headers["Last-Modified"]

    @property
    def ids(self) -> dict[str, str]:
        return self.house.ids

    def names(self, thing: str) -> dict[str, str]:
        known = thing != "unknown"
        unknown = self.ids["unknown"]
        dataset = sight.dataset_of(self.ids[thing]) if known else unknown
        return {"id": self.ids[thing], "dataset": dataset}

    def answer(self, thing: str, path: str, role: str, method: str, sent: dict[str, str]) -> Any:
        """Status, headers and body without the names that were asked for."""
        names = self.names(thing)
        headers = {"User-Agent": "curl/8.5.0", **sent, **self.house.visitors[role].headers}
        answer = self.app.test_client().open(
            path.format(**names), method=method, headers=headers, follow_redirects=False
        )

        def plain(text: str) -> str:
            for name in names.values():
                text = text.replace(name, "…")
            return CSRF.sub("", text)

        told = sorted((k, plain(v)) for k, v in answer.headers.items() if k not in MOMENTS)
        return answer.status_code, told, plain(answer.get_data(as_text=True))


@pytest.fixture
def things(app: Any) -> Things:
    return Things(app)


def test_a_private_table_and_an_unknown_id_are_answered_alike(things, ledger, amount, seconds):
    asked = [
        (path, role, method, sent)
        for path in PATHS
        for role in OUTSIDERS
        for method, sent in ways(things.etag, things.modified)
    ]
    chosen = random.Random(SEED).sample(asked, amount(40, min(400, round(seconds(0, 200)))))
    told = []
    for path, role, method, sent in chosen:
        unknown = things.answer("unknown", path, role, method, sent)
        for thing in ("with a file", "without a file"):
            found = things.answer(thing, path, role, method, sent)
            if found != unknown or any(secret in str(found) for secret in sight.SECRETS):
                told.append(f"{method} {path} {sent} as {role}, {thing}: {found} not {unknown}")
    seen = "private, with a file and without one: as an id that nobody knows"
    ledger.add("what tells of a private file", 2 * len(chosen), len(told), seen)
    assert told == []


def test_the_real_etag_means_something_to_who_may_read(things):
    headers = {"If-None-Match": things.etag, **things.house.visitors["member"].headers}
    assert visit(things.app, things.ids["with a file"], **headers).status_code == 304
    assert (
        visit(things.app, things.ids["with a file"], If_None_Match=things.etag).status_code == 404
    )


@pytest.mark.parametrize(
    ("action", "key", "value"),
    [
        ("datastore_search", "resource_id", "{id}"),
        ("datastore_info", "id", "{id}"),
        ("datastore_search_sql", "sql", 'SELECT * FROM "{id}"'),
    ],
)
def test_whether_a_private_resource_has_a_table_is_told_to_nobody_else(things, action, key, value):
    sight.resource(things.house, "without a table", private=True, table=False)

    def told(thing: str, role: str) -> Any:
        id = things.ids[thing]
        headers = {**things.house.visitors[role].headers, "Content-Type": "application/json"}
        answer = things.app.test_client().post(
            f"/api/3/action/{action}", json={key: value.format(id=id)}, headers=headers
        )
        return answer.status_code, answer.get_data(as_text=True).replace(id, "…")

    for role in OUTSIDERS:
        assert told("with a file", role) == told("without a table", role)


def test_no_clock_tells_a_private_table_from_an_unknown_id(things, ledger, amount):
    names = ("with a file", "without a file", "unknown")
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(amount(15, 100)):
        for name in names:
            began = time.perf_counter()
            visit(things.app, things.ids[name])
            times[name].append(time.perf_counter() - began)
    middle = {name: statistics.median(found) for name, found in times.items()}
    seen = ", ".join(f"{name} {1000 * middle[name]:.1f} ms" for name in names)
    ledger.add("answers by the clock", sum(map(len, times.values())), 0, seen)
    for name in names[:2]:
        # A busy machine shifts all of them, so the fastest answers are looked at, too.
        ratio = max(
            min(middle[name] / middle["unknown"], min(times[name]) / min(times["unknown"])),
            min(middle["unknown"] / middle[name], min(times["unknown"]) / min(times[name])),
        )
        assert ratio < 1.5, seen
        assert min(times[name]) < max(times["unknown"]), seen
        assert min(times["unknown"]) < max(times[name]), seen
