"""The options of this extension, each as one typed getter.

The options, their defaults and their texts are declared in ``config_declaration.yaml``; nothing
else in the extension reads ``ckan.plugins.toolkit.config`` for them, and nothing reads them at
import time. :func:`validate` is run when CKAN starts.
"""

from __future__ import annotations

import json
import os
import re
import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from ckan.plugins import toolkit as tk
from google.oauth2 import service_account

from ckanext.bigquery_datastore.errors import ConfigError

SCHEME = "bigquery"
PREFIX = "ckanext.bigquery_datastore."

EXPORT_BUCKET = PREFIX + "export_bucket"
LOCATION = PREFIX + "location"
CREDENTIALS = PREFIX + "credentials"
CREDENTIALS_RO = PREFIX + "credentials_ro"
URL_EXPIRY_HOURS = PREFIX + "url_expiry_hours"
DELIVERY = PREFIX + "delivery"
WAIT_SECONDS = PREFIX + "wait_seconds"
METADATA_TTL_SECONDS = PREFIX + "metadata_ttl_seconds"
VOLATILE_TTL_SECONDS = PREFIX + "volatile_ttl_seconds"
ORDER = PREFIX + "order"
MAXIMUM_BYTES_BILLED = PREFIX + "maximum_bytes_billed"
SEARCH_MAXIMUM_BYTES_BILLED = PREFIX + "search_maximum_bytes_billed"
WRITE_MAXIMUM_BYTES_BILLED = PREFIX + "write_maximum_bytes_billed"
DAILY_BYTES_BILLED = PREFIX + "daily_bytes_billed"
HOURLY_EXPORTS = PREFIX + "hourly_exports"
EXPORT_BUCKET_BYTES = PREFIX + "export_bucket_bytes"
JOB_TIMEOUT_SECONDS = PREFIX + "job_timeout_seconds"
EXPORT_JOBS = PREFIX + "export_jobs"
JOB_LABELS = PREFIX + "job_labels"
PREWARM_FORMATS = PREFIX + "prewarm_formats"
FILENAME_TEMPLATE = PREFIX + "filename_template"
CORE_LINE_ENDS = PREFIX + "core_line_ends"
PARQUET_COMPRESSION = PREFIX + "parquet_compression"
SEARCH_CHARACTERS = PREFIX + "search_characters"
SEARCH_SQL_BYTES = PREFIX + "search_sql_bytes"
DUMP_SQL_ENABLED = PREFIX + "dump_sql_enabled"
DUMP_SQL_TIMEOUT_SECONDS = PREFIX + "dump_sql_timeout_seconds"
DUMP_SQL_RESULT_BYTES = PREFIX + "dump_sql_result_bytes"
WAITING_REQUESTS = PREFIX + "waiting_requests"
STREAMING_REQUESTS = PREFIX + "streaming_requests"
ASGI_THREADS = PREFIX + "asgi_threads"
LOAD_ON_UPLOAD = PREFIX + "load_on_upload"
LOAD_DAY_FIRST = PREFIX + "load_day_first"
LOAD_MAXIMUM_BYTES = PREFIX + "load_maximum_bytes"
LOAD_TIMEOUT_SECONDS = PREFIX + "load_timeout_seconds"
LOAD_ALLOWED_HOSTS = PREFIX + "load_allowed_hosts"

# Options that the environment may give where the configuration file does not.
ENVIRONMENT = {
    EXPORT_BUCKET: "BIGQUERY_EXPORT_BUCKET",
    URL_EXPIRY_HOURS: "BIGQUERY_EXPORT_URL_EXPIRY_HOURS",
    CREDENTIALS: "BIGQUERY_CREDENTIALS",
    CREDENTIALS_RO: "BIGQUERY_CREDENTIALS_RO",
}

# About $0.60: https://cloud.google.com/bigquery/pricing#on_demand_pricing
SEARCH_BYTES = 100_000_000_000

DELIVERIES = ("redirect", "stream", "accel")
ORDERS = ("_id", "none")
PARQUET_COMPRESSIONS = ("SNAPPY", "ZSTD")
FILENAME_FIELDS = {"dataset", "resource", "resource_id"}

# https://cloud.google.com/bigquery/docs/labels-intro#requirements
_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}=[a-z0-9_-]{0,63}")


def is_active() -> bool:
    """Whether the site's DataStore lives on BigQuery."""
    return (tk.config.get("ckan.datastore.write_url") or "").startswith(SCHEME + ":")


@contextmanager
def placed(url: str) -> Iterator[None]:
    """For a time, and in this process: as if the site's DataStore were there."""
    options = ("ckan.datastore.write_url", "ckan.datastore.read_url")
    before = {option: tk.config.get(option) for option in options}
    tk.config.update(dict.fromkeys(options, url))
    try:
        yield
    finally:
        tk.config.update(before)


def project() -> str:
    """The Google Cloud project that holds the DataStore."""
    return _place("ckan.datastore.write_url")[0]


def dataset() -> str:
    """The BigQuery dataset that holds the DataStore's tables."""
    return _place("ckan.datastore.write_url")[1]


def export_bucket() -> str:
    bucket = _text(EXPORT_BUCKET)
    if not bucket:
        raise ConfigError(
            f"{EXPORT_BUCKET} is not set. Name the Cloud Storage bucket that exports go to, there "
            f"or in the environment variable {ENVIRONMENT[EXPORT_BUCKET]}."
        )
    return bucket


def location() -> str:
    return _text(LOCATION)


def credentials() -> str | None:
    """The read-write key (path or JSON), or None for Application Default Credentials."""
    return _text(CREDENTIALS) or None


def credentials_ro() -> str | None:
    """The read-only key (path or JSON), or None for Application Default Credentials."""
    return _text(CREDENTIALS_RO) or None


def url_expiry_hours() -> int:
    return _number(URL_EXPIRY_HOURS, 1, 168, default=1)


def delivery() -> str:
    return _one_of(DELIVERY, DELIVERIES)


def wait_seconds(*, holds_thread: bool = True) -> int:
    """For how long a request may wait; without the option, longer where that holds no thread."""
    return _number(WAIT_SECONDS, 1, 300, default=20 if holds_thread else 50)


def metadata_ttl_seconds() -> int:
    return _number(METADATA_TTL_SECONDS, 0, 3600)


def volatile_ttl_seconds() -> int:
    return _number(VOLATILE_TTL_SECONDS, 1, 7 * 24 * 3600)


def order() -> str:
    return _one_of(ORDER, ORDERS)


def maximum_bytes_billed() -> int | None:
    """The most bytes one export may be billed for, or None for no limit."""
    return _number(MAXIMUM_BYTES_BILLED, 0, 2**63 - 1) or None


def search_maximum_bytes_billed() -> int | None:
    """The same of one search; where it is not set, no more than an export, and finite."""
    default = min(maximum_bytes_billed() or SEARCH_BYTES, SEARCH_BYTES)
    return _number(SEARCH_MAXIMUM_BYTES_BILLED, 0, 2**63 - 1, default) or None


def write_maximum_bytes_billed() -> int | None:
    """The same of one change of data; where it is not set, as an export."""
    default = maximum_bytes_billed() or 0
    return _number(WRITE_MAXIMUM_BYTES_BILLED, 0, 2**63 - 1, default) or None


def daily_bytes_billed() -> int | None:
    """The bytes of a day after which searches of the anonymous are refused, or None."""
    return _number(DAILY_BYTES_BILLED, 0, 2**63 - 1) or None


def hourly_exports() -> int | None:
    """How many files of chosen rows the anonymous may have made in an hour, or None."""
    return _number(HOURLY_EXPORTS, 0, 10**6) or None


def export_bucket_bytes() -> int | None:
    """The bytes of files of chosen rows that the bucket may hold, or None."""
    return _number(EXPORT_BUCKET_BYTES, 0, 2**63 - 1) or None


def job_timeout_seconds() -> int:
    # https://cloud.google.com/bigquery/quotas#query_jobs: six hours
    return _number(JOB_TIMEOUT_SECONDS, 1, 21600)


def export_jobs() -> int:
    return _number(EXPORT_JOBS, 1, 100)


def job_labels() -> dict[str, str]:
    pairs = _text(JOB_LABELS).split()
    for pair in pairs:
        if not _LABEL.fullmatch(pair):
            raise ConfigError(
                f"{JOB_LABELS}: {pair!r} is not a label. Write name=value in lower-case letters, "
                "digits, dashes and underscores, 63 characters at most each."
            )
    return dict(pair.split("=", 1) for pair in pairs)


def prewarm_formats() -> list[str]:
    """The formats that a table is exported in after a change, as they are named: see ``jobs``."""
    return tk.aslist(tk.config.get(PREWARM_FORMATS) or [])


def filename_template() -> str:
    template = _text(FILENAME_TEMPLATE)
    try:
        fields = {
            field for _, field, _, _ in string.Formatter().parse(template) if field is not None
        }
    except ValueError:
        fields = {""}
    if not fields or not fields <= FILENAME_FIELDS:
        raise ConfigError(
            f"{FILENAME_TEMPLATE}: {template!r} must use one or more of "
            + ", ".join(f"{{{field}}}" for field in sorted(FILENAME_FIELDS))
            + " and nothing else in braces."
        )
    return template


def core_line_ends() -> bool:
    """Whether the header of CSV and TSV ends with CR LF, as in core's files."""
    return tk.asbool(tk.config.get(CORE_LINE_ENDS))


def parquet_compression() -> str:
    return _one_of(PARQUET_COMPRESSION, PARQUET_COMPRESSIONS)


def search_characters() -> int:
    """How long a text to be searched for, or an order, may be."""
    return _number(SEARCH_CHARACTERS, 100, 1_000_000, 10_000)


def dump_sql_enabled() -> bool:
    return tk.asbool(tk.config.get(DUMP_SQL_ENABLED)) and tk.asbool(
        tk.config.get("ckan.datastore.sqlsearch.enabled")
    )


def search_sql_bytes() -> int:
    """How many bytes the values of one answer of datastore_search_sql may have."""
    return _number(SEARCH_SQL_BYTES, 1000, 2**31, 32_000_000)


def dump_sql_timeout_seconds() -> int:
    return _number(DUMP_SQL_TIMEOUT_SECONDS, 1, 21600, 600)


def dump_sql_result_bytes() -> int | None:
    """The most bytes that the result of one query may have as a file, or None for no limit."""
    return _number(DUMP_SQL_RESULT_BYTES, 0, 2**63 - 1, 10_000_000_000) or None


def waiting_requests() -> int | None:
    """How many requests of a process may wait for an export, or None for what its server allows."""
    return _number_or_none(WAITING_REQUESTS, 0, 100_000)


def streaming_requests() -> int | None:
    """How many files a process may stream at a time, or None for what its server allows."""
    return _number_or_none(STREAMING_REQUESTS, 0, 100_000)


def asgi_threads() -> int:
    """How many requests CKAN itself works on at a time, in a process of an ASGI server."""
    return _number(ASGI_THREADS, 1, 1000, 8)


def load_on_upload() -> bool:
    """Whether a new or changed file is loaded by itself."""
    return is_active() and tk.asbool(tk.config.get(LOAD_ON_UPLOAD, True))


def load_day_first() -> bool:
    return tk.asbool(tk.config.get(LOAD_DAY_FIRST, False))


def load_maximum_bytes() -> int | None:
    """The most bytes that a file to be loaded may have, packed or unpacked, or None."""
    return _number(LOAD_MAXIMUM_BYTES, 0, 2**63 - 1, 100_000_000_000) or None


def load_timeout_seconds() -> int:
    """How long the reading of one file may take."""
    return _number(LOAD_TIMEOUT_SECONDS, 10, 24 * 3600, 6 * 3600)


def load_allowed_hosts() -> frozenset[str]:
    """Hosts, as they stand in URLs, that files are fetched from whatever their address is."""
    return frozenset(host.lower() for host in tk.aslist(tk.config.get(LOAD_ALLOWED_HOSTS) or []))


def validate() -> None:
    """Raise :class:`ConfigError` for the first option that has a wrong value."""
    if _place("ckan.datastore.write_url") != _place("ckan.datastore.read_url"):
        raise ConfigError(
            "ckan.datastore.read_url and ckan.datastore.write_url name different places. Give both "
            "the same bigquery://<project>/<dataset>."
        )
    for getter in _GETTERS:
        getter()
    if credentials() and not credentials_ro():
        raise ConfigError(
            f"{CREDENTIALS} is set and {CREDENTIALS_RO} is not. Reads never use the read-write "
            "key: give a read-only key, too (or the same key, if that is what you want)."
        )
    for option, key in ((CREDENTIALS, credentials()), (CREDENTIALS_RO, credentials_ro())):
        if key:
            read_key(option, key)


def read_key(option: str, key: str) -> dict[str, str]:
    """The service account key behind an option, which holds a path or the JSON itself.

    :raises ConfigError: it is neither; the message never holds a part of the key.
    """
    try:
        if key.lstrip().startswith("{"):
            info = json.loads(key)
        else:
            with open(key, encoding="utf-8") as file:
                info = json.load(file)
    except OSError as err:
        # Without the error itself: should the value be a key after all, it would quote it.
        raise ConfigError(f"{option}: the key file cannot be read ({err.strerror}).") from None
    except ValueError:
        # The parser's own error would quote from the key.
        raise ConfigError(f"{option} is not the JSON of a service account key.") from None
    try:
        service_account.Credentials.from_service_account_info(info)
    except (ValueError, TypeError, AttributeError):
        # Such as a key that is cut short: no part of it belongs into a message or a log.
        raise ConfigError(f"{option} is not the JSON of a service account key.") from None
    return info


def _text(option: str, default: str = "") -> str:
    value = tk.config.get(option)
    if not value and option in ENVIRONMENT:
        value = os.environ.get(ENVIRONMENT[option])
    return str(default if value in (None, "") else value).strip()


def _number(option: str, least: int, most: int, default: int | None = None) -> int:
    text = _text(option, str(default))
    try:
        number = int(text)
    except ValueError:
        number = None
    if number is None or not least <= number <= most:
        raise ConfigError(f"{option} must be a whole number from {least} to {most}, not {text!r}.")
    return number


def _number_or_none(option: str, least: int, most: int) -> int | None:
    return _number(option, least, most) if _text(option) else None


def _one_of(option: str, values: tuple[str, ...]) -> str:
    text = _text(option)
    if text not in values:
        raise ConfigError(f"{option} must be one of {', '.join(values)}, not {text!r}.")
    return text


def _place(option: str) -> tuple[str, str]:
    """Project and dataset of ``bigquery://<project>/<dataset>``."""
    url = urlsplit(tk.config.get(option) or "")
    name = url.path.strip("/")
    if url.scheme != SCHEME or not url.netloc or not re.fullmatch(r"[A-Za-z0-9_]{1,1024}", name):
        raise ConfigError(
            f"{option} must be {SCHEME}://<project>/<dataset>; a dataset's name has letters, "
            "digits and underscores only."
        )
    return url.netloc, name


_GETTERS: tuple[Callable[[], object], ...] = (
    export_bucket,
    location,
    url_expiry_hours,
    delivery,
    wait_seconds,
    metadata_ttl_seconds,
    volatile_ttl_seconds,
    order,
    maximum_bytes_billed,
    search_maximum_bytes_billed,
    write_maximum_bytes_billed,
    daily_bytes_billed,
    hourly_exports,
    export_bucket_bytes,
    job_timeout_seconds,
    export_jobs,
    job_labels,
    filename_template,
    core_line_ends,
    parquet_compression,
    search_characters,
    search_sql_bytes,
    dump_sql_timeout_seconds,
    dump_sql_result_bytes,
    waiting_requests,
    streaming_requests,
    asgi_threads,
    load_maximum_bytes,
    load_timeout_seconds,
)
