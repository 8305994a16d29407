"""What CKAN does anew for each test, done once: it took most of the time of short tests.

For each test CKAN unloads its plugins and loads them again. Each time it asks for the stack with
its lines of source to learn one file's name, reads the declarations of all of its options by the
slower of PyYAML's readers, and goes through the metadata of all installed packages once a plugin;
and our plugin looks at its keys. None of it changes while tests run. And all of it happens when
the plugins go, again, though others, or the same, come a moment later. The passwords of the tests'
users are hashed less often than is safe.

Core's own tests are run with it, too (dev/core_suite_plugin.py).
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import pickle
import sys
from collections.abc import Iterator
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import yaml
from google.auth.crypt import RSASigner


def keep() -> None:
    """Let this process do these things once."""
    from ckan import plugins
    from ckan.config.declaration import load
    from ckan.lib import search
    from ckan.model import user
    from ckan.plugins import core

    inspect.stack = _stack
    yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    core.entry_points = functools.cache(metadata.entry_points)
    load.msgspec = SimpleNamespace(yaml=SimpleNamespace(decode=_decoded))  # type: ignore
    RSASigner.from_string = functools.cache(RSASigner.from_string)  # type: ignore
    search.check_solr_schema_version = functools.cache(search.check_solr_schema_version)
    core.load_all = plugins.load_all = _load_all
    user.pbkdf2_sha512 = user.pbkdf2_sha512.using(rounds=1_000)


def _load_all(**options: Any) -> None:
    from ckan.common import aslist, config
    from ckan.plugins import core

    names, were_there = aslist(config.get("ckan.plugins")), bool(core._PLUGINS)
    with _unsettled():
        core.unload_all()
    core.load(*names, **options)
    if were_there and not (names or options):
        core.plugins_update()


@contextlib.contextmanager
def until(next_test: pytest.Item | None) -> Iterator[None]:
    """While a test's fixtures go: where the next one loads plugins, CKAN settles then."""
    if next_test is None or "with_plugins" not in getattr(next_test, "fixturenames", ()):
        yield
        return
    with _unsettled():
        yield


@contextlib.contextmanager
def _unsettled() -> Iterator[None]:
    from ckan.plugins import core

    update, core.plugins_update = core.plugins_update, lambda: None
    try:
        yield
    finally:
        core.plugins_update = update


def _stack(context: int = 1) -> list[inspect.FrameInfo]:
    found: list[inspect.FrameInfo] = []
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        found.append(
            inspect.FrameInfo(frame, code.co_filename, frame.f_lineno, code.co_name, None, None)
        )
        frame = frame.f_back
    return found


def _decoded(text: str | bytes) -> Any:
    # Whoever asks may change what it is given.
    return pickle.loads(_pickled(text))


@functools.cache
def _pickled(text: str | bytes) -> bytes:
    return pickle.dumps(msgspec.yaml.decode(text))
