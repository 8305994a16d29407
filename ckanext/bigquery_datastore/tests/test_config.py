"""Every option: what it takes, what it refuses and how it says so."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterator

import pytest
from ckan import plugins
from ckan.exceptions import CkanConfigurationException
from ckan.plugins import get_plugin
from ckan.plugins import toolkit as tk

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.errors import ConfigError


@pytest.fixture(scope="module", autouse=True)
def loaded() -> Iterator[None]:
    """The plugins, loaded once: no test here changes more than an option."""
    plugins.unload_all()
    plugins.load_all()
    yield
    plugins.unload_all()


NUMBERS = {
    config.URL_EXPIRY_HOURS: (config.url_expiry_hours, 1, 168),
    config.WAIT_SECONDS: (config.wait_seconds, 1, 300),
    config.METADATA_TTL_SECONDS: (config.metadata_ttl_seconds, 0, 3600),
    config.VOLATILE_TTL_SECONDS: (config.volatile_ttl_seconds, 1, 604800),
    config.MAXIMUM_BYTES_BILLED: (config.maximum_bytes_billed, 0, 2**63 - 1),
    config.SEARCH_MAXIMUM_BYTES_BILLED: (config.search_maximum_bytes_billed, 0, 2**63 - 1),
    config.WRITE_MAXIMUM_BYTES_BILLED: (config.write_maximum_bytes_billed, 0, 2**63 - 1),
    config.DAILY_BYTES_BILLED: (config.daily_bytes_billed, 0, 2**63 - 1),
    config.JOB_TIMEOUT_SECONDS: (config.job_timeout_seconds, 1, 21600),
    config.SEARCH_CHARACTERS: (config.search_characters, 100, 1_000_000),
}

WRONG = [
    *((name, text) for name in NUMBERS for text in ("many", "-1", "1.5", str(2**63))),
    (config.URL_EXPIRY_HOURS, "169"),
    (config.WAIT_SECONDS, "0"),
    (config.DELIVERY, "carrier pigeon"),
    (config.DELIVERY, "Redirect"),
    (config.ORDER, "name"),
    (config.JOB_LABELS, "team"),
    (config.JOB_LABELS, "Team=open"),
    (config.JOB_LABELS, "team=Öffentlich"),
    (config.JOB_LABELS, f"team={'x' * 64}"),
    (config.PREWARM_FORMATS, "csv,parquet"),
    (config.PREWARM_FORMATS, "csv gzip"),
    (config.FILENAME_TEMPLATE, "data"),
    (config.FILENAME_TEMPLATE, "{title}"),
    (config.FILENAME_TEMPLATE, "{dataset.__class__}"),
    (config.FILENAME_TEMPLATE, "{dataset"),
    (config.FILENAME_TEMPLATE, "{}"),
    (config.CREDENTIALS, "/no/such/file.json"),
    (config.CREDENTIALS_RO, "{}"),
    (config.CREDENTIALS, "{not json"),
    ("ckan.datastore.write_url", "bigquery://project"),
    ("ckan.datastore.write_url", "bigquery://project/data-set"),
    ("ckan.datastore.write_url", "bigquery:///dataset"),
    ("ckan.datastore.read_url", "postgresql://ckan@localhost/datastore"),
]


@pytest.mark.parametrize(("name", "text"), WRONG)
def test_a_wrong_value_stops_ckan_with_a_sentence_that_names_the_option(monkeypatch, name, text):
    monkeypatch.setitem(tk.config, name, text)
    with pytest.raises(CkanConfigurationException) as stopped:
        get_plugin("bigquery_datastore").configure(tk.config)
    assert name in str(stopped.value)
    assert isinstance(stopped.value.__cause__, ConfigError)


@pytest.mark.parametrize("name", list(NUMBERS))
def test_a_number_is_taken_from_its_least_to_its_most(monkeypatch, name):
    getter, least, most = NUMBERS[name]
    for number in (least, most):
        monkeypatch.setitem(tk.config, name, str(number))
        assert getter() == (number or (None if "bytes_billed" in name else 0))


def test_without_any_option_the_defaults_hold():
    assert config.url_expiry_hours() == 1
    assert config.delivery() == "redirect"
    assert (config.wait_seconds(), config.wait_seconds(holds_thread=False)) == (20, 50)
    assert config.metadata_ttl_seconds() == 5
    assert config.volatile_ttl_seconds() == 300
    assert config.order() == "_id"
    assert config.maximum_bytes_billed() is None
    assert config.search_maximum_bytes_billed() == 100_000_000_000
    assert config.write_maximum_bytes_billed() is None
    assert config.daily_bytes_billed() is None
    assert config.job_timeout_seconds() == 21600
    assert config.job_labels() == {}
    assert config.prewarm_formats() == []
    assert config.filename_template() == "{dataset}-{resource}"
    assert config.search_characters() == 10_000
    assert config.dump_sql_enabled() is False


def test_searches_and_changes_may_cost_what_an_export_may_where_nothing_is_said(monkeypatch):
    monkeypatch.setitem(tk.config, config.MAXIMUM_BYTES_BILLED, "5")
    assert config.search_maximum_bytes_billed() == config.write_maximum_bytes_billed() == 5
    monkeypatch.setitem(tk.config, config.MAXIMUM_BYTES_BILLED, str(10**15))
    assert config.search_maximum_bytes_billed() == 100_000_000_000
    assert config.write_maximum_bytes_billed() == 10**15


@pytest.mark.parametrize("text", config.DELIVERIES)
def test_every_delivery_is_taken(monkeypatch, text):
    monkeypatch.setitem(tk.config, config.DELIVERY, text)
    config.validate()
    assert config.delivery() == text


def test_both_orders_are_taken(monkeypatch):
    for text in ("_id", "none"):
        monkeypatch.setitem(tk.config, config.ORDER, text)
        config.validate()
        assert config.order() == text


def test_labels_are_pairs(monkeypatch):
    monkeypatch.setitem(tk.config, config.JOB_LABELS, "team=open-data  cost_centre=42 empty=")
    assert config.job_labels() == {"team": "open-data", "cost_centre": "42", "empty": ""}


def test_formats_to_prepare_are_names_of_formats(monkeypatch):
    monkeypatch.setitem(tk.config, config.PREWARM_FORMATS, "csv csv.gz\n parquet")
    assert config.prewarm_formats() == ["csv", "csv.gz", "parquet"]


@pytest.mark.parametrize("text", ["{dataset}", "{resource} of {dataset}", "x-{resource_id}"])
def test_a_name_may_be_made_of_any_of_the_fields(monkeypatch, text):
    monkeypatch.setitem(tk.config, config.FILENAME_TEMPLATE, text)
    assert config.filename_template() == text


def test_queries_as_files_need_both_switches(monkeypatch):
    for ours, cores in (("true", "false"), ("false", "true"), ("true", "true")):
        monkeypatch.setitem(tk.config, config.DUMP_SQL_ENABLED, ours)
        monkeypatch.setitem(tk.config, "ckan.datastore.sqlsearch.enabled", cores)
        assert config.dump_sql_enabled() is (ours == cores == "true")


def test_project_and_dataset_are_those_of_the_url(monkeypatch):
    monkeypatch.setitem(tk.config, "ckan.datastore.write_url", "bigquery://my-project/my_data")
    assert (config.project(), config.dataset()) == ("my-project", "my_data")


def test_reading_and_writing_are_of_one_place(monkeypatch):
    monkeypatch.setitem(tk.config, "ckan.datastore.read_url", "bigquery://other/place")
    with pytest.raises(ConfigError, match=r"read_url and ckan\.datastore\.write_url"):
        config.validate()


def test_another_backend_needs_no_option_of_ours(monkeypatch):
    monkeypatch.setitem(tk.config, "ckan.datastore.write_url", "postgresql://ckan@localhost/x")
    monkeypatch.setitem(tk.config, config.WAIT_SECONDS, "nonsense")
    get_plugin("bigquery_datastore").configure(tk.config)
    assert not config.is_active()


# --- the environment


@pytest.mark.parametrize(
    ("option", "variable", "value", "getter"),
    [
        (config.EXPORT_BUCKET, "BIGQUERY_EXPORT_BUCKET", "of-the-environment", "export_bucket"),
        (config.URL_EXPIRY_HOURS, "BIGQUERY_EXPORT_URL_EXPIRY_HOURS", "7", "url_expiry_hours"),
        (config.CREDENTIALS, "BIGQUERY_CREDENTIALS", "/run/rw.json", "credentials"),
        (config.CREDENTIALS_RO, "BIGQUERY_CREDENTIALS_RO", "/run/ro.json", "credentials_ro"),
    ],
)
def test_the_environment_gives_what_the_configuration_does_not(
    monkeypatch, option, variable, value, getter
):
    given = getattr(config, getter)()
    monkeypatch.setenv(variable, value)
    if option != config.URL_EXPIRY_HOURS:
        assert getattr(config, getter)() == given, "the configuration comes first"
    monkeypatch.setitem(tk.config, option, None)
    assert str(getattr(config, getter)()) == value


def test_a_wrong_value_of_the_environment_names_the_option(monkeypatch):
    monkeypatch.setitem(tk.config, config.URL_EXPIRY_HOURS, None)
    monkeypatch.setenv("BIGQUERY_EXPORT_URL_EXPIRY_HOURS", "1000")
    with pytest.raises(ConfigError, match="url_expiry_hours must be a whole number from 1 to 168"):
        config.validate()


def test_a_missing_bucket_is_said_with_both_places_to_name_it(monkeypatch):
    monkeypatch.setitem(tk.config, config.EXPORT_BUCKET, None)
    monkeypatch.delenv("BIGQUERY_EXPORT_BUCKET", raising=False)
    with pytest.raises(ConfigError, match=r"export_bucket.*BIGQUERY_EXPORT_BUCKET"):
        config.validate()


# --- keys


@pytest.fixture(scope="module")
def key() -> dict[str, str]:
    with open(config.credentials() or "") as file:
        return json.load(file)


def test_a_key_may_be_a_file_or_its_content(monkeypatch, key):
    from_file = config.read_key(config.CREDENTIALS, config.credentials() or "")
    monkeypatch.setitem(tk.config, config.CREDENTIALS, json.dumps(key))
    config.validate()
    assert config.read_key(config.CREDENTIALS, config.credentials() or "") == from_file == key


def test_a_read_write_key_alone_is_refused(monkeypatch):
    monkeypatch.setitem(tk.config, config.CREDENTIALS_RO, None)
    monkeypatch.delenv("BIGQUERY_CREDENTIALS_RO", raising=False)
    with pytest.raises(ConfigError, match=r"credentials_ro is not.*never use the read-write"):
        config.validate()


def test_without_any_key_the_machines_own_credentials_are_used(monkeypatch):
    for option in (config.CREDENTIALS, config.CREDENTIALS_RO):
        monkeypatch.setitem(tk.config, option, None)
        monkeypatch.delenv(config.ENVIRONMENT[option], raising=False)
    config.validate()
    assert config.credentials() is config.credentials_ro() is None


def broken_keys(whole: dict[str, str]) -> dict[str, str]:
    cut = {**whole, "private_key": whole["private_key"][:-200]}
    secret = whole["private_key"][200:400]
    return {
        "cut short": json.dumps(cut),
        "no JSON": json.dumps(whole)[:-30],
        "no address": json.dumps({k: v for k, v in whole.items() if k != "client_email"}),
        "no token server": json.dumps({k: v for k, v in whole.items() if k != "token_uri"}),
        "not PEM": json.dumps({**whole, "private_key": secret}),
        "in quotes": json.dumps(json.dumps(whole)),
        "a list": json.dumps([secret]),
        "a number": json.dumps({**whole, "private_key": 7}),
    }


@pytest.mark.parametrize(
    "name",
    [
        *("cut short", "no JSON", "no address", "no token server", "not PEM"),
        *("in quotes", "a list", "a number"),
    ],
)
@pytest.mark.parametrize("option", [config.CREDENTIALS, config.CREDENTIALS_RO])
@pytest.mark.parametrize("as_file", [False, True], ids=["inline", "file"])
def test_a_broken_key_is_refused_at_start_and_no_part_of_it_is_told(
    monkeypatch, caplog, tmp_path, key, name, option, as_file
):
    caplog.set_level(logging.DEBUG)
    broken = broken_keys(key)[name]
    if as_file:
        (tmp_path / "key.json").write_text(broken)
    monkeypatch.setitem(tk.config, option, str(tmp_path / "key.json") if as_file else broken)
    with pytest.raises(CkanConfigurationException) as stopped:
        get_plugin("bigquery_datastore").configure(tk.config)
    said = "".join([*traceback.format_exception(stopped.value), caplog.text])
    assert option in said
    secret = key["private_key"]
    pieces = [secret[at : at + 12] for at in range(40, len(secret) - 40, 12)]
    assert not [piece for piece in pieces if piece in said or piece.strip() in said]
