"""What is known of the server that runs this process: how many requests it works on at a time."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ckanext.bigquery_datastore import handover

# A server that makes a thread for each request, as that of `ckan run` does, is taken for one with
# so many; one that works with threads, and does not tell how many, for one with so few.
_UNBOUNDED, _UNKNOWN = 64, 8

_MOST_FILES = 65_536


@dataclass(frozen=True)
class Server:
    """``threads`` is None where a request that waits, or is streamed to, holds none."""

    name: str
    threads: int | None


def of_request(environ: Mapping[str, Any]) -> Server:
    """The server that this request came through. To be called in the request's own thread."""
    return next(found for look in _ROWS if (found := look(environ)))


def _asgi(environ: Mapping[str, Any]) -> Server | None:
    return Server("ASGI", None) if handover.of(environ) else None


def _uwsgi(environ: Mapping[str, Any]) -> Server | None:
    # https://uwsgi-docs.readthedocs.io/en/latest/PythonModule.html: it is there in uWSGI only.
    if "uwsgi" not in sys.modules:
        return None
    options: Mapping[str, Any] = sys.modules["uwsgi"].opt
    return Server("uWSGI", int(options.get("threads", 1)))


def _mod_wsgi(environ: Mapping[str, Any]) -> Server | None:
    # https://modwsgi.readthedocs.io/en/develop/release-notes/version-3.0.html
    if "mod_wsgi" not in sys.modules or "mod_wsgi.process_group" not in environ:
        return None
    return Server("mod_wsgi", int(sys.modules["mod_wsgi"].threads_per_process))


def _gunicorn(environ: Mapping[str, Any]) -> Server | None:
    """gunicorn tells no application its settings; but its worker stands below each request."""
    if "gunicorn.socket" not in environ:
        return None
    frame = sys._getframe()
    while frame := frame.f_back:
        if frame.f_globals.get("__name__", "").startswith("gunicorn.workers."):
            worker = frame.f_locals.get("self")
            threads = getattr(getattr(worker, "cfg", None), "threads", None)
            if threads:
                return Server(f"gunicorn's {type(worker).__name__}", int(threads))
    return None


def _werkzeug(environ: Mapping[str, Any]) -> Server | None:
    if "werkzeug.socket" not in environ:
        return None
    return Server("ckan run", _UNBOUNDED if environ["wsgi.multithread"] else 1)


def _any(environ: Mapping[str, Any]) -> Server:
    name = str(environ.get("SERVER_SOFTWARE") or "WSGI")
    return Server(name, _UNKNOWN if environ.get("wsgi.multithread") else 1)


_ROWS: tuple[Callable[[Mapping[str, Any]], Server | None], ...] = (
    _asgi,
    _uwsgi,
    _mod_wsgi,
    _gunicorn,
    _werkzeug,
    _any,
)


def open_files() -> int:
    """How many files and connections this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_FILES if soft == resource.RLIM_INFINITY else soft


def raise_open_files() -> None:
    """Use what the system allows: the soft limit, often 1024, is for programs that use select."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
