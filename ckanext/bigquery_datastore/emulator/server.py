"""uvicorn for us: signals are ours, and a request knows its connection.

The connection is what a fault needs to end a request without an answer, and what the
proxy needs to see that nobody reads any more.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .faults import TRANSPORT, Application


class _Protocol(HttpToolsProtocol):
    """Puts the connection into the scope of each of its requests."""

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self.scope[TRANSPORT] = self.transport  # type: ignore[typeddict-unknown-key]


class Server(uvicorn.Server):
    """One application on one port."""

    def __init__(self, application: Application, host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                host=host,
                port=port,
                http=_Protocol,
                log_level="critical",
                access_log=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=1,
                timeout_keep_alive=75,
                server_header=False,
            )
        )

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Leave SIGTERM and SIGINT to the process."""
        return nullcontext()
