"""Of what fails on the site's side, visitors hear the gist and a number; the log has the rest."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest
from ckan.tests import factories
from ckan.tests.helpers import call_action
from google.api_core import exceptions as gexc

from ckanext.bigquery_datastore import clients, config, gist
from ckanext.bigquery_datastore.dump import export
from ckanext.bigquery_datastore.errors import BadRequest, NotReachable
from ckanext.bigquery_datastore.tests.visiting import visit

pytestmark = pytest.mark.usefixtures("clean_db", "datastore", "with_plugins", "nothing_remembered")

SECRET = "Access Denied: Table local:test.x: robot@local.iam.gserviceaccount.com may not read it"


@pytest.fixture
def resource() -> str:
    id = factories.Resource()["id"]
    call_action("datastore_create", resource_id=id, force=True, records=[{"n": 1}])
    return id


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Google refuses exports and searches, in its own words."""

    def refuse(*_: Any, **__: Any) -> Any:
        with clients.told("a look at the table"):
            raise gexc.Forbidden(SECRET, errors=[{"message": SECRET, "reason": "accessDenied"}])

    monkeypatch.setattr(export, "submit", refuse)
    monkeypatch.setattr("ckanext.bigquery_datastore.backend.query.iterate", refuse)
    monkeypatch.setattr("ckanext.bigquery_datastore.backend.query.read", refuse)


def number_in(text: str) -> str:
    found = re.search(r"number ([0-9a-f]{8}) in the site", text)
    assert found, text
    return found[1]


def search(app: Any, resource: str, **headers: str) -> Any:
    filters = json.dumps({"n": 1})
    return app.test_client().get(
        "/api/3/action/datastore_search",
        query_string={"resource_id": resource, "filters": filters},
        headers=headers,
    )


WAYS = {
    "a script": lambda app, id, **headers: visit(app, id, **headers),
    "a browser": lambda app, id, **headers: visit(app, id, Accept="text/html", **headers),
    "the status": lambda app, id, **headers: visit(app, id, suffix="/status", **headers),
    "a search": search,
}


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize("way", WAYS)
def test_a_visitor_hears_the_gist_and_the_log_has_the_details(
    app: Any, resource: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger=gist.__name__):
        answer = WAYS[way](app, resource)
    assert answer.status_code in (409, 502)
    assert "people who run this site can help" in answer.text
    for word in ("Access Denied", "robot", "gserviceaccount", "local:test"):
        assert word not in answer.text
    lines = [record.getMessage() for record in caplog.records if record.name == gist.__name__]
    assert any(number_in(answer.text) in line and SECRET in line for line in lines)


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize("way", WAYS)
def test_a_sysadmin_reads_the_details_with_the_number(app: Any, resource: str, way: str) -> None:
    token = factories.APIToken(user=factories.Sysadmin()["name"])["token"]
    answer = WAYS[way](app, resource, Authorization=token)
    assert "robot@local.iam.gserviceaccount.com" in answer.text
    assert number_in(answer.text)


def test_the_same_failure_has_the_same_number(app: Any, resource: str, refused: None) -> None:
    numbers = {number_in(visit(app, resource).text) for _ in range(2)}
    assert len(numbers) == 1


def test_the_log_has_a_failure_on_one_line(app: Any, caplog: pytest.LogCaptureFixture) -> None:
    with app.flask_app.test_request_context("/"), caplog.at_level(logging.WARNING):
        gist.message(NotReachable("no answer\n2026-01-01 INFO [ckan] all is well"))
    (record,) = (record for record in caplog.records if record.name == gist.__name__)
    assert "\n" not in record.getMessage()


# What Google says of a site, and what a visitor reads of it. P, D and B stand for its places.
PLACES = {
    "Table P:D.abc was not found": "Table abc was not found",
    "Table `P`.`D`.abc": "Table abc",
    "Table P.D.abc": "Table abc",
    "Dataset P:D was not found": "Dataset … was not found",
    "in projects/P/datasets/D": "in projects/…",
    "User lacks x in project P.": "User lacks x in project ….",
    "Access Denied: Project P: no": "Access Denied: Project …: no",
    "The bucket B is gone": "The bucket … is gone",
    "gs://B/a and robot@x.iam.gserviceaccount.com": "… and …",
    "the metaP.x of a P": "the metaP.x of a P",
}


@pytest.mark.parametrize("text", PLACES)
@pytest.mark.parametrize("project", ["data", "my-project-1"])
def test_what_is_wrong_with_a_request_is_said_without_the_places_at_google(
    app: Any, monkeypatch: pytest.MonkeyPatch, text: str, project: str
) -> None:
    places = {"P": project, "D": "open", "B": "my-bucket-exports"}
    monkeypatch.setattr(config, "project", lambda: places["P"])
    monkeypatch.setattr(config, "dataset", lambda: places["D"])
    monkeypatch.setattr(config, "export_bucket", lambda: places["B"])

    def filled(words: str) -> str:
        return re.sub(r"(?<![A-Z])[PDB](?![a-zA-Z])", lambda found: places[found[0]], words)

    with app.flask_app.test_request_context("/"):
        assert gist.message(BadRequest(filled(text))) == filled(PLACES[text])
