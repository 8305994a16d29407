"""Google's own parser of GoogleSQL (PyPI ``zetasql``, WebAssembly): what it reads in a text."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import wasmtime
from google.protobuf.message import Message
from zetasql.core.wasm_client import get_tzinfo_dir
from zetasql.wasi import get_wasm_path
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service
from zetasql.wasi._pb2.zetasql.proto import options_pb2


class Unreadable(Exception):
    """It is no GoogleSQL; the message is the parser's."""


@dataclass(frozen=True)
class Read:
    """What a text is: the kind of its one statement, the paths of its tables and functions."""

    statement: str
    tables: frozenset[tuple[str, ...]]
    functions: frozenset[tuple[str, ...]]
    ctes: frozenset[str]


def read(text: str) -> Read:
    """What Google's parser finds in a text of one statement.

    :raises Unreadable: it is not one
    """
    found = nodes(text)
    kinds = (name for name, _ in found if re.fullmatch("AST.+StatementProto", name))
    return Read(
        next(kinds).removeprefix("AST").removesuffix("Proto"),
        frozenset(_path(node.path_expr) for name, node in found if name == _TABLE),
        frozenset(_path(node.function) for name, node in found if name == _CALL),
        frozenset(node.alias.id_string for name, node in found if name == _CTE),
    )


def nodes(text: str) -> list[tuple[str, Any]]:
    """All of the tree that Google's parser makes of one statement, by the names of its parts.

    :raises Unreadable: it is not one
    """
    request = service.ParseRequest(sql_statement=text, options=_language())
    answer = service.ParseResponse.FromString(_service().call("Parse", request))
    return list(_nodes(answer))


_TABLE, _CALL, _CTE = (
    "ASTTablePathExpressionProto",
    "ASTFunctionCallProto",
    "ASTAliasedQueryProto",
)


def _nodes(message: Message) -> Iterator[tuple[str, Any]]:
    yield message.DESCRIPTOR.name, message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for child in value if field.is_repeated else [value]:
            yield from _nodes(child)


def _path(path: Any) -> tuple[str, ...]:
    return tuple(part.id_string for part in path.names)


@functools.cache
def _language() -> options_pb2.LanguageOptionsProto:
    wanted = service.LanguageOptionsRequest(maximum_features=True)
    found = _service().call("GetLanguageOptions", wanted)
    return options_pb2.LanguageOptionsProto.FromString(found)


@functools.cache
def _service() -> _Service:
    return _Service()


class _Service:
    """The library itself. What the package's own client copies byte by byte goes in one piece."""

    def __init__(self) -> None:
        engine = wasmtime.Engine(_config())
        self._store = wasmtime.Store(engine)
        wasi = wasmtime.WasiConfig()
        if zones := get_tzinfo_dir():
            wasi.preopen_dir(str(zones), "/usr/share/zoneinfo")
        self._store.set_wasi(wasi)
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        self._exports: Any = linker.instantiate(self._store, _module(engine)).exports(self._store)
        with contextlib.suppress(KeyError):
            self._exports["_initialize"](self._store)
        self._memory = self._exports["memory"]
        self._lock = threading.Lock()  # a Store is for one thread at a time

    def call(self, method: str, request: Message) -> bytes:
        with self._lock:
            return self._call(method, request.SerializeToString())

    def _call(self, method: str, data: bytes) -> bytes:
        store, exports = self._store, self._exports
        sent = exports["wasm_malloc"](store, max(1, len(data)))
        size = exports["wasm_malloc"](store, 4)
        try:
            ctypes.memmove(self._base + sent, data, len(data))
            got = exports[f"ZetaSqlLocalService_{method}"](store, sent, len(data), size)
            if got == 0:
                length = exports["wasm_get_last_error_size"](store)
                message = self._at(exports["wasm_get_last_error"](store), length)
                raise Unreadable(message.decode("utf-8", "replace"))
            found = self._at(got, int.from_bytes(self._at(size, 4), "little"))
            exports["wasm_free"](store, got)
            return found
        finally:
            exports["wasm_free"](store, sent)
            exports["wasm_free"](store, size)

    @property
    def _base(self) -> int:
        return ctypes.cast(self._memory.data_ptr(), ctypes.c_void_p).value or 0

    def _at(self, place: int, length: int) -> bytes:
        return ctypes.string_at(self._base + place, length)


def _config() -> wasmtime.Config:
    config = wasmtime.Config()
    with contextlib.suppress(AttributeError):  # wasmtime had it on before it had the switch
        config.shared_memory = True
    return config


def _module(engine: wasmtime.Engine) -> wasmtime.Module:
    """Compiled once, which takes 20 s, and kept in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    file = cache / f"googlesql-parser-{version('zetasql')}-{version('wasmtime')}.cwasm"
    if file.exists():
        return wasmtime.Module.deserialize_file(engine, str(file))
    module = wasmtime.Module.from_file(engine, str(get_wasm_path()))
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}")
    partial.write_bytes(module.serialize())
    partial.replace(file)
    return module
