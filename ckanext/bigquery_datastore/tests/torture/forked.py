"""How gunicorn runs a site of several processes here: CKAN is loaded once, then forked."""

from __future__ import annotations

import logging
from typing import Any

preload_app = True


def post_fork(server: Any, worker: Any) -> None:
    """No process uses the connection to PostgreSQL that was opened before there were several.

    https://docs.sqlalchemy.org/en/20/core/pooling.html#using-connection-pools-with-multiprocessing
    """
    from ckan import model

    del server, worker
    # CKAN's configuration of logging has silenced it, and with it what CKAN does not catch.
    logging.getLogger("gunicorn.error").disabled = False
    model.meta.engine.dispose(close=False)  # type: ignore[union-attr]
