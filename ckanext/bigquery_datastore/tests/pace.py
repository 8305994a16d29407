"""What CKAN does anew for each test, done once: it took most of the time of short tests.

For each test CKAN unloads its plugins and loads them again. Each time it asks for the stack with
its lines of source to learn one file's name, reads the declarations of all of its options by the
slower of PyYAML's readers, and goes through the metadata of all installed packages once a plugin;
and our plugin looks at its keys. None of it changes while tests run.
"""

from __future__ import annotations

import functools
import inspect
import pickle
import sys
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import msgspec
import yaml
from google.auth.crypt import RSASigner


def keep() -> None:
    """Let this process do these things once."""
    from ckan.config.declaration import load
    from ckan.plugins import core

    inspect.stack = _stack
    yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    core.entry_points = functools.cache(metadata.entry_points)
    load.msgspec = SimpleNamespace(yaml=SimpleNamespace(decode=_decoded))  # type: ignore
    RSASigner.from_string = functools.cache(RSASigner.from_string)  # type: ignore


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
