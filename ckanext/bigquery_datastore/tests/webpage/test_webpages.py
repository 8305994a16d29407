"""The pages in Chromium: by mouse, by keyboard, without a script, on a telephone, through axe-core.

With SCREENSHOTS=<folder> each state is kept there as a picture, 1280 and 360 pixels wide.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from ckan.tests import factories
from ckan.tests.helpers import call_action

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.tests.webpage.conftest import RECORDS

MENU = ".bigquery-datastore-menu"
FORMATS = [
    *("CSV", "TSV", "Parquet", "CSV, compressed", "TSV, compressed", "NDJSON"),
    *("NDJSON, compressed", "JSON", "XML", "Data dictionary (CSV)", "datapackage.json"),
]
WIDTHS = (1280, 360)


def is_sound(page: Any, name: str, selector: str, widths: tuple[int, ...] = WIDTHS) -> None:
    """axe-core finds nothing in what is ours, wide or narrow, and nothing leaves the screen."""
    for width in widths:
        page.set_viewport_size({"width": width, "height": 900})
        page.locator(selector).first.scroll_into_view_if_needed()
        found = Axe().run(page, context=selector)
        assert found.violations_count == 0, found.generate_report()
        box = page.locator(selector).first.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width, (name, width, box)
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=str(Path(folder) / f"{name}-{width}.png"))
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})


def titles(place: Any) -> list[str]:
    found = place.locator(".bigquery-datastore-title").all_text_contents()
    return [title.strip() for title in found]


def saved(page: Any, click: Any) -> bytes:
    with page.expect_download(timeout=60_000) as coming:
        click()
    return Path(coming.value.path()).read_bytes()


def as_csv(text: bytes) -> list[str]:
    return text.decode("utf-8-sig").splitlines()


@pytest.fixture
def plain_page(browser: Any) -> Iterator[Any]:
    """A visitor without JavaScript."""
    context = browser.new_context(java_script_enabled=False)
    yield context.new_page()
    context.close()


def test_a_visitor_without_a_mouse_opens_the_menu_and_hears_what_there_is(
    page: Any, a_table: Any
) -> None:
    table = a_table()
    page.goto(table["page"])
    menu = page.locator(MENU)
    summary = menu.locator("summary")
    # From the button before it, by the keyboard alone.
    page.locator("a.btn.resource-url-analytics").focus()
    page.keyboard.press("Tab")
    assert summary.evaluate("el => el === document.activeElement")
    page.keyboard.press("Enter")
    page.locator(f"{MENU} .bigquery-datastore-summary").filter(
        has_text="60 rows · 6 columns · data changed on"
    ).wait_for()
    assert titles(menu) == FORMATS
    assert menu.locator(".bigquery-datastore-use").all_text_contents() == [
        *("For a spreadsheet", "For data tools", "For the web and programs", "About the data")
    ]
    is_sound(page, "menu", f"{MENU}[open] .bigquery-datastore-panel")
    page.keyboard.press("Tab")
    link = page.get_by_role("link", name="CSV", exact=True)
    assert link.evaluate("el => el === document.activeElement")
    file = saved(page, lambda: page.keyboard.press("Enter"))
    assert file.startswith(b"\xef\xbb\xbf") and len(as_csv(file)) == 61
    # By now there is a file, and the menu knows its size.
    page.wait_for_timeout(1100)
    page.goto(table["page"])
    summary.press("Enter")
    size = menu.locator("[data-format=csv] .bigquery-datastore-size")
    size.filter(has_text=" KiB").wait_for()
    assert size.text_content() == f"{len(file) * 10 // 1024 / 10} KiB"
    assert menu.locator("[data-format=tsv] .bigquery-datastore-size").text_content() == ""
    is_sound(page, "menu-sizes", f"{MENU}[open] .bigquery-datastore-panel")
    summary.press("Escape")
    assert not menu.evaluate("el => el.open")
    assert summary.evaluate("el => el === document.activeElement")


def test_without_javascript_both_pages_have_the_list(
    plain_page: Any, site: Any, a_table: Any
) -> None:
    table, page = a_table(), plain_page
    page.goto(table["page"])
    menu = page.locator(MENU)
    menu.locator("summary").click()
    assert titles(menu) == FORMATS
    assert len(as_csv(saved(page, lambda: menu.get_by_text("CSV", exact=True).click()))) == 61
    page.goto(f"{site.url}/dataset/{table['dataset']}")
    plain = page.locator(".bigquery-datastore-plain")
    plain.locator("summary").click()
    assert titles(plain) == FORMATS


def test_on_the_dataset_page_each_resource_has_the_same_menu(
    page: Any, site: Any, a_table: Any
) -> None:
    table = a_table()
    page.goto(f"{site.url}/dataset/{table['dataset']}")
    page.locator(".resource-item a.dropdown-toggle").press("Enter")
    place = page.locator(".bigquery-datastore-list")
    place.get_by_text("60 rows · 6 columns").wait_for()
    assert titles(place) == FORMATS
    is_sound(page, "dataset", ".bigquery-datastore-list", (1280,))
    # Core has no such button on a telephone.
    page.set_viewport_size({"width": 360, "height": 900})
    page.locator(".bigquery-datastore-plain summary").click()
    page.locator(".bigquery-datastore-plain").get_by_text("60 rows · 6 columns").wait_for()
    is_sound(page, "dataset", ".bigquery-datastore-plain", (360,))
    page.locator(".resource-item a.dropdown-toggle").click()
    file = saved(page, lambda: place.get_by_text("TSV, compressed", exact=True).click())
    assert file[:2] == b"\x1f\x8b"


def test_a_menu_that_was_opened_before_ckans_modules_have_begun_is_filled_all_the_same(
    page: Any, site: Any, a_table: Any
) -> None:
    table, held = a_table(), []
    # Without which CKAN starts no module.
    page.route("**/api/i18n/**", lambda route: held.append(route))
    page.goto(f"{site.url}/dataset/{table['dataset']}")
    page.locator(".resource-item a.dropdown-toggle").press("Enter")
    page.locator(".dropdown-menu.show .bigquery-datastore-list").wait_for()
    for translations in held:
        translations.continue_()
    page.locator(".bigquery-datastore-list").get_by_text("60 rows · 6 columns").wait_for()
    assert held


def test_a_menu_that_got_no_answer_asks_again_when_it_is_opened_anew(
    page: Any, site: Any, a_table: Any
) -> None:
    table = a_table()
    page.goto(f"{site.url}/dataset/{table['dataset']}")
    toggle, menu = page.locator(".resource-item a.dropdown-toggle"), page.locator(".dropdown-menu")
    with page.expect_event("requestfailed"):
        page.route("**/formats*", lambda route: route.abort())
        toggle.click()
    page.unroute("**/formats*")
    toggle.click()
    menu.locator(".bigquery-datastore-list").wait_for(state="hidden")
    toggle.click()
    menu.get_by_text("60 rows · 6 columns").wait_for()


def test_the_window_for_programmers_has_lines_to_copy_and_bigquery_for_members_alone(
    page: Any, browser: Any, site: Any, a_table: Any
) -> None:
    table = a_table()
    everybody = ["curl", "wget", "pandas", "polars", "duckdb", "r", "excel"]

    def shown(page: Any) -> list[str]:
        page.goto(table["page"])
        page.get_by_role("link", name="Data API").click()
        page.get_by_role("button", name="Get this data").click()
        headings = page.locator(".bigquery-datastore-recipes h3")
        headings.first.wait_for()
        return [id.rpartition("-")[2] for id in headings.evaluate_all("all => all.map(x => x.id)")]

    assert shown(page) == everybody
    page.locator("#collapse-get-this-data.show:not(.collapsing)").wait_for()
    lines = page.locator(".bigquery-datastore-recipes pre").all_text_contents()
    assert lines[0].startswith("curl ") and lines[0].endswith(
        f"{site.url}/datastore/dump/{table['id']}/{table['dataset']}-Trees-of-Z%C3%BCrich-2024.csv"
    ), lines[0]
    page.locator(".bigquery-datastore-recipes button", has_text="Copy").first.click()
    assert page.evaluate("String(window.getSelection())").strip() == lines[0]
    page.locator(".modal.show").evaluate("el => el.style.transition = 'none'")
    is_sound(page, "recipes", ".bigquery-datastore-recipes")

    user = factories.User(password="correct horse")
    call_action(
        "organization_member_create", id=table["owner"], username=user["name"], role="editor"
    )
    context = browser.new_context()
    inside = context.new_page()
    inside.goto(f"{site.url}/user/login")
    inside.fill("input[name=login]", user["name"])
    inside.fill("input[name=password]", "correct horse")
    inside.press("input[name=password]", "Enter")
    inside.wait_for_url("**/dashboard/**")
    assert shown(inside) == [*everybody, "bigquery"]
    sql = inside.locator(".bigquery-datastore-recipes pre").last.text_content()
    assert f"`{config.project()}.{config.dataset()}.{table['id']}`" in sql
    context.close()


STATES = {
    "exporting": {
        "state": "running",
        "progress": 0.4,
        "message": "The table is being exported: 40 percent are done.",
        "time": "4 minutes so far, about 6 minutes left",
    },
    "failed": {"state": "failed", "message": "This failure has the number 1a2b3c4d."},
}


@pytest.mark.parametrize("name", STATES)
def test_the_page_that_waits_is_sound_in_each_of_its_states(
    page: Any, a_table: Any, name: str
) -> None:
    table = a_table()
    page.route("**/status", lambda route: route.fulfill(status=200, body=json.dumps(STATES[name])))
    page.goto(f"{table['dump']}/trees.csv")
    page.get_by_role("status").filter(has_text=STATES[name]["message"]).wait_for()
    is_sound(page, f"waiting-{name}", ".bigquery-datastore-waiting")
    if name == "failed":
        assert page.locator("progress").count() == 0
        page.get_by_text("try again in some minutes").wait_for()
        page.get_by_role("link", name="Try again").wait_for()


def test_a_page_that_says_why_there_is_no_file_says_what_to_do(page: Any, a_table: Any) -> None:
    page.goto(f"{a_table()['dump']}?sort=nothing")
    page.get_by_role("heading", name="The download did not work").wait_for()
    is_sound(page, "failed", "article.module .module-content")


@pytest.mark.ckan_config(config.EXPORT_BUCKET, "no-such-bucket")
def test_where_the_site_is_at_fault_the_page_says_to_try_again_and_whom_to_tell(
    page: Any, a_table: Any, app: Any, site: Any
) -> None:
    url = f"{a_table()['dump']}/trees.parquet"
    path = url.removeprefix(site.url)
    answer = app.get(path, headers={"Accept": "text/html"}, status=502)
    # This process has no such bucket; the site has the style sheets.
    page.route(url, lambda route: route.fulfill(status=502, body=answer.body))
    page.goto(url)
    page.get_by_text("tell the people who run this site, with the number above").wait_for()
    assert page.get_by_role("link", name="Try again").get_attribute("href").endswith(path)
    is_sound(page, "failed-502", "article.module .module-content")


def test_a_filtered_view_downloads_as_filtered_in_our_formats_too(
    page: Any, site: Any, a_table: Any
) -> None:
    table = a_table()
    view = factories.ResourceView(
        resource_id=table["id"], view_type="datatables_view", title="Table"
    )
    page.goto(f"{table['page']}/view/{view['id']}?filters=is_old:true")
    page.locator("#dtprv_info").filter(has_text="of 20 entries").wait_for()
    page.locator("button.buttons-collection:has(i.fa-download)").click()
    menu = page.locator(".dt-button-collection")
    offered = [text.strip() for text in menu.locator("button, a").all_text_contents()]
    assert sorted(offered) == sorted(FORMATS[:-2])
    data = saved(page, lambda: menu.get_by_text("NDJSON", exact=True).click())
    found = [json.loads(line)["Street"] for line in data.splitlines()]
    assert found == [record["Street"] for record in RECORDS if record["is_old"]]
