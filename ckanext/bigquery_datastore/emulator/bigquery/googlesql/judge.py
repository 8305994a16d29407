"""One statement before GoogleSQL: refused in its words, or nothing said.

What is not looked at: a script beyond its syntax (the types of its variables are known only as it
runs), views of INFORMATION_SCHEMA, and a statement that names a table or a routine that the
emulator does not have; whoever runs it says what is not found. The rules of ``rules`` are not
looked at where expressions are nested very deeply.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from bqemulator.catalog.models import TableFieldSchema
from cachetools import LRUCache, cachedmethod
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service_pb2

from ...errors import ApiError
from ..conditions import Read
from .catalog import Tables, add_parameters, add_tables, empty_catalog
from .language import analyzer_options, language_options
from .reads import reads_of
from .rules import broken_rule
from .shapes import Shape, columns, shape_of
from .wasm import Broken, Refusal, Service, TooDeep

_log = logging.getLogger(__name__)

# The columns of the table of that many names (project, dataset, table), None where there is none.
FieldsOf = Callable[[Sequence[str]], Sequence[TableFieldSchema] | None]

_KEPT = 20_000

_CODE = re.compile(r"^Code: \d+, Message: ")
_PLACE = re.compile(r" \[at (\d+:\d+)\]$")
_ROUTINE = re.compile(r"(?:function|procedure) not found: [^\s;]+\.\S+", re.IGNORECASE)
_PART = r"(?:`[^`]+`|[\w-]+)"
_PARTS = re.compile(_PART)
_ALTERED = re.compile(
    rf"\s*ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?({_PART}(?:\s*\.\s*{_PART})*)", re.IGNORECASE
)


def _asked(
    _: Judge, sql: str, parameters: Sequence[Mapping[str, Any]], tables: Tables
) -> tuple[object, ...]:
    return (
        sql,
        json.dumps([(given.get("name"), given["parameterType"]) for given in parameters]),
        tuple((path, columns(fields)) for path, fields in tables.items()),
    )


class Judge:
    """GoogleSQL's analyzer with BigQuery's language."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._language = language_options(service)
        self._options = analyzer_options(self._language)
        self._catalog = empty_catalog(self._language)
        # What was asked already: the tables that a shape names, and what was let pass.
        self._named: LRUCache[str, Sequence[tuple[str, ...]]] = LRUCache(_KEPT)
        self._passed: LRUCache[object, tuple[Read, ...]] = LRUCache(_KEPT)
        self._lock = threading.Lock()

    def check(
        self, sql: str, parameters: Iterable[Mapping[str, Any]], fields_of: FieldsOf
    ) -> list[Read] | None:
        """What the statement reads; None where that is not known.

        Raise ApiError ``invalidQuery`` where BigQuery would refuse the statement.
        """
        shape, given = shape_of(sql), list(parameters)
        with _refusing(shape):
            tables = self._tables(shape, fields_of)
            if tables is None:
                return None
            reads = self._let_pass(shape.sql, given, tables)
            return [replace(read, table=shape.named(read.table)) for read in reads]
        return None

    def check_script(self, sql: str) -> None:
        """Raise ApiError ``invalidQuery`` where the syntax of a script is not GoogleSQL's."""
        request = service_pb2.ParseRequest(
            sql_statement=sql, allow_script=True, options=self._language
        )
        with _refusing(Shape(sql, ())):
            self._service.call("Parse", request, service_pb2.ParseResponse)

    def _tables(self, shape: Shape, fields_of: FieldsOf) -> Tables | None:
        """The tables that the statement reads or changes; None where one of them is not known."""
        tables: dict[tuple[str, ...], Sequence[TableFieldSchema]] = {}
        for path in self._paths(shape.sql):
            names = ".".join(path).split(".")
            if (fields := fields_of([shape.named(name) for name in names])) is None:
                return None
            # ``p.d.t`` in one pair of backticks is three names to BigQuery and one to GoogleSQL.
            tables[path] = tables[tuple(names)] = fields
        return tables

    @cachedmethod(attrgetter("_named"), lock=attrgetter("_lock"))
    def _paths(self, sql: str) -> Sequence[tuple[str, ...]]:
        request = service_pb2.ExtractTableNamesFromStatementRequest(
            sql_statement=sql, options=self._language
        )
        answer = self._service.call(
            "ExtractTableNamesFromStatement",
            request,
            service_pb2.ExtractTableNamesFromStatementResponse,
        )
        paths = [tuple(name.table_name_segment) for name in answer.table_name]
        # GoogleSQL does not count the table of an ALTER TABLE among them.
        if altered := _ALTERED.match(sql):
            paths.append(tuple(part.strip("` ") for part in _PARTS.findall(altered[1])))
        return paths

    @cachedmethod(attrgetter("_passed"), key=_asked, lock=attrgetter("_lock"))
    def _let_pass(
        self, sql: str, parameters: Sequence[Mapping[str, Any]], tables: Tables
    ) -> tuple[Read, ...]:
        resolved = self._analyzed(sql, parameters, tables)
        if (words := broken_rule(sql, resolved)) is not None:
            raise Refusal(words)
        return reads_of(resolved)

    def _analyzed(self, sql: str, parameters: Iterable[Mapping[str, Any]], tables: Tables) -> Any:
        options, catalog = type(self._options)(), type(self._catalog)()
        options.CopyFrom(self._options)
        add_parameters(options, parameters)
        catalog.CopyFrom(self._catalog)
        add_tables(catalog, tables)
        request = service_pb2.AnalyzeRequest(
            sql_statement=sql, options=options, simple_catalog=catalog
        )
        try:
            answer = self._service.call("Analyze", request, service_pb2.AnalyzeResponse)
        except Refusal:
            # A column may be named after the last of the three names: t.a of ``p.d.t``.
            request.sql_statement = _with_names_apart(sql, tables)
            if request.sql_statement == sql:
                raise
            with contextlib.suppress(Refusal):
                answer = self._service.call("Analyze", request, service_pb2.AnalyzeResponse)
                return answer.resolved_statement
            raise
        return answer.resolved_statement


def _with_names_apart(sql: str, tables: Tables) -> str:
    for path in tables:
        if len(path) == 1:
            apart = ".".join(f"`{name}`" for name in path[0].split("."))
            sql = sql.replace(f"`{path[0]}`", apart)
    return sql


@contextlib.contextmanager
def _refusing(shape: Shape) -> Iterator[None]:
    """GoogleSQL's refusal as BigQuery's; a failure of its own refuses nothing."""
    try:
        yield
    except Refusal as refusal:
        words = _PLACE.sub(r" at [\1]", _CODE.sub("", shape.named(str(refusal))))
        if _ROUTINE.search(words) is None:
            raise ApiError("invalidQuery", words, location="query") from refusal
    except TooDeep:
        # GoogleSQL has accepted the statement; the rules beside it cannot be looked at.
        return
    except Broken as error:
        reason = str(error).strip().rpartition("\n")[2].strip()
        _log.error("GoogleSQL failed at a statement, which runs unseen: %s", reason)
