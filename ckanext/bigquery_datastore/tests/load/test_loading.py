"""A resource's file becomes its table by itself, step by step, by whatever worker."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import rq
from ckan import model
from ckan.cli.cli import ckan
from ckan.lib import jobs
from ckan.plugins import toolkit as tk
from ckan.tests import factories
from ckan.tests.helpers import call_action
from google.auth.transport.requests import AuthorizedSession
from werkzeug.datastructures import FileStorage

from ckanext.bigquery_datastore import clients, config, downloads, load, loading
from ckanext.bigquery_datastore.loading import steps
from ckanext.bigquery_datastore.tests.dump.exporting import Place

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")


@pytest.fixture(autouse=True)
def queue(with_plugins: None, with_request_context: None) -> Iterator[rq.Queue]:
    found = jobs.get_queue(steps.QUEUE)
    found.empty()
    yield found
    found.empty()


def file(data: bytes | str, name: str = "rows.csv") -> FileStorage:
    return FileStorage(io.BytesIO(data.encode() if isinstance(data, str) else data), name)


def uploaded(data: bytes | str, **more: Any) -> str:
    """The id of a resource whose file was just uploaded."""
    more = {"format": "CSV", "url": "", **more}
    dataset = more.pop("dataset", None) or factories.Dataset()["id"]
    return call_action("resource_create", package_id=dataset, upload=file(data), **more)["id"]


def upload_again(id: str, data: bytes | str, **more: Any) -> None:
    call_action("resource_patch", id=id, upload=file(data), url="", **more)


def work(queue: rq.Queue, most: int = 100) -> int:
    """Do what waits, one job after the other, as a worker does; how many jobs that were."""
    for done in range(most):
        waiting = queue.jobs
        if not waiting:
            return done
        queue.remove(waiting[0])
        waiting[0].perform()
    return most


def status(id: str) -> dict[str, Any]:
    return call_action("bigquery_load_status", resource_id=id)


def rows(id: str) -> list[dict[str, Any]]:
    return call_action("datastore_search", resource_id=id, sort="_id", limit=1000)["records"]


def said(id: str) -> str:
    return "\n".join(line["message"] for line in status(id)["log"])


def left() -> tuple[int, int]:
    """Objects and tables of loads."""
    place = Place(config.dataset(), config.export_bucket())
    tables = [table.table_id for table in place.bigquery.list_tables(place.dataset)]
    staging = [name for name in tables if name.startswith(load.STAGING_PREFIX)]
    return len(place.store.list(load.ROOT)), len(staging)


@pytest.mark.ckan_config("ckan.views.default_views", "datatables_view")
def test_an_upload_is_loaded_once_and_shown(queue: rq.Queue) -> None:
    before = left()
    id = uploaded("größe;plz\n1,5;01067\n2,5;x\n".encode("cp1252"))
    found = status(id)
    assert (found["state"], found["mode"], found["datastore_active"]) == (
        "waiting",
        "replace",
        False,
    )
    # A file that is changed while it waits is one load of its last state.
    upload_again(id, "größe;plz\n1,5;01067\n".encode("cp1252"))
    assert len(queue.job_ids) == 1
    work(queue)
    found = status(id)
    assert (found["state"], found["rows"], found["error"]) == ("complete", 1, None), found
    assert found["file"] == {
        "name": "rows.csv",
        "format": "csv",
        "bytes": 20,
        "hash": found["file"]["hash"],
        "sheet": None,
    }
    assert found["started"] <= found["finished"] and found["seconds"] >= 0
    assert 'The file is read as cp1252, with ";" between its columns.' in said(id)
    assert rows(id) == [{"_id": 1, "größe": "1,5", "plz": "01067"}]
    assert found["datastore_active"]
    views = [view["view_type"] for view in call_action("resource_view_list", id=id)]
    assert views == ["datatables_view"]
    assert left() == before
    # Neither what the load has changed, nor a text about the file, is a new file …
    call_action("resource_patch", id=id, description="A table.")
    assert queue.job_ids == []
    # … one with the same bytes is looked at, and one with others is loaded.
    upload_again(id, "größe;plz\n1,5;01067\n".encode("cp1252"))
    assert work(queue) == 1
    assert "the one that was loaded last: nothing is loaded" in said(id)
    assert (status(id)["state"], status(id)["rows"]) == ("complete", 1)
    upload_again(id, "other\nx\n")
    work(queue)
    assert rows(id) == [{"_id": 1, "other": "x"}]


def test_what_is_no_table_is_left_alone_and_so_is_all_where_the_site_says_so(
    queue: rq.Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    for more in ({"format": "PDF"}, {"format": "ZIP", "url_type": "datastore"}):
        uploaded("x", **more) if "url_type" not in more else factories.Resource(**more)
    monkeypatch.setitem(tk.config, config.LOAD_ON_UPLOAD, False)
    id = uploaded("a\n1\n")
    assert queue.job_ids == []
    assert status(id)["state"] == "none"
    # A dataset's resources are seen however they come.
    monkeypatch.setitem(tk.config, config.LOAD_ON_UPLOAD, True)
    dataset = factories.Dataset(resources=[{"url": "http://x.invalid/a.csv", "format": "csv"}])
    (resource,) = dataset["resources"]
    assert status(resource["id"])["state"] == "waiting"
    work(queue)
    found = status(resource["id"])
    assert (found["state"], found["error"]) == ("error", "There is no host 'x.invalid'.")


def test_a_bad_row_replaces_nothing_is_named_and_can_be_set_aside(queue: rq.Queue) -> None:
    id = uploaded("n,s\n1,a\n")
    work(queue)
    upload_again(id, 'n,s\n1,"x\ny"\nno,b\n3,c,d\n4,e\n')
    work(queue)
    found = status(id)
    assert found["state"] == "error"
    assert found["bad_row"] == {"line": 5, "column": None, "value": "d"}
    assert "Line 5 of the file: 'd' is more than the 2 columns of the heading." in found["error"]
    assert rows(id) == [{"_id": 1, "n": 1, "s": "a"}]
    for most, state in ((1, "error"), (2, "complete")):
        call_action("bigquery_load_submit", resource_id=id, skip_bad_rows=most)
        work(queue)
        found = status(id)
        assert found["state"] == state, found
        if state == "error":
            assert found["bad_row"] == {"line": 4, "column": "n", "value": "no"}
            assert "Line 4 of the file: 'no' in the column 'n' is no bigint." in found["error"]
    assert (found["rows"], found["bad_row"]) == (2, {"line": 4, "column": "n", "value": "no"})
    assert [(row["n"], row["s"]) for row in rows(id)] == [(1, "x\ny"), (4, "e")]
    aside = requests.get(found["bad_rows_url"], timeout=20).content.decode("utf-8-sig")
    assert aside.splitlines() == [
        "line,column,reason,n,s",
        "4,n,is no bigint,no,b",
        "5,,is more than the 2 columns of the heading,3,c,d",
    ]
    # The data dictionary gives the column another type.
    fields = [{"id": "n", "type": "int8", "info": {"type_override": "text"}}]
    call_action("datastore_create", resource_id=id, fields=fields, force=True)
    upload_again(id, "n,s\nno,b\n")
    work(queue)
    assert rows(id) == [{"_id": 1, "n": "no", "s": "b"}]
    assert status(id)["bad_rows_url"] is None


def test_rows_are_appended_and_upserted(queue: rq.Queue) -> None:
    id = uploaded("k,v\na,1\nb,2\n")
    work(queue)
    call_action("datastore_create", resource_id=id, primary_key="k", force=True)
    call_action("resource_patch", id=id, bigquery_load_mode="upsert")
    upload_again(id, "k,v,new\nb,20,x\nc,30,y\n")
    assert status(id)["mode"] == "upsert"
    work(queue)
    assert status(id)["state"] == "complete", status(id)
    found = rows(id)
    assert [(r["k"], r["v"], r["new"]) for r in found] == [
        ("a", 1, None),
        ("b", 20, "x"),
        ("c", 30, "y"),
    ]
    assert [r["_id"] for r in found[:2]] == [1, 2] and found[2]["_id"] > 2
    for text, mode, words in (
        ("k,v\na,1\n", "append", "has the same k as one that is there"),
        ("k,v\n,1\n", "upsert", "A row has no k"),
        ("k,v\nz,1\nz,2\n", "upsert", "Two rows have the same k"),
        ("v\n1\n", "upsert", "has no column k, which is in the table's primary key"),
        ("k,v\nz,no\n", "append", "'no' in the column 'v' is no bigint"),
    ):
        upload_again(id, text, bigquery_load_mode=mode)
        work(queue)
        assert words in str(status(id)["error"])
    upload_again(id, "v,k\n40,d\n50,e\n", bigquery_load_mode="append")
    work(queue)
    again = rows(id)
    assert again[:3] == found
    assert [(r["k"], r["v"], r["new"]) for r in again[3:]] == [("d", 40, None), ("e", 50, None)]
    assert len({r["_id"] for r in again}) == 5


def test_who_may_not_change_the_resource_neither_loads_it_nor_sees_how_it_went() -> None:
    editor, other = factories.User(), factories.User()["name"]
    users = [{"name": editor["id"], "capacity": "editor"}]
    dataset = factories.Dataset(owner_org=factories.Organization(users=users)["id"])
    id = uploaded("a\n1\n", dataset=dataset["id"])
    for action in ("bigquery_load_submit", "bigquery_load_status"):
        context = {"ignore_auth": False, "user": editor["name"], "model": model}
        assert call_action(action, context, resource_id=id)["state"] == "waiting"
    for action in ("bigquery_load_submit", "bigquery_load_status"):
        for user in (other, ""):
            with pytest.raises(tk.NotAuthorized):
                call_action(
                    action, {"ignore_auth": False, "user": user, "model": model}, resource_id=id
                )
        for missing in ("nothing", "../x", ""):
            with pytest.raises((tk.ObjectNotFound, tk.ValidationError)):
                call_action(action, resource_id=missing)
    for wrong in (
        {"mode": "x"},
        {"skip_bad_rows": -1},
        {"skip_bad_rows": 10**9},
        {"delimiter": "ab"},
    ):
        with pytest.raises(tk.ValidationError):
            call_action("bigquery_load_submit", resource_id=id, **wrong)


class Killed(BaseException):
    """What no step can handle."""


def test_a_worker_that_is_killed_at_any_step_leaves_nothing_half_loaded(
    queue: rq.Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed after a request whose answer it does not hear; another one goes on. Rows are
    appended: what is done twice is seen."""
    id = uploaded("n\n1\n2\n3\n", bigquery_load_mode="append")
    work(queue)
    original = AuthorizedSession.request
    loads = 1
    for killed_at in (1, 8, 14, 20, 25, 29, 33, 37, 50, 80):
        calls = 0

        def request(*args: Any, at: int = killed_at, **named: Any) -> Any:
            nonlocal calls
            answer = original(*args, **named)
            calls += 1
            if calls >= at:
                raise Killed()
            return answer

        call_action("bigquery_load_submit", resource_id=id, force=True)
        with monkeypatch.context() as patched:
            patched.setattr(AuthorizedSession, "request", request)
            try:
                work(queue)
                is_over = True
            except Killed:
                is_over = False
            if status(id)["state"] == "loading":
                patched.undo()
                assert len(rows(id)) in (3 * loads, 3 * loads + 3)
        # Whoever looks puts the step into the queue anew.
        assert status(id)["state"] == "complete" or len(queue.job_ids) == 1
        work(queue)
        loads += 1
        found = rows(id)
        assert status(id)["state"] == "complete", (killed_at, status(id)["error"])
        assert [row["n"] for row in found] == [1, 2, 3] * loads, killed_at
        assert len({row["_id"] for row in found}) == len(found)
        if is_over:
            break
    assert is_over and loads > 5
    # What one has left that was killed while it tidied up is swept.
    monkeypatch.setattr(load, "LOAD_LIFETIME", dt.timedelta(0))
    load.sweep(clients.bigquery_rw(), downloads.store_rw())
    assert left() == (0, 0)


def test_a_file_that_changes_while_it_is_loaded_is_loaded_once_more(queue: rq.Queue) -> None:
    id = uploaded("a\n1\n")
    work(queue, most=1)
    assert (status(id)["state"], status(id)["step"]) == ("loading", "loading")
    upload_again(id, "a\n2\n")
    work(queue)
    assert rows(id) == [{"_id": 1, "a": 2}]
    assert status(id)["state"] == "complete"


def test_the_command_loads_the_resources_own_file_and_those_of_a_whole_site(
    queue: rq.Queue, cli: Any
) -> None:
    one, other, bad = uploaded("a\n1\n"), uploaded('a;b\n"x";2\n'), uploaded("a\n")
    queue.empty()
    result = cli.invoke(ckan, ["bigquery", "load", one])
    assert result.exit_code == 0, result.output
    assert rows(one) == [{"_id": 1, "a": 1}]
    result = cli.invoke(ckan, ["bigquery", "load", "--all"])
    assert result.exit_code == 1, result.output
    assert f"1 rows in {other}" in result.output and "resources failed" in result.output
    assert f"{bad}: rows.csv has no rows. Nothing is replaced." in result.output
    assert rows(other) == [{"_id": 1, "a": "x", "b": 2}]
    for arguments in (
        [],
        [one, "--all"],
        [one, "/no/such/file.csv"],
        [one, "http://127.0.0.1/x.csv"],
    ):
        assert cli.invoke(ckan, ["bigquery", "load", *arguments]).exit_code != 0
    assert loading.found(one).state == "error"
    assert clients.is_emulated()
