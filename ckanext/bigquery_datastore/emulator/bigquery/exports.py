"""EXPORT DATA and extract jobs: files that reach Cloud Storage before the job is DONE.

bqemulator writes below a local folder, accepts a URI without ``*`` and always the
same few shards. Here the rules of BigQuery's "EXPORT DATA" page are checked, the
result is read once when the job starts, and the shards appear in Cloud Storage one
after another over the job's run time. How many: the label ``emulator_shards``, the
admin API's default, or one for each 64 MB (one for a result without rows).
"""

from __future__ import annotations

import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlglot
from bqemulator.api.dependencies import AppContext
from bqemulator.domain.errors import DomainError
from bqemulator.jobs.executor import _parse_export_properties
from sqlglot import TokenType
from sqlglot.errors import ParseError

from ..errors import ApiError
from ..storage.client import StorageClient, split_uri
from .engine import Engine, TableName
from .job import Job
from .shards import BYTES_PER_SHARD, Format, Source, cuts, spool

_CODECS = {"CSV": {"GZIP"}, "JSON": {"GZIP"}, "PARQUET": {"SNAPPY", "GZIP", "ZSTD"}}
_UPLOADS_AT_ONCE = 3
_ALMOST_DONE = 0.95  # the share of the run time when the last shard is there
_DELIMITERS = {"tab": "\t", "\\t": "\t", "": ","}


@dataclass(frozen=True)
class Export:
    """An EXPORT DATA statement, read."""

    uri: str
    form: Format
    overwrite: bool
    select: str


def parse_export(sql: str) -> Export:
    """Read an EXPORT DATA statement. Raises ApiError ``invalidQuery`` in BigQuery's words."""
    options_sql, select = _split(sql)
    try:
        tree = sqlglot.parse_one(f"{options_sql} AS SELECT 1", read="bigquery")
        raw_format, values = _parse_export_properties(tree.args.get("options"))
    except DomainError as error:
        raise ApiError("invalidQuery", error.message, location="query") from error
    except ParseError as error:
        raise ApiError("invalidQuery", f"Syntax error: {error}", location="query") from error
    texts = {key: value.name if value is not None else "" for key, value in values.items()}
    uri = texts.get("uri", "")
    if not uri:
        raise _invalid("Option 'uri' is missing or empty.")
    bucket, name = split_uri(uri)
    if uri.count("*") != 1 or not bucket or "*" in bucket or "*" not in name.rpartition("/")[2]:
        raise _invalid("Option 'uri' value must be a wild card URI")
    kind = (raw_format or "").upper()
    if not kind:
        raise _invalid("Option 'format' is missing or empty.")
    if kind not in _CODECS:
        raise _invalid(
            f"'{raw_format}' is not a valid value; failed to set 'format' in EXPORT DATA OPTIONS"
        )
    codec = texts.get("compression", "").upper()
    if codec in ("", "NONE"):
        codec = ""
    elif codec not in _CODECS[kind]:
        raise _invalid(f"Compression {codec} is not supported for format {kind}.")
    delimiter = texts.get("field_delimiter", ",")
    form = Format(kind, codec, _truth(values.get("header")), _DELIMITERS.get(delimiter, delimiter))
    return Export(re.sub(r"(?<!:)/{2,}", "/", uri), form, _truth(values.get("overwrite")), select)


def _invalid(message: str) -> ApiError:
    return ApiError("invalidQuery", message, location="query")


def _truth(node: Any) -> bool:
    return node is not None and str(node).lower() == "true"


def _split(sql: str) -> tuple[str, str]:
    """The text up to the end of OPTIONS (...), and the SELECT after AS, untouched."""
    depth = 0
    tokens = sqlglot.Dialect.get_or_raise("bigquery").tokenize(sql)
    for index, token in enumerate(tokens):
        if token.token_type == TokenType.L_PAREN:
            depth += 1
        elif token.token_type == TokenType.R_PAREN:
            depth -= 1
            if depth == 0:
                rest = tokens[index + 1 :]
                if rest and rest[0].token_type == TokenType.ALIAS:
                    return sql[: token.end + 1], sql[rest[0].end + 1 :].strip().rstrip(";")
                break
    raise _invalid("Syntax error: Expected keyword OPTIONS and AS query_statement in EXPORT DATA")


class Exporter:
    """Writes results into Cloud Storage on behalf of a job."""

    def __init__(self, context: AppContext, engine: Engine, storage: StorageClient) -> None:
        self._context = context
        self._engine = engine
        self._storage = storage

    def export(self, job: Job, export: Export, source: Source) -> None:
        """Write ``source`` as the statement says; the job's statistics tell how much."""
        _refuse_unwritable(source, export.form)
        bucket, pattern = split_uri(export.uri)
        self._storage.require_bucket(bucket)
        head, _, tail = pattern.partition("*")
        if not export.overwrite:
            there = [name for name in self._storage.names(bucket, head) if name.endswith(tail)]
            if there:
                raise _invalid(
                    f"Invalid value: the destination {export.uri} already has files, such as "
                    f"{there[0]}. Use another URI, or the option overwrite=true."
                )
        files, rows, _ = self._write(job, [(bucket, pattern)], source, export.form)
        job.statistics.setdefault("query", {})["exportDataStatistics"] = {
            "fileCount": str(files[0]),
            "rowCount": str(rows),
        }

    def extract(self, job: Job) -> None:
        """Run an extract job: one table into one or more URIs."""
        settings = job.settings
        table = settings.get("sourceTable") or {}
        name = TableName(
            table.get("projectId") or job.project,
            table.get("datasetId", ""),
            table.get("tableId", ""),
        )
        meta = self._context.catalog.get_table(name.project, name.dataset, name.table)
        if meta is None:
            raise ApiError("notFound", f"Not found: Table {name}")
        if meta.table_type != "TABLE":
            raise ApiError(
                "invalid",
                f"{name} is not allowed for this operation because it is currently "
                f"a {meta.table_type}.",
            )
        uris = settings.get("destinationUris") or [settings.get("destinationUri", "")]
        form = _extract_format(settings)
        whole = f"SELECT * FROM {name.quoted}"
        source = replace(Source.of(self._engine.connection, whole, []), seed=job.id)
        _refuse_unwritable(source, form)
        targets = [split_uri(uri) for uri in uris]
        for bucket, _ in targets:
            self._storage.require_bucket(bucket)
        if meta.num_bytes > 1_000_000_000 and any("*" not in pattern for _, pattern in targets):
            raise ApiError(
                "invalid",
                f"Table {name} too large to be exported to a single file. "
                "Specify a uri including a * to shard export. See 'Exporting data into one or "
                "more files' in https://cloud.google.com/bigquery/docs/exporting-data.",
            )
        files, _, _size = self._write(job, targets, source, form)
        job.statistics["extract"] = {
            "destinationUriFileCounts": [str(count) for count in files],
            "inputBytes": str(meta.num_bytes),
        }

    def _write(
        self, job: Job, targets: list[tuple[str, str]], source: Source, form: Format
    ) -> tuple[list[int], int, int]:
        """Files per target, rows and bytes. Each target with a ``*`` gets shards, else one file."""
        folder = Path(self._context.settings.data_dir or ".") / "spool"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            rows_on_disk = spool(Path(place), source, form)
            rows_on_disk.fill(self._engine.connection)
            rows, size = rows_on_disk.rows, rows_on_disk.size
            wanted = job.shards or max(1, -(-size // BYTES_PER_SHARD) if rows else 1)
            counts = [wanted if "*" in pattern else 1 for _, pattern in targets]
            shares = cuts(rows, sum(counts))
            names = [
                (bucket, pattern.replace("*", f"{index:012d}"))
                for (bucket, pattern), count in zip(targets, counts, strict=True)
                for index in range(count)
            ]

            def send(index: int) -> None:
                job.wait_until(_ALMOST_DONE * (index + 1) / len(names))
                self._storage.upload(*names[index], rows_on_disk.shard(*shares[index]))

            with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as uploads:
                for done in uploads.map(send, range(len(names))):
                    del done
            job.wait_until(1)
        return counts, rows, size


def _refuse_unwritable(source: Source, form: Format) -> None:
    if len({name.lower() for name in source.names}) < len(source.names):
        raise _invalid("Duplicate column names in the result are not supported.")
    if form.name == "CSV":
        for name, kind in zip(source.names, source.kinds, strict=True):
            if kind.nested:
                raise ApiError(
                    "invalid", f"Operation cannot be performed on a nested schema. Field: {name}"
                )


def _extract_format(settings: dict[str, Any]) -> Format:
    kind = settings.get("destinationFormat", "CSV").upper()
    name = "JSON" if kind == "NEWLINE_DELIMITED_JSON" else kind
    if name not in _CODECS:
        raise ApiError("invalid", f"Unsupported destination format: {kind}")
    codec = settings.get("compression", "NONE").upper().replace("NONE", "")
    if codec and codec not in _CODECS[name]:
        raise ApiError("invalid", f"Compression {codec} is not supported for {kind}.")
    delimiter: str = settings.get("fieldDelimiter") or ","
    header = bool(settings.get("printHeader", True)) and name == "CSV"
    return Format(name, codec, header, _DELIMITERS.get(delimiter, delimiter))
