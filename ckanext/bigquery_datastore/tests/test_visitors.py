"""People and programs that download: a browser, curl, wget, Python; also while an export runs."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from ckan.tests import factories, helpers

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.dump.formats import offered
from ckanext.bigquery_datastore.tests.dump.exporting import Place

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")

ROWS = [{"name": f"Straße {number}", "size": number} for number in range(5000)]
CSV = "_id,name,size\n" + "".join(f"{n + 1},Straße {n},{n}\n" for n in range(5000))

# With the options as they are by default, an export of two minutes sends a script back six times:
# wait_seconds is 20. Here one waits 2, and the other runs 13.
SLOW = {config.WAIT_SECONDS: "2", config.JOB_LABELS: "emulator_run_seconds=13"}


def a_table(private: bool = False) -> dict[str, Any]:
    owner = factories.Organization()["id"]
    dataset = factories.Dataset(private=private, owner_org=owner)
    resource = factories.Resource(
        package_id=dataset["id"], url_type="datastore", datastore_active=True
    )
    place = Place(config.dataset(), config.export_bucket())
    place.fill(resource["id"], ROWS, name="STRING", size="INT64")
    helpers.call_action("resource_patch", id=resource["id"], datastore_active=True)
    return {**resource, "owner": owner, "package": dataset["name"]}


def saved(page, click) -> bytes:
    """What lands on the visitor's disk."""
    with page.expect_download(timeout=60_000) as coming:
        click()
    return Path(coming.value.path()).read_bytes()


# --- a browser


def test_an_anonymous_visitor_clicks_download_and_has_the_file(live_site, page):
    table = a_table()
    page.goto(f"{live_site.url}/dataset/{table['package']}/resource/{table['id']}")
    page.locator("summary", has_text="Formats").click()
    data = saved(page, lambda: page.get_by_role("link", name="CSV", exact=True).click())
    assert data == b"\xef\xbb\xbf" + CSV.encode()


@pytest.mark.parametrize(
    "plugins", ["bigquery_datastore datastore", "datastore bigquery_datastore"]
)
def test_every_format_is_offered_wherever_the_plugin_is_listed(start_site, page, plugins):
    site, table = start_site({"ckan.plugins": plugins}), a_table()
    page.goto(f"{site.url}/dataset/{table['package']}/resource/{table['id']}")
    items = page.locator(".bigquery-datastore-menu a[data-format]")
    names = items.evaluate_all("all => all.map(item => item.dataset.format)")
    # Those that the table has no places for are left out.
    assert sorted(names) == sorted(row.name for row in offered(()))


def test_while_an_export_runs_the_page_shows_it_and_the_download_starts_by_itself(start_site, page):
    site, table = start_site(SLOW), a_table()
    url = f"{site.url}/datastore/dump/{table['id']}/trees.csv"
    page.goto(url)
    status = page.locator("[role=status].bigquery-datastore-message")
    assert "The table is being exported" in status.text_content()
    # Who reloads loses nothing.
    page.reload()
    with page.expect_download(timeout=60_000) as coming:
        page.locator("progress[value]").wait_for()
        page.locator(".bigquery-datastore-time", has_text="seconds so far, about").wait_for()
        command = page.locator(".bigquery-datastore-waiting pre").text_content()
        assert command.startswith("curl ") and command.endswith(url)
    assert status.text_content() == "The file is ready: the download starts by itself."
    assert Path(coming.value.path()).read_bytes() == CSV.encode()
    assert coming.value.suggested_filename.endswith(".csv")


@pytest.mark.parametrize("server", ["gunicorn", "uvicorn"])
def test_where_no_place_is_left_the_page_waits_and_the_download_starts_by_itself(
    start_site, page, server
):
    full = {config.WAITING_REQUESTS: "0", config.WAIT_SECONDS: "30"}
    site, table = start_site({**SLOW, **full}, server=server), a_table()
    url = f"{site.url}/datastore/dump/{table['id']}"
    script = requests.get(url, timeout=60)
    assert (script.status_code, "curl --retry" in script.text) == (503, True)
    with page.expect_download(timeout=60_000) as coming:
        page.goto(url)
        page.locator(".bigquery-datastore-time", has_text="seconds so far").wait_for()
    assert Path(coming.value.path()).read_bytes() == CSV.encode()


def test_a_file_that_cannot_be_streamed_now_is_waited_for_on_the_page(start_site, page):
    few = {config.DELIVERY: "stream", config.STREAMING_REQUESTS: "1"}
    site, table = start_site(few), a_table()
    url = f"{site.url}/datastore/dump/{table['id']}"
    place = Place(config.dataset(), config.export_bucket())
    large = factories.Resource(url_type="datastore", datastore_active=True)
    place.fill(large["id"], [{"text": "x" * 2000}] * 6000, text="STRING")
    with requests.get(f"{site.url}/datastore/dump/{large['id']}", stream=True, timeout=60) as slow:
        assert slow.status_code == 200
        assert requests.get(url, timeout=60).status_code == 503
        page.goto(url)
        page.get_by_role("heading", name="Preparing").wait_for()
    with page.expect_download(timeout=60_000) as coming:
        pass
    assert Path(coming.value.path()).read_bytes() == CSV.encode()


def test_without_javascript_the_page_asks_again_until_the_file_comes(start_site, browser):
    site, table = start_site(SLOW), a_table()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    with page.expect_download(timeout=60_000) as coming:
        page.goto(f"{site.url}/datastore/dump/{table['id']}")
    assert Path(coming.value.path()).read_bytes() == CSV.encode()
    context.close()


def test_a_private_table_is_404_to_a_stranger_and_a_file_to_a_member(live_site, browser):
    table = a_table(private=True)
    user = factories.User(password="correct horse")
    helpers.call_action(
        "organization_member_create", id=table["owner"], username=user["name"], role="member"
    )
    url = f"{live_site.url}/datastore/dump/{table['id']}"
    context = browser.new_context()
    page = context.new_page()
    answer = page.goto(url)
    assert answer is not None and answer.status == 404
    page.goto(f"{live_site.url}/user/login")
    page.fill("input[name=login]", user["name"])
    page.fill("input[name=password]", "correct horse")
    page.press("input[name=password]", "Enter")
    page.wait_for_url("**/dashboard/**")
    data = saved(page, lambda: page.evaluate("url => { window.location = url }", url))
    assert data == CSV.encode()
    context.close()


# --- programs, without any option, while an export runs

PROGRAMS = {
    "curl": ["curl", "-sSfL", "{url}"],
    "wget": ["wget", "-q", "-O", "-", "{url}"],
    "urllib": [
        *(sys.executable, "-c"),
        "import sys, urllib.request as u; sys.stdout.buffer.write(u.urlopen('{url}').read())",
    ],
    "requests": [
        *(sys.executable, "-c"),
        "import sys, requests; a = requests.get('{url}'); a.raise_for_status(); "
        "sys.stdout.buffer.write(a.content)",
    ],
    "pandas": [
        *(sys.executable, "-c"),
        "import sys, pandas; "
        "pandas.read_csv('{url}').to_csv(sys.stdout.buffer, index=False, lineterminator='\\n')",
    ],
}


def test_programs_get_the_file_of_a_long_export_without_any_option(start_site):
    site, table = start_site(SLOW), a_table()
    url = f"{site.url}/datastore/dump/{table['id']}"

    def run(command: list[str]) -> bytes:
        command = [part.replace("{url}", url) for part in command]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=120).stdout

    with ThreadPoolExecutor(len(PROGRAMS)) as threads:
        found = dict(zip(PROGRAMS, threads.map(run, PROGRAMS.values()), strict=True))
    lines = {name: data.decode().splitlines() for name, data in found.items()}
    assert lines == dict.fromkeys(PROGRAMS, CSV.splitlines())
    jobs = Place(config.dataset(), config.export_bucket()).export_jobs()
    assert len([job for job in jobs if table["id"] in job.query]) == 1


# With a token, as the programs of a member of the organisation do it.
WITH_TOKEN = {
    "curl": ["curl", "-sSfL", "-H", "Authorization: {token}", "{url}"],
    "wget": ["wget", "-q", "-O", "-", "--header", "Authorization: {token}", "{url}"],
    "urllib": [
        *(sys.executable, "-c"),
        "import sys, urllib.request as u; request = u.Request('{url}'); "
        "request.add_header('Authorization', '{token}'); "
        "sys.stdout.buffer.write(u.urlopen(request).read())",
    ],
    "requests": [
        *(sys.executable, "-c"),
        "import sys, requests; "
        "a = requests.get('{url}', headers={{'Authorization': '{token}'}}); "
        "a.raise_for_status(); sys.stdout.buffer.write(a.content)",
    ],
    "pandas": [
        *(sys.executable, "-c"),
        "import sys, pandas; "
        "pandas.read_csv('{url}', storage_options={{'Authorization': '{token}'}})"
        ".to_csv(sys.stdout.buffer, index=False, lineterminator='\\n')",
    ],
}


def test_programs_with_a_token_get_a_private_file(live_site):
    """Cloud Storage refuses a signed URL beside an Authorization, which some of them repeat."""
    table, user = a_table(private=True), factories.UserWithToken()
    helpers.call_action(
        "organization_member_create", id=table["owner"], username=user["name"], role="member"
    )
    url = f"{live_site.url}/datastore/dump/{table['id']}"
    for name, command in WITH_TOKEN.items():
        filled = [part.format(url=url, token=user["token"]) for part in command]
        data = subprocess.run(filled, check=True, stdout=subprocess.PIPE, timeout=120).stdout
        assert data.decode().splitlines() == CSV.splitlines(), name
    # Who keeps the token to the host it is for is sent to Cloud Storage.
    for client, status in (("curl/8.5.0", 302), ("curl/7.57.0", 200), ("Python-urllib/3.11", 200)):
        answer = requests.get(
            url,
            headers={"Authorization": user["token"], "User-Agent": client},
            allow_redirects=False,
            timeout=60,
        )
        assert answer.status_code == status, client
        found = requests.get(url, headers={"User-Agent": client}, timeout=60, allow_redirects=False)
        assert found.status_code == 404


# --- how the bytes come


def test_a_site_that_streams_gives_the_whole_file_and_ranges_itself(start_site):
    site, table = start_site({config.DELIVERY: "stream"}), a_table()
    url = f"{site.url}/datastore/dump/{table['id']}"
    whole = requests.get(url, timeout=60)
    assert (whole.status_code, whole.content) == (200, CSV.encode())
    assert whole.headers["Content-Length"] == str(len(CSV.encode()))
    part = requests.get(url, headers={"Range": "bytes=100-199"}, timeout=60)
    assert (part.status_code, part.content) == (206, CSV.encode()[100:200])
    beyond = requests.get(url, headers={"Range": "bytes=99999999-"}, timeout=60)
    assert beyond.status_code == 416
    head = requests.head(url, timeout=60)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(CSV.encode())))


def test_a_site_behind_nginx_names_the_file_for_it_to_fetch(start_site):
    site, table = start_site({config.DELIVERY: "accel"}), a_table()
    answer = requests.get(f"{site.url}/datastore/dump/{table['id']}", timeout=60)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["X-Accel-Redirect"].startswith("/_bigquery_export/")
    assert "X-Goog-Signature" in answer.headers["X-Accel-Redirect"]


# --- what is wrong with the site


def test_a_wrong_option_stops_ckan_with_a_sentence_that_names_it(start_site):
    with pytest.raises(pytest.fail.Exception, match=r"wait_seconds must be a whole number from 1"):
        start_site({config.WAIT_SECONDS: "3000"})


def test_google_that_is_down_is_said_in_seconds_not_in_minutes(start_site):
    table = a_table()
    site = start_site(env={"BIGQUERY_EMULATOR_HOST": "http://127.0.0.1:9"})
    answer = requests.get(f"{site.url}/datastore/dump/{table['id']}", timeout=30)
    assert answer.status_code == 503
    assert "cannot be made at the moment" in answer.text
    number = re.search(r"has the number (\w+)", answer.text)
    assert number, answer.text
    assert f"Failure {number[1]}: NotReachable: Google does not answer" in site.said()
    assert int(answer.headers["Retry-After"]) > 0
