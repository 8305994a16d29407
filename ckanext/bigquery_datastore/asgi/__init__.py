"""CKAN for an ASGI server: its own WSGI application behind a front that waits and streams.

    CKAN_INI=/etc/ckan/default/ckan.ini uvicorn ckanext.bigquery_datastore.asgi:application

CKAN decides everything, in a few threads, as under WSGI. What would hold one of them it leaves to
the front (``handover``), which does it on the server's event loop: no thread waits for an export
or for a slow reader. ``turns`` says whose request CKAN works on first, ``waits`` who waits on
without it.
"""

from __future__ import annotations

import gc
import logging.config
import os

from ckan.cli import load_config
from ckan.config.middleware import make_app

from ckanext.bigquery_datastore.asgi.front import Front


def __getattr__(name: str) -> Front:
    """``application``, made when a server asks for it."""
    if name != "application":
        raise AttributeError(name)
    ini = os.environ["CKAN_INI"]
    logging.config.fileConfig(ini, disable_existing_loggers=False)
    application = globals()["application"] = Front(make_app(load_config(ini)))
    # CKAN's 300,000 objects stay. To look at all of them holds the event loop a quarter of a second
    # each time, and a crowd makes Python do so more often (docs.python.org/3/library/gc.html).
    gc.collect()
    gc.freeze()
    return application
