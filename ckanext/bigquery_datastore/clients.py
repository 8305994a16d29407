"""Google's clients: built here and nowhere else, once per process and identity.

Two identities exist. ``ro`` reads table metadata, rows and finished files; ``rw`` runs exports,
writes, composes and deletes. A function of this package takes the client it needs, so that its
signature tells which key it uses.

Every call to Google is bounded by :func:`budget`; what Google answers is turned into an error for
a person by :func:`told`.
"""

from __future__ import annotations

import inspect
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar, cast

import google.auth
import requests
from google.api_core import exceptions as gexc
from google.api_core.retry import Retry
from google.auth import credentials as gcredentials
from google.auth import exceptions as auth_exc
from google.cloud import bigquery, storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.oauth2 import service_account
from requests.adapters import HTTPAdapter

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.errors import NotReachable, OutsideError, PermissionMissing

log = logging.getLogger(__name__)

# As many connections as threads that may talk to Google at once (see dump.storage).
POOL_SIZE = 32

# What one call to Google may take, its retries included, where nothing shorter is asked for.
# The libraries' own default is ten minutes.
CALL_SECONDS = 8.0

# A change of a table's metadata: five are taken in ten seconds, and changes of rows count among
# them, so the sixth waits. https://cloud.google.com/bigquery/quotas#standard_tables
METADATA_SECONDS = 25.0

# https://cloud.google.com/storage/docs/retry-strategy#retryable
_PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504})

# BigQuery's names for "too often", which it answers with 403 as well as 429.
# https://cloud.google.com/bigquery/docs/error-messages
_THROTTLED = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "jobRateLimitExceeded"})
_USED_UP = frozenset({"quotaExceeded", "dailyLimitExceeded"})

# What a statement of too many bytes is refused with: for good, whatever status comes with it.
TOO_EXPENSIVE = "bytesBilledLimitExceeded"

# Whatever a call to Google may raise.
FAILURES = (
    gexc.GoogleAPIError,
    auth_exc.GoogleAuthError,
    requests.RequestException,
    TimeoutError,
    futures.TimeoutError,
)

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)

# A short query is answered sooner where it need not become a job that can be asked for
# (https://cloud.google.com/bigquery/docs/running-queries#optional-job-creation). The library takes
# that from 3.31 on; what CKAN 2.11 pins lets it be older.
_JOBS_ARE_OPTIONAL: dict[str, Any] = (
    {"default_job_creation_mode": "JOB_CREATION_OPTIONAL"}
    if "default_job_creation_mode" in inspect.signature(bigquery.Client.__init__).parameters
    else {}
)

_T = TypeVar("_T")
_built: dict[tuple[int, str, str], Any] = {}
_lock = threading.Lock()


def bigquery_ro() -> bigquery.Client:
    return _once("bigquery", "ro", partial(_bigquery, "ro"))


def bigquery_rw() -> bigquery.Client:
    return _once("bigquery", "rw", partial(_bigquery, "rw"))


def storage_ro() -> storage.Client:
    return _once("storage", "ro", partial(_storage, "ro"))


def storage_rw() -> storage.Client:
    return _once("storage", "rw", partial(_storage, "rw"))


def may_write(client: object) -> bool:
    """Whether a client is the read-write identity's: what that reads, it reads for a change."""
    return _built.get((os.getpid(), "bigquery", "rw")) is client


def signer() -> gcredentials.Credentials:
    """The read-write credentials as they sign URLs: with a private key where there is one."""
    return _once("signer", "rw", partial(_credentials, "rw"))


def account(identity: str) -> str | None:
    """The address of the service account behind ``ro`` or ``rw``; None where it is not known.

    :raises PermissionMissing: there are no credentials
    """
    if is_emulated():
        return f"emulator-{identity}"
    found = _once("account", identity, partial(_credentials, identity))
    address = getattr(found, "service_account_email", None)
    return None if address in (None, "default") else str(address)


def forget() -> None:
    """Close and drop every client, so that the next call builds it from the options as they are."""
    with _lock:
        for client in _built.values():
            if hasattr(client, "close"):
                client.close()
        _built.clear()


def budget(seconds: float | None = None) -> dict[str, Any]:
    """``timeout`` and ``retry`` for one call to Google that may take ``seconds`` in all.

    Only failures that Google calls transient are tried again: refused or broken connections,
    429, 500, 502, 503, 504, and 403 where its reason is a rate limit.
    """
    seconds = CALL_SECONDS if seconds is None else seconds
    return {
        "timeout": seconds,
        "retry": Retry(
            predicate=is_transient, initial=0.1, maximum=2.0, multiplier=2.0, timeout=seconds
        ),
    }


def patience() -> dict[str, Any]:
    """The same for a change of a table's metadata, which may have to wait for its turn."""
    began = time.monotonic()

    def passes(err: BaseException) -> bool:
        is_early = time.monotonic() - began < CALL_SECONDS
        return is_throttled(err) or (is_early and is_transient(err))

    retry = Retry(
        predicate=passes, initial=0.1, maximum=2.0, multiplier=2.0, timeout=METADATA_SECONDS
    )
    return {"timeout": CALL_SECONDS, "retry": retry}


@contextmanager
def told(doing: str, *answers: type[gexc.GoogleAPICallError]) -> Iterator[None]:
    """Turn Google's refusals and failures into errors that tell a person what to do.

    :param doing: what was tried, as the words after "while": "reading the table x".
    :param answers: what the caller expects and handles itself, such as NotFound
    :raises PermissionMissing: 401, 403
    :raises NotReachable: no answer, no token, or a 5xx beyond the retries
    :raises OutsideError: anything else that Google refuses
    """
    try:
        yield
    except answers:
        raise
    except (gexc.Forbidden, gexc.Unauthorized) as err:
        if _reasons(err) & (_THROTTLED | _USED_UP):
            raise NotReachable(
                f"Google has no quota left for {doing}: {reason(err)} Try again in a moment."
            ) from err
        raise PermissionMissing(f"Google refused {doing}: {reason(err)}") from err
    except auth_exc.GoogleAuthError as err:
        raise NotReachable(
            f"No access token could be had for {doing}. Check the site's Google credentials."
        ) from err
    except (
        gexc.RetryError,
        gexc.ServerError,
        gexc.TooManyRequests,
        # Connections that break, and answers that are cut: what is not JSON, too.
        requests.RequestException,
        InvalidResponse,
        DataCorruption,
        TimeoutError,
        futures.TimeoutError,
    ) as err:
        raise NotReachable(f"Google does not answer {doing}. Try again in a moment.") from err
    except gexc.NotFound as err:
        raise PermissionMissing(f"Google cannot find what {doing} needs: {reason(err)}") from err
    except gexc.GoogleAPICallError as err:
        raise OutsideError(f"Google refused {doing}: {reason(err)}") from err


@contextmanager
def tidied_up(what: str) -> Iterator[None]:
    """The end of a work that is done: what cannot be taken away is left behind, and is no failure.

    Whoever heard of one would do the work again.
    """
    try:
        with told("tidying up", gexc.NotFound):
            yield
    except (OutsideError, gexc.NotFound) as err:
        log.warning("%s is left behind: %s", what, err)


def is_emulated() -> bool:
    """Whether the site talks to local emulators instead of Google."""
    return bool(os.environ.get("BIGQUERY_EMULATOR_HOST"))


def _once(service: str, identity: str, build: Callable[[], _T]) -> _T:
    # By process id: a client's connections must not be shared across a fork.
    key = os.getpid(), service, identity
    if key not in _built:
        with _lock:
            if key not in _built:
                _built[key] = build()
    return _built[key]


def _bigquery(identity: str) -> bigquery.Client:
    client = bigquery.Client(
        project=config.project(),
        credentials=_access(identity),
        location=config.location(),
        **_JOBS_ARE_OPTIONAL,
    )
    _widen_pool(client)
    return client


def _storage(identity: str) -> storage.Client:
    client = storage.Client(project=config.project(), credentials=_access(identity))
    _widen_pool(client)
    return client


def _widen_pool(client: Any) -> None:
    # https://github.com/googleapis/python-storage/issues/253: the default pool of ten throws
    # surplus connections away.
    adapter = HTTPAdapter(pool_maxsize=POOL_SIZE, pool_block=True)
    client._http.mount("https://", adapter)
    client._http.mount("http://", adapter)


def _access(identity: str) -> gcredentials.Credentials:
    """What a client presents. Emulators take any token: theirs names the identity, no more."""
    if is_emulated():
        return _EmulatorCredentials(identity)
    return _credentials(identity)


def _credentials(identity: str) -> gcredentials.Credentials:
    option, key = {
        "ro": (config.CREDENTIALS_RO, config.credentials_ro()),
        "rw": (config.CREDENTIALS, config.credentials()),
    }[identity]
    if key:
        return service_account.Credentials.from_service_account_info(
            config.read_key(option, key), scopes=_SCOPES
        )
    try:
        found, _ = google.auth.default(scopes=_SCOPES)
    except auth_exc.DefaultCredentialsError as err:
        raise PermissionMissing(
            f"The site has no Google credentials: set {option}, or give it Application Default "
            "Credentials."
        ) from err
    return found


class _EmulatorCredentials(gcredentials.Credentials):
    """A bearer token that never expires and opens nothing but an emulator."""

    def __init__(self, identity: str) -> None:
        super().__init__()
        self.token = f"emulator-{identity}"

    def refresh(self, request: object) -> None:
        pass


def is_throttled(err: BaseException) -> bool:
    """Whether Google asks to come less often, and has done nothing."""
    return isinstance(err, gexc.GoogleAPICallError) and bool(
        err.code == 429 or _reasons(err) & _THROTTLED
    )


def is_too_expensive(err: gexc.GoogleAPICallError) -> bool:
    """Whether a statement has not run, as it would be billed for more than it may be."""
    return TOO_EXPENSIVE in _reasons(err)


def _reasons(err: gexc.GoogleAPICallError) -> set[str]:
    return {str(error.get("reason")) for error in err.errors or () if isinstance(error, dict)}


def is_transient(err: BaseException) -> bool:
    """Whether the same request may succeed a moment later; it may have had its effect, too."""
    if isinstance(err, gexc.GoogleAPICallError):
        if is_too_expensive(err):
            return False  # the library knows it as a 500
        return err.code in _PASSING_STATUSES or is_throttled(err)
    if isinstance(err, InvalidResponse):
        # How uploads and downloads of Cloud Storage say it, before they raise one of the above.
        return cast("Any", err).response.status_code in _PASSING_STATUSES
    return isinstance(
        err,
        (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
            auth_exc.TransportError,
            gexc.RetryError,
            TimeoutError,
            futures.TimeoutError,
        ),
    )


def reason(err: gexc.GoogleAPICallError) -> str:
    """Google's own words without the request's address, which may carry a signature."""
    details = [error.get("message", "") for error in err.errors or () if isinstance(error, dict)]
    return "; ".join(filter(None, details)) or _reason_in_body(err) or f"HTTP {err.code}"


def _reason_in_body(err: gexc.GoogleAPICallError) -> str:
    """The words where the error does not hold them: in answers to uploads and downloads."""
    try:
        return str(err.response.json()["error"]["message"])  # type: ignore[union-attr]
    except (AttributeError, ValueError, KeyError, TypeError):
        return ""
