"""Files from addresses that anybody may type: bounded, and never from inside the site's network.

A name is resolved here, its addresses are checked, and the connection is made to an address that
was checked: a name that means another one a moment later gains nothing. The same is done for each
redirect. https://owasp.org/www-community/attacks/Server_Side_Request_Forgery
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from typing import IO, Any, cast
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import certifi
import urllib3
from urllib3.exceptions import HTTPError

from ckanext.bigquery_datastore.errors import BadRequest
from ckanext.bigquery_datastore.load.faults import Unchanged
from ckanext.bigquery_datastore.load.kinds import file_name

CONNECT_SECONDS = 10.0
#: For how long nothing may come.
READ_SECONDS = 60.0
REDIRECTS = 5

_PORTS = {"http": 80, "https": 443}
# Prefixes whose addresses hold another one: https://www.rfc-editor.org/rfc/rfc6052, /rfc3056
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")


@dataclass(frozen=True)
class Answer:
    """What a server gives; ``told`` are its validators, ``name`` what it calls the file."""

    stream: IO[bytes]
    size: int | None
    told: Mapping[str, str]
    name: str | None
    content_type: str | None


@contextmanager
def opened(
    url: str, known: Mapping[str, Any] | None = None, allowed: Collection[str] = ()
) -> Iterator[Answer]:
    """The file at an address.

    :param known: the validators that were told last time
    :param allowed: hosts that may have any address
    :raises Unchanged: the server says that it is still the same
    :raises BadRequest: it cannot be had, or not from there
    """
    headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "CKAN"}
    known = known or {}
    for name, header in (("etag", "If-None-Match"), ("modified", "If-Modified-Since")):
        if known.get(name):
            headers[header] = str(known[name])
    for _ in range(REDIRECTS + 1):
        target = _target(url)
        with _requested(target, headers, allowed) as answer:
            if answer.status in (301, 302, 303, 307, 308) and answer.headers.get("Location"):
                url = urljoin(url, answer.headers["Location"])
                continue
            if answer.status == 304 and len(headers) > 3:
                raise Unchanged()
            if answer.status != 200:
                raise BadRequest(f"{target.hostname} answers {answer.status} instead of the file.")
            yield _answer(answer, url)
            return
    raise BadRequest(f"{urlsplit(url).hostname} redirects more than {REDIRECTS} times.")


def _target(url: str) -> SplitResult:
    """The parts of an address that may be asked.

    :raises BadRequest: it is none
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as err:
        raise BadRequest(f"{url[:200]!r} is no address of a file.") from err
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise BadRequest(f"{url[:200]!r} is no http or https address.")
    if parts.username is not None or parts.password is not None:
        raise BadRequest("The address holds a user's name or password, which is not sent.")
    return parts


def address(host: str, port: int, allowed: Collection[str] = ()) -> str:
    """An address of the host that may be connected to.

    :raises BadRequest: it has none
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as err:
        raise BadRequest(f"There is no host {host!r}.") from err
    for family in (socket.AF_INET, socket.AF_INET6):
        for kind, *_, place in found:
            if kind == family and (host.lower() in allowed or is_public(str(place[0]))):
                return str(place[0])
    raise BadRequest(
        f"{host} has no public address: files are not fetched from inside a network. Who runs the "
        "site can allow it in ckanext.bigquery_datastore.load_allowed_hosts."
    )


def is_public(text: str) -> bool:
    """Whether an address is one of the internet's."""
    found = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)))
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        inner = found.sixtofour or (found.teredo or (None, None))[1]
        if found in _LOCAL_NAT64 or found.is_site_local:
            return False
        if inner is not None and not is_public(str(inner)):
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved


@contextmanager
def _requested(
    target: SplitResult, headers: Mapping[str, str], allowed: Collection[str]
) -> Iterator[Any]:
    """The answer of the server, its body not read yet."""
    host = str(target.hostname)
    port = target.port or _PORTS[target.scheme]
    options: dict[str, Any] = {
        "timeout": urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
        "maxsize": 1,
    }
    place = address(host, port, allowed)
    if target.scheme == "https":
        pool: Any = urllib3.HTTPSConnectionPool(
            place,
            port,
            server_hostname=host,
            assert_hostname=host,
            cert_reqs="CERT_REQUIRED",
            ca_certs=certifi.where(),
            **options,
        )
    else:
        pool = urllib3.HTTPConnectionPool(place, port, **options)
    path = quote(target.path or "/", safe="/%:=&+,;@!$'()*~")
    if target.query:
        path += "?" + quote(target.query, safe="/%:=&+,;@!$'()*~?[]|")
    try:
        with pool:
            answer = pool.urlopen(
                "GET",
                path,
                headers={**headers, "Host": _host(target, port)},
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                enforce_content_length=True,
            )
            try:
                yield answer
            finally:
                answer.close()
    except HTTPError as err:
        raise BadRequest(f"{host} does not give the file: {_reason(err)}.") from err


def _host(target: SplitResult, port: int) -> str:
    host = str(target.hostname)
    host = f"[{host}]" if ":" in host else host.encode("idna").decode()
    return host if port == _PORTS[target.scheme] else f"{host}:{port}"


def _reason(err: HTTPError) -> str:
    """What went wrong, without the address that was connected to."""
    kinds = {
        "ConnectTimeoutError": "it does not answer",
        "NewConnectionError": "no connection can be made",
        "ReadTimeoutError": "it takes too long",
        "SSLError": "its certificate is not valid",
        "ProtocolError": "the connection broke",
        "IncompleteRead": "the connection broke",
    }
    return kinds.get(type(err).__name__, "the connection broke")


def _answer(answer: Any, url: str) -> Answer:
    headers = answer.headers
    length = str(headers.get("Content-Length") or "")
    told = {"etag": headers.get("ETag"), "modified": headers.get("Last-Modified")}
    message = Message()
    message["Content-Disposition"] = str(headers.get("Content-Disposition") or "")
    return Answer(
        cast("IO[bytes]", _Body(answer)),
        int(length) if length.isdigit() else None,
        {name: value for name, value in told.items() if value},
        message.get_filename() or file_name(url),
        headers.get("Content-Type"),
    )


class _Body:
    """The body of an answer; one that breaks off is none that has ended."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def read(self, size: int = -1) -> bytes:
        return self._answer.read(size if size >= 0 else None)
