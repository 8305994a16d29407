"""GoogleSQL as WebAssembly: protobufs in, protobufs out, one call at a time.

Compiling the module takes up to a minute of CPU. The compiled form (72 MB) is kept in the user's
cache folder, where every emulator of the machine finds it; it is loaded in some hundredths of a
second.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import platform
import sys
import tempfile
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import wasmtime
from google.protobuf.message import DecodeError, Message
from zetasql.core.wasm_client import get_tzinfo_dir
from zetasql.wasi import get_wasm_path

M = TypeVar("M", bound=Message)


class Refusal(Exception):
    """GoogleSQL refuses what it was asked; the message is its own."""


class Broken(Exception):
    """GoogleSQL itself failed; the next call meets a new instance."""


class TooDeep(Exception):
    """GoogleSQL has answered, in more levels than Python's protobuf reads (100)."""


def compiled_file() -> Path:
    """Where the compiled module is kept: below ``XDG_CACHE_HOME``, else ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    # What wasmtime compiled for another version or machine is of no use to this one.
    built = f"{version('zetasql')}-{version('wasmtime')}-{platform.machine()}"
    return Path(base) / "ckanext-bigquery-datastore" / f"googlesql-{built}.cwasm"


class Module:
    """The compiled module, from the cache where it is there and whole."""

    def __init__(self, file: Path) -> None:
        config = wasmtime.Config()
        config.shared_memory = True  # the module is built with it
        self.engine = wasmtime.Engine(config)
        self.file = file
        self.compiled = self._load() or self._compile()

    def _load(self) -> wasmtime.Module | None:
        if not self.file.exists():
            return None
        try:
            return wasmtime.Module.deserialize_file(self.engine, str(self.file))
        except wasmtime.WasmtimeError:
            return None

    def _compile(self) -> wasmtime.Module:
        """Compile once, however many emulators start at once."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with _alone(self.file.with_suffix(".lock")):
            if (found := self._load()) is not None:
                return found
            sys.stderr.write("GoogleSQL is compiled for this machine, once: about a minute.\n")
            compiled = wasmtime.Module.from_file(self.engine, get_wasm_path())
            self._keep(bytes(compiled.serialize()))
            return compiled

    def _keep(self, data: bytes) -> None:
        """Under its name only when it is whole."""
        handle, temporary = tempfile.mkstemp(dir=self.file.parent, suffix=".new")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(temporary, self.file)
        except BaseException:
            os.unlink(temporary)
            raise


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Service:
    """Calls of GoogleSQL's local service. A wasmtime store is no place for two threads."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or compiled_file()
        self._module: Module | None = None
        self._lock = threading.Lock()
        self._instance: _Instance | None = None

    def call(self, method: str, request: Message, answer: type[M]) -> M:
        """The answer of ``method``. Raises Refusal in GoogleSQL's words, Broken, TooDeep."""
        data = request.SerializeToString()
        with self._lock:
            if self._instance is None:
                # Only now: an emulator whose statements nobody checks starts without it.
                self._module = self._module or Module(self._file)
                self._instance = _Instance(self._module)
            try:
                found = self._instance.call(f"ZetaSqlLocalService_{method}", data)
            except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
                # What a trap leaves in the memory of the instance is not to be trusted.
                self._instance = None
                raise Broken(str(error)) from error
        try:
            return answer.FromString(found)
        except DecodeError as error:
            raise TooDeep(method) from error


class _Instance:
    """One instance of the module with a memory of its own."""

    def __init__(self, module: Module) -> None:
        self._store = wasmtime.Store(module.engine)
        wasi = wasmtime.WasiConfig()
        # A time zone that GoogleSQL does not find ends the instance.
        wasi.preopen_dir(str(get_tzinfo_dir()), "/usr/share/zoneinfo")
        self._store.set_wasi(wasi)
        linker = wasmtime.Linker(module.engine)
        linker.define_wasi()
        self._exports: Any = linker.instantiate(self._store, module.compiled).exports(self._store)
        self._exports["_initialize"](self._store)

    def call(self, name: str, data: bytes) -> bytes:
        request, size = self._allocate(len(data)), self._allocate(4)
        self._write(request, data)
        answer = self._run(name, request, len(data), size)
        self._run("wasm_free", request)
        if answer == 0:
            self._run("wasm_free", size)
            length = self._run("wasm_get_last_error_size")
            words = self._read(self._run("wasm_get_last_error"), length)
            raise Refusal(words.decode(errors="replace"))
        found = self._read(answer, int.from_bytes(self._read(size, 4), "little"))
        self._run("wasm_free", answer)
        self._run("wasm_free", size)
        return found

    def _run(self, name: str, *arguments: int) -> Any:
        return self._exports[name](self._store, *arguments)

    def _allocate(self, size: int) -> int:
        place: int = self._run("wasm_malloc", max(1, size))
        return place

    @property
    def _memory(self) -> int:
        """Where the instance's memory begins; it moves when it grows."""
        pointer = self._exports["memory"].data_ptr()
        return ctypes.cast(pointer, ctypes.c_void_p).value or 0

    def _write(self, place: int, data: bytes) -> None:
        ctypes.memmove(self._memory + place, data, len(data))

    def _read(self, place: int, size: int) -> bytes:
        return ctypes.string_at(self._memory + place, size)
