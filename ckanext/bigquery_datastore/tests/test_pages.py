"""CKAN's own pages of a table in a browser: the DataTables view and the data dictionary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ckan.tests import factories
from ckan.tests.helpers import call_action

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")

FIELDS = [
    {"id": "Street", "type": "text", "info": {"label": "Street name"}},
    {"id": "kind", "type": "text"},
    {"id": "size", "type": "int"},
    {"id": "more", "type": "json"},
]
KINDS = ("oak", "birch")
RECORDS = [
    {
        "Street": f"{'Linden' if n % 3 else 'Ahorn'}weg {n}",
        "kind": KINDS[n % 2],
        "size": 100 - n if n != 7 else None,
        "more": {"n": n},
    }
    for n in range(60)
]


@pytest.fixture
def table() -> dict[str, Any]:
    dataset = factories.Dataset()
    resource = factories.Resource(package_id=dataset["id"], url_type="datastore")
    call_action(
        "datastore_create", resource_id=resource["id"], fields=FIELDS, records=RECORDS, force=True
    )
    return {"id": resource["id"], "dataset": dataset["name"]}


def view_url(site: Any, table: dict[str, Any], **options: Any) -> str:
    """The address of a DataTables view of the table."""
    view = factories.ResourceView(
        resource_id=table["id"], view_type="datatables_view", title="Table", **options
    )
    return f"{site.url}/dataset/{table['dataset']}/resource/{table['id']}/view/{view['id']}"


def cells(page: Any, column: int) -> list[str]:
    found = page.locator(f"#dtprv tbody tr td:nth-child({column})").all_text_contents()
    return [text.strip() for text in found]


def opened(page: Any, url: str) -> None:
    page.goto(url)
    page.locator("#dtprv tbody tr td:nth-child(2)").first.wait_for()


def told(page: Any, text: str) -> None:
    """Wait until the line below the table says so."""
    page.locator("#dtprv_info").filter(has_text=text).wait_for()


def looked_for(page: Any, text: str) -> None:
    box = page.locator("#dtprv_filter input")
    box.fill(text)
    box.press("Enter")


def downloaded(page: Any, format_name: str) -> bytes:
    page.locator("button.buttons-collection:has(i.fa-download)").click()
    with page.expect_download(timeout=60_000) as coming:
        page.locator(".dt-button-collection").get_by_text(format_name, exact=True).click()
    return Path(coming.value.path()).read_bytes()


def test_a_visitor_looks_for_the_beginning_of_a_word_sorts_and_downloads_what_was_found(
    live_site: Any, page: Any, table: dict[str, Any]
) -> None:
    opened(page, view_url(live_site, table))
    told(page, "of 60 entries")
    looked_for(page, "linde")
    told(page, "of 40 entries")
    page.locator(".dataTables_scrollHead th", has_text="size").first.click()
    expected = sorted(
        (r for r in enumerate(RECORDS, 1) if "Linden" in r[1]["Street"]),
        # PostgreSQL's order: NULL is the greatest.
        key=lambda r: (r[1]["size"] is None, r[1]["size"]),
    )
    page.locator("#dtprv tbody tr td", has_text=f"{expected[0][1]['Street']}").first.wait_for()
    assert cells(page, 2)[:5] == [record["Street"] for _, record in expected[:5]]
    lines = [
        f"{n},{r['Street']},{r['kind']},{'' if r['size'] is None else r['size']},"
        f'"{json.dumps(r["more"])}"'.replace('"{"', '"{""').replace('":', '"":')
        for n, r in expected
    ]
    data = downloaded(page, "CSV").decode()
    assert data == "_id,Street,kind,size,more\n" + "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize("format_name", ["TSV", "JSON", "XML"])
def test_every_download_button_gives_the_rows_of_the_pages_filter(
    live_site: Any, page: Any, table: dict[str, Any], format_name: str
) -> None:
    url = view_url(live_site, table, show_fields=["_id", "Street", "size"])
    opened(page, f"{url}?filters=kind:oak")
    told(page, "of 30 entries")
    looked_for(page, "ahorn")
    told(page, "of 10 entries")
    data = downloaded(page, format_name).decode()
    found = [
        (n, r) for n, r in enumerate(RECORDS, 1) if (n - 1) % 2 == 0 and "Ahorn" in r["Street"]
    ]
    if format_name == "TSV":
        lines = [f"{n}\t{r['Street']}\t{r['size']}\n" for n, r in found]
        assert data == "_id\tStreet\tsize\n" + "".join(lines)
    elif format_name == "JSON":
        assert json.loads(data)["records"] == [[n, r["Street"], r["size"]] for n, r in found]
    else:
        rows = [
            f'<row _id="{n}"><Street>{r["Street"]}</Street><size>{r["size"]}</size></row>\n'
            for n, r in found
        ]
        assert "".join(rows) in data
        assert data.count("<row ") == 10


def test_a_visitor_looks_for_words_in_one_column(
    live_site: Any, page: Any, table: dict[str, Any]
) -> None:
    opened(page, view_url(live_site, table))
    box = page.locator(".dataTables_scrollHead #cdx2 input")
    box.fill("bir")
    box.press("Enter")
    told(page, "of 30 entries")
    assert set(cells(page, 3)) == {"birch"}
    assert downloaded(page, "CSV").decode().count(",birch,") == 30


def test_an_editor_changes_the_data_dictionary_and_visitors_see_it(
    live_site: Any, page: Any, browser: Any
) -> None:
    user = factories.User(password="correct horse")
    owner = factories.Organization(users=[{"name": user["name"], "capacity": "editor"}])
    dataset = factories.Dataset(owner_org=owner["id"])
    id = factories.Resource(package_id=dataset["id"], url_type="datastore")["id"]
    call_action("datastore_create", resource_id=id, fields=FIELDS, records=RECORDS[:1], force=True)
    page.goto(f"{live_site.url}/user/login")
    page.fill("input[name=login]", user["name"])
    page.fill("input[name=password]", "correct horse")
    page.press("input[name=password]", "Enter")
    page.wait_for_url("**/dashboard/**")
    page.goto(f"{live_site.url}/dataset/{dataset['name']}/dictionary/{id}")
    label = page.locator("input[name=info__1__label], input[name=fields__0__label]").first
    assert label.input_value() == "Street name"
    page.locator("[name=info__2__label]").fill("Kind of “tree”")
    page.locator("[name=info__2__notes]").fill("With *stars*,\n\nand a second paragraph.")
    page.locator("button[name=save]").click()
    page.get_by_text("Data Dictionary saved").wait_for()
    assert page.locator("[name=info__2__label]").input_value() == "Kind of “tree”"
    fields = call_action("datastore_info", id=id)["fields"]
    assert [(field["id"], field.get("info", {}).get("label")) for field in fields[:2]] == [
        ("Street", "Street name"),
        ("kind", "Kind of “tree”"),
    ]
    notes = fields[1]["info"]["notes"].replace("\r\n", "\n")
    assert notes == "With *stars*,\n\nand a second paragraph."
    visitor = browser.new_context().new_page()
    visitor.goto(f"{live_site.url}/dataset/{dataset['name']}/resource/{id}")
    assert "Kind of “tree”" in visitor.locator("body").inner_text()
