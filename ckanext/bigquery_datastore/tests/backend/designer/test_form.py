"""Table Designer on BigQuery: what its editors do and see, and the same on core's PostgreSQL."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ckan.plugins import toolkit as tk
from ckan.tests import factories
from ckan.tests.helpers import call_action
from playwright.sync_api import expect

from ckanext.bigquery_datastore import compat
from ckanext.bigquery_datastore.tests.backend.designer.designing import PASSWORD, Editor, Table
from ckanext.bigquery_datastore.tests.conftest import Site, stack_ini

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")

# Core wants Table Designer before the plugins whose pages it changes. Ours may stand anywhere.
DESIGNER = "tabledesigner datatables_view datastore"
ORDERS = [
    f"bigquery_datastore {DESIGNER}",
    "tabledesigner bigquery_datastore datatables_view datastore",
    f"{DESIGNER} bigquery_datastore",
]

UUID = "213b972d-75c0-48b7-b14a-5a19eb58a1fa"


@pytest.fixture(scope="module")
def site(_sites: Any, datastore: None) -> Site:
    """A site with Table Designer, on BigQuery."""
    return _sites({"ckan.plugins": ORDERS[0]})


@pytest.fixture(scope="module")
def postgresql(_sites: Any) -> Site:
    """The same with core's DataStore, on PostgreSQL."""
    return _sites({"ckan.plugins": DESIGNER}, base=stack_ini("-postgresql"))


@pytest.fixture
def editor(non_clean_db: None) -> Editor:
    return Editor()


@pytest.fixture
def table(site: Site, editor: Editor) -> Table:
    """A table without fields, on BigQuery."""
    return editor.table(site)


def insert(table: Table, *records: dict[str, Any], method: str = "insert", **params: Any) -> Any:
    return table.call(
        "datastore_upsert", resource_id=table.id, method=method, records=list(records), **params
    )


# --- an editor's day


def test_a_table_is_designed_filled_changed_and_downloaded(table):
    assert table.rows() == []
    fields = [
        {"id": "name", "tdtype": "text", "tdpkreq": "pk", "tdpattern": r"[A-Z]\w+"},
        {"id": "kind", "tdtype": "choice", "tdchoices": "tree\r\n it's \r\n\r\ntree"},
        {"id": "high", "tdtype": "numeric", "tdminimum": "0.5", "tdmaximum": "120"},
        {"id": "seen", "tdtype": "date", "tdpkreq": "req", "tdminimum": "2020-01-01"},
        {"id": "ours", "tdtype": "boolean", "info": {"label": "Ours?", "notes": "Since when"}},
    ]
    assert table.design(*fields) == []

    info = table.call("datastore_info", id=table.id)["fields"]
    assert [(field["id"], field["type"]) for field in info] == [
        *(("name", "text"), ("kind", "text"), ("high", "numeric"), ("seen", "date")),
        ("ours", "bool"),
    ]
    told = [{k: v for k, v in field.items() if k.startswith("td")} for field in info]
    assert told == [
        {"tdtype": "text", "tdpkreq": "pk", "tdpattern": r"[A-Z]\w+"},
        {"tdtype": "choice", "tdpkreq": "", "tdchoices": ["tree", "it's"]},
        {"tdtype": "numeric", "tdpkreq": "", "tdminimum": "0.5", "tdmaximum": "120"},
        {"tdtype": "date", "tdpkreq": "req", "tdminimum": "2020-01-01"},
        {"tdtype": "boolean", "tdpkreq": ""},
    ]
    assert info[4]["info"] == {"label": "Ours?", "notes": "Since when"}
    assert table.dictionary() == {
        "name Text": r"ID name Type Text Obligation Primary key Pattern [A-Z]\w+",
        "kind Choice": "ID kind Type Choice Choices Code tree it's",
        "high Numeric": "ID high Type Numeric Minimum 0.5 Maximum 120",
        "seen Date": "ID seen Type Date Obligation Required Minimum 2020-01-01",
        "Ours? Boolean": "ID ours Type Boolean Label Ours? Description Since when",
    }
    form = table.form()
    assert form["fields__2__tdchoices"] == "tree\nit's"
    assert (form["fields__3__tdminimum"], form["fields__3__tdmaximum"]) == ("0.5", "120")

    assert table.add(" Oak ", "tree", "12.50", "2024-05-01", "true") == {}
    assert table.add("Ash", "it's", "", "2024-05-02", "") == {}
    assert table.add("Elm", "", "1", "2024-05-03", "false") == {}
    assert table.edited(1) == ["Oak", "tree", "12.5", "2024-05-01", "true"]
    assert table.edit(1, "Oak", "it's", "13", "2024-06-01", "true") == {}
    table.delete(2, 3)
    assert table.add("Fir", "tree", "", "2024-05-04", "") == {}
    assert table.rows() == [
        {"_id": 1, "name": "Oak", "kind": "it's", "high": 13, "seen": "2024-06-01", "ours": True},
        {"_id": 4, "name": "Fir", "kind": "tree", "high": None, "seen": "2024-05-04", "ours": None},
    ]
    assert table.csv() == (
        "_id,name,kind,high,seen,ours\n1,Oak,it's,13,2024-06-01,t\n4,Fir,tree,,2024-05-04,\n"
    )


def test_fields_are_changed_removed_and_added(table):
    kind = {"id": "kind", "tdtype": "choice", "tdchoices": "a\r\nb"}
    size = {"id": "size", "tdtype": "integer", "tdmaximum": "5"}
    assert table.design(kind, size) == []
    assert table.add("a", "5") == {}
    kind = {**kind, "tdchoices": "b\r\nc", "info": {"label": "Kind", "notes": ""}}
    mail = {"id": "mail", "tdtype": "email"}
    assert table.design(kind, mail) == []
    # A rule that came later does not judge what was there, but what is saved from now on.
    assert table.rows() == [{"_id": 1, "kind": "a", "mail": None}]
    assert table.edit(1, "a", "") == {"Kind": 'Invalid choice: "a"'}
    assert table.add("a", "nobody") == {"Kind": 'Invalid choice: "a"', "mail": "Invalid email"}
    assert table.edit(1, "c", "a@b.c") == {}
    assert table.design({**kind, "tdchoices": "a"}, mail, {"id": "size", "tdtype": "text"}) == []
    assert table.add("a", "", "6") == {}
    assert table.csv() == '_id,kind,mail,size\n1,c,a@b.c,\n2,a,"",6\n'


REFUSALS = [
    ({"tdtype": "text", "tdpkreq": "req"}, "", "Missing value"),
    ({"tdtype": "text", "tdpkreq": "pk"}, "  ", "Primary key must not be empty"),
    ({"tdtype": "text", "tdpattern": r"AB-\d{3}"}, "AB-12", r'Does not match pattern: "AB-\d{3}"'),
    ({"tdtype": "choice", "tdchoices": "a\r\nb"}, "c\td", 'Invalid choice: "c d"'),
    ({"tdtype": "email"}, "a@b@c", "Invalid email"),
    ({"tdtype": "numeric", "tdminimum": "1.50"}, "1.49", 'Below minimum: "1.50"'),
    ({"tdtype": "integer", "tdmaximum": "9"}, "10", 'Above maximum: "9"'),
    ({"tdtype": "date", "tdmaximum": "2024-01-31"}, "2024-02-01", 'Above maximum: "2024-01-31"'),
    (
        {"tdtype": "timestamp", "tdminimum": "2024-01-31T10:00"},
        "2024-01-31T09:59",
        'Below minimum: "2024-01-31T10:00"',
    ),
    ({"tdtype": "uuid", "tdpkreq": "req"}, "", "Missing value"),
    ({"tdtype": "boolean", "tdpkreq": "req"}, "", "Missing value"),
    # On PostgreSQL, nothing can be written to a column like this: its rule has a mistake.
    ({"tdtype": "json", "tdpkreq": "req"}, "", "Missing value"),
    ({"tdtype": "integer"}, "many", "Invalid input"),
    # Here core's form ends in an error page.
    ({"tdtype": "date"}, "2024-02-30", 'date/time field value out of range: "2024-02-30"'),
    ({"tdtype": "integer"}, "9" * 20, f'value "{"9" * 20}" is out of range for type bigint'),
]


@pytest.mark.parametrize(
    "field, value, sentence", REFUSALS, ids=lambda v: v.get("tdtype") if isinstance(v, dict) else ""
)
def test_a_refusal_is_shown_at_its_field_and_nothing_is_written(table, field, value, sentence):
    assert table.design({"id": "a", "tdtype": "text"}, {"id": "b", **field}) == []
    shown = table.add("kept", value)
    label, *others = shown
    assert (label.removeprefix("* ").removesuffix(" (Primary key)"), others) == ("b", [])
    assert shown[label] == sentence
    assert table.rows() == []


def test_a_key_that_is_taken_is_shown_at_the_fields_of_the_key(table):
    key = {"id": "a", "tdtype": "text", "tdpkreq": "pk"}, {"id": "b", "tdtype": "integer"}
    assert table.design(key[0], {**key[1], "tdpkreq": "pk"}, {"id": "c", "tdtype": "text"}) == []
    assert table.add("x", "1", "first") == {}
    assert table.add("x", "2", "second") == {}
    taken = "Duplicate primary key exists"
    shown = {"* a (Primary key)": taken, "* b (Primary key)": taken}
    assert table.add(" x ", "2", "third") == shown
    assert table.edit(2, "x", "1", "second") == shown
    assert table.edit(2, "x", "2", "changed") == {}
    assert [row["c"] for row in table.rows()] == ["first", "changed"]


def test_a_key_that_rows_share_already_is_refused_on_the_page(table):
    fields = {"id": "a", "tdtype": "text"}, {"id": "b", "tdtype": "text"}
    assert table.design(*fields) == []
    assert table.add("x", "1") == table.add("x", "2") == {}
    (refusal,) = table.design({**fields[0], "tdpkreq": "pk"}, fields[1])
    assert "Cannot insert records or create index because of uniqueness constraint" in refusal
    assert table.form()["fields__1__tdpkreq"] == ""
    assert table.design({**fields[0], "tdpkreq": "pk"}, {**fields[1], "tdpkreq": "pk"}) == []


MISTAKES = [
    ({"tdtype": "numeric", "tdminimum": "much"}, "Invalid constraint for type: numeric"),
    ({"tdtype": "integer", "tdmaximum": "2.5"}, "Invalid constraint for type: int8"),
    ({"tdtype": "date", "tdminimum": "2024-02-30"}, "Invalid constraint for type: date"),
    ({"tdtype": "integer", "tdminimum": "10", "tdmaximum": "9"}, "Less than minumum"),
    ({"tdtype": "text", "tdpattern": "(a"}, "Invalid regular expression"),
    ({"tdtype": "text", "tdpattern": "(?!a).*"}, "Invalid regular expression"),
    ({"tdtype": "text", "tdpattern": r"(a)\1"}, "Invalid regular expression"),
    ({"tdtype": "choice", "tdchoices": " \r\n"}, "Missing value"),
]


@pytest.mark.parametrize("plugins", ORDERS)
def test_mistakes_in_the_design_are_shown_wherever_the_plugin_is_listed(
    start_site, editor, plugins
):
    table = editor.table(start_site({"ckan.plugins": plugins}))
    for mistake, sentence in MISTAKES:
        field = {"id": "b", **mistake}
        assert table.design({"id": "a", "tdtype": "text"}, field) == [f"Field 2: {sentence}"]
    assert table.call("datastore_info", id=table.id)["fields"] == []
    assert table.design({"id": "a", "tdtype": "text", "tdpattern": "x+"}) == []
    assert table.add("y") == {"a": 'Does not match pattern: "x+"'}
    assert table.add("xx") == {}


def test_a_row_is_added_from_the_view_of_the_table(site, editor, page):
    table = editor.table(site)
    assert table.design({"id": "name", "tdtype": "text", "tdpkreq": "req"}) == []
    page.goto(f"{site.url}/user/login")
    page.fill("input[name=login]", editor.name)
    page.fill("input[name=password]", PASSWORD)
    page.press("input[name=password]", "Enter")
    page.wait_for_url("**/dashboard/**")
    page.goto(table.url(f"resource/{table.id}"))
    page.frame_locator("iframe").get_by_text("Add row").click()
    page.get_by_label("name").fill("Äpfel")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url(f"**/resource/{table.id}")
    expect(page.frame_locator("iframe").get_by_role("cell", name="Äpfel")).to_be_visible()
    assert table.rows() == [{"_id": 1, "name": "Äpfel"}]


# --- the same as on PostgreSQL

FIELDS = [
    {"id": "key", "tdtype": "text", "tdpkreq": "pk", "tdpattern": r"[^-]+|\d-\d"},
    {"id": "text", "tdtype": "text"},
    {"id": "must", "tdtype": "text", "tdpkreq": "req"},
    {"id": "choice", "tdtype": "choice", "tdchoices": "a\r\nit's\r\n50%\r\nä:b\r\nc d"},
    {"id": "mail", "tdtype": "email", "tdpkreq": "req"},
    {"id": "address", "tdtype": "uri"},
    {"id": "uuid", "tdtype": "uuid", "tdpkreq": "req"},
    {"id": "number", "tdtype": "numeric", "tdminimum": "-1.50", "tdmaximum": "1e2"},
    {"id": "whole", "tdtype": "integer", "tdminimum": "9", "tdmaximum": "10", "tdpkreq": "req"},
    {"id": "flag", "tdtype": "boolean", "tdpkreq": "req"},
    {"id": "json", "tdtype": "json"},
    {"id": "day", "tdtype": "date", "tdminimum": "2020-02-29", "tdmaximum": "2024-12-31"},
    {"id": "at", "tdtype": "timestamp", "tdminimum": "2024-01-01T10:00", "tdpkreq": "req"},
]
GOOD = {
    "must": "x",
    "mail": "a@b.c",
    "uuid": UUID,
    "whole": 9,
    "flag": False,
    "at": "2024-01-01T10:00:00",
}
# Left out is what core cannot do: a required JSON column; several texts missing beside a value
# out of its bounds ("cannot concatenate incompatible arrays"); a choice with a new line in it,
# whose refusal ends there; values beyond their type, whose refusal names no field.
VALUES: dict[str, list[Any]] = {
    "key": ["", "  ", None, "a-b", "1-2", " 3-4 ", "a\nb", "äß", "x" * 300, "1-2x", "y1-2"],
    "text": ["", None, " a ", "\t", "ü" * 500, 5, 1.50, True],
    "must": ["", None, " ", "\n", 0],
    "choice": ["", None, "a", " a", "A", "it's", "50%", "ä:b", "c d", "c\td", "a'b", "ä"],
    "mail": [
        *("", " ", None, " a@b ", "a@b.c", "a b@c.d", "a@b..c", "a@", "@b", "a@-b", "a@b-"),
        *("a.b!#$%&'*+/=?^_`{|}~-@c.d", "ä@b.c", "a@b.c\n", f"a@{'b' * 63}", f"a@{'b' * 64}"),
    ],
    "address": ["", None, "anything"],
    "uuid": ["", None, UUID.upper(), UUID.replace("-", ""), "x"],
    "number": ["", None, "-1.5", "-1.51", -1.5, 100, "100.01", "1e2", "1e3", "x", " 7 "],
    "whole": ["", None, "9", 10, 8, "8", 11, 9.6, 10.6, "9.6", "x"],
    "flag": ["", None, "true", "f", "no", "2", True],
    "json": [None, {"a": 1}, [], "text", 5],
    "day": ["", None, "2020-02-29", "2020-02-28", "2024-12-31", "2025-01-01", "1/2/2024", "x"],
    "at": ["", None, "2024-01-01 09:59:59.999", "2024-01-01T10:00:00.001", "2024-01-01", "x"],
}


def outcome(answer: Any) -> Any:
    """What has to be the same of the answer to a write."""
    if "method" in answer:
        return "written"
    told = answer.get("records")
    if told and told[0].startswith("duplicate key"):
        told = ["duplicate key"]  # core goes on with the name of an index
    # Core quotes a key by a name of its own making.
    return told, answer.get("records_row"), [text[-9:] for text in answer.get("key", [])]


def without_id(csv: str) -> list[str]:
    """The lines of a download, without the numbers: PostgreSQL loses one at each refusal."""
    # Core ends its header otherwise than its rows.
    return [line.partition(",")[2] for line in csv.replace("\r\n", "\n", 1).split("\n")]


@pytest.fixture
def pair(site: Site, postgresql: Site, editor: Editor) -> list[Table]:
    """A table here and one on PostgreSQL, with the same fields."""
    tables = [editor.table(postgresql), editor.table(site)]
    for table in tables:
        assert table.design(*FIELDS) == []
    return tables


def test_each_value_is_taken_or_refused_as_on_postgresql(pair):
    keys = (f"key {number}" for number in range(1_000))
    wrong, refused = [], 0
    for column, values in VALUES.items():
        for value in values:
            record = {"key": next(keys), **GOOD, column: value}
            core, ours = (outcome(insert(table, record)) for table in pair)
            refused += core != "written"
            if core != ours:
                wrong.append({"record": {column: value}, "core": core, "ours": ours})
    assert wrong == []
    assert refused > 40
    core, ours = (without_id(table.csv()) for table in pair)
    assert ours == core
    assert len(ours) > 40


def test_calls_with_several_records_are_taken_or_refused_as_on_postgresql(pair):
    full = {field["id"]: None for field in FIELDS} | GOOD
    calls: list[tuple[str, list[dict[str, Any]]]] = [
        ("insert", [{"key": " a ", **GOOD}, {"key": "b", **GOOD, "choice": "a"}]),
        ("insert", [{"key": "c", **GOOD}, {"key": "d", **GOOD, "choice": "z", "number": 500}]),
        ("insert", [{"key": "c", **GOOD}, {"key": " a", **GOOD}]),
        ("insert", [{}]),
        ("update", [{"key": "a", "choice": "it's"}]),
        ("update", [{"key": "a", "choice": "z", "must": ""}]),
        ("update", [{"key": "a", "choice": "z"}, {"key": "b", "choice": "a"}]),
        ("update", [{"_id": 1, "key": " e "}, {"_id": 2, "whole": 10}]),
        ("update", [{"_id": 1, "key": "", "mail": " "}]),
        ("update", [{"_id": 1, "key": "b"}]),
        ("update", [{"_id": 1000, "key": "z"}]),
        ("upsert", [{"key": "b", "choice": "a"}]),
        # 2.11 looks for the key as it is sent, finds none, and then refuses it for being taken.
        ("upsert", [{**full, "key": "b" if compat.IS_2_11 else " b "}, {**full, "key": "new"}]),
        ("upsert", [{**full, "key": "newer"}, {**full, "key": "x", "day": "1999-01-01"}]),
        ("upsert", [{**full, "key": "new", "choice": "z"}, {**full, "key": "new"}]),
    ]
    for method, records in calls:
        core, ours = (outcome(insert(table, *records, method=method)) for table in pair)
        assert ours == core, (method, records)
    core, ours = (without_id(table.csv()) for table in pair)
    assert sorted(ours) == sorted(core)
    assert len(ours) == 5


def test_a_stricter_rule_holds_for_parts_of_rows_as_on_postgresql(pair):
    stricter = [
        {**field, "tdminimum": "10"} if field["id"] == "whole" else field for field in FIELDS
    ]
    partly: list[tuple[str, dict[str, Any]]] = [
        ("update", {"key": "a", "must": "y"}),
        ("update", {"key": "a", "must": "y", "whole": 10}),
        ("update", {"key": "a", "must": "z"}),
        ("upsert", {"key": "b", **GOOD}),
        ("upsert", {"key": "b", **GOOD, "whole": "10"}),
    ]
    answers = []
    for table in pair:
        assert outcome(insert(table, {"key": "a", **GOOD}, {"key": "b", **GOOD})) == "written"
        assert table.design(*stricter) == []
        answers.append([outcome(insert(table, row, method=method)) for method, row in partly])
    below = (['TAB-DELIMITED\twhole\tBelow minimum: "10"'], 0, [])
    assert answers[0] == [below, "written", "written", below, "written"]
    assert answers[1] == answers[0]
    assert sorted(without_id(pair[1].csv())) == sorted(without_id(pair[0].csv()))


def test_a_trial_is_judged_and_writes_nothing(table):
    assert table.design({"id": "a", "tdtype": "choice", "tdchoices": "x"}) == []
    bad = insert(table, {"a": "x"}, {"a": "y"}, dry_run=True)
    assert (bad["records"], bad["records_row"]) == (['TAB-DELIMITED\ta\tInvalid choice: "y"'], 1)
    assert outcome(insert(table, {"a": "x"}, dry_run=True)) == "written"
    assert table.rows() == []


def test_a_pattern_that_would_keep_python_busy_for_ever_is_answered(table):
    assert table.design({"id": "a", "tdtype": "text", "tdpattern": "(a|a|aa)+(a+)+"}) == []
    assert table.add("a" * 5_000 + "b") == {"a": 'Does not match pattern: "(a|a|aa)+(a+)+"'}
    assert table.add("a" * 5_000) == {}


def test_letters_of_a_pattern_are_ascii_unless_it_says_otherwise(table):
    fields = {"id": "a", "tdtype": "text"}, {"id": "b", "tdtype": "text"}
    assert table.design({**fields[0], "tdpattern": r"\w"}, {**fields[1], "tdpattern": r"\pL"}) == []
    assert table.add("ä", "1") == {
        "a": r'Does not match pattern: "\w"',
        "b": r'Does not match pattern: "\pL"',
    }
    assert table.add("a", "ä") == {}


# --- what BigQuery does not check


@pytest.mark.parametrize(
    "plugin, field",
    [
        ("example_icolumntypes", {"tdtype": "star_rating"}),
        ("example_icolumnconstraints", {"tdtype": "text", "tdimmutable": "True"}),
    ],
)
def test_a_rule_of_another_plugin_is_refused_where_the_table_is_designed(
    start_site, editor, plugin, field
):
    table = editor.table(start_site({"ckan.plugins": f"{plugin} {ORDERS[0]}"}))
    (refusal,) = table.design({"id": "a", "tdtype": "text"}, {"id": "b", **field})
    assert re.search(r'This rule .*cannot be checked on BigQuery.*IF NOT .*NEW\."b"', refusal)
    assert table.call("datastore_info", id=table.id)["fields"] == []
    assert table.design({"id": "a", "tdtype": "text", "tdpkreq": "req"}) == []
    assert table.add("") == {"* a": "Missing value"}


def test_rules_hold_where_the_plugin_is_no_longer_listed(table):
    # As they do on PostgreSQL. The site of this process does without Table Designer.
    assert table.design({"id": "a", "tdtype": "choice", "tdchoices": "x"}) == []
    with pytest.raises(tk.ValidationError) as refused:
        call_action(
            "datastore_upsert",
            resource_id=table.id,
            force=True,
            method="insert",
            records=[{"a": "y"}],
        )
    assert refused.value.error_dict["records"] == ['TAB-DELIMITED\ta\tInvalid choice: "y"']


@pytest.mark.parametrize(
    "triggers", [[{"function": "another"}], [{"function": "{id}_tabledesigner_validate"}]]
)
def test_any_other_trigger_is_refused(triggers):
    id = factories.Resource(url_type="datastore")["id"]
    named = [{"function": given["function"].format(id=id)} for given in triggers]
    with pytest.raises(tk.ValidationError) as refused:
        call_action(
            "datastore_create",
            resource_id=id,
            fields=[{"id": "a", "type": "text"}],
            triggers=named,
        )
    assert "BigQuery has no triggers" in refused.value.error_dict["triggers"][0]


@pytest.mark.parametrize("name", ["another", "x_tabledesigner_validate"])
def test_any_other_function_is_refused(name):
    with pytest.raises(tk.ValidationError) as refused:
        call_action(
            "datastore_function_create",
            name=name,
            rettype="trigger",
            definition="BEGIN NEW.a := 'x'; RETURN NEW; END;",
        )
    assert "BigQuery has no triggers" in refused.value.error_dict["definition"][0]
