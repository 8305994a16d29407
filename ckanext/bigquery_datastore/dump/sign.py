"""Signed URLs: who has one may download one object, for a while, and nothing else.

https://cloud.google.com/storage/docs/access-control/signed-urls
"""

from __future__ import annotations

import datetime as dt
import os
from functools import partial

from google.auth import credentials as gcredentials
from google.auth import crypt, iam
from google.auth import exceptions as auth_exc
from google.auth.transport.requests import Request

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.dump.objects import StoredObject
from ckanext.bigquery_datastore.dump.storage import Store
from ckanext.bigquery_datastore.errors import PermissionMissing
from ckanext.bigquery_datastore.recent import Recent

# Google's own keys, which IAM signs with, are rotated: a signature of theirs is good for 12 hours.
# https://cloud.google.com/storage/docs/authentication/creating-signatures
IAM_LIFETIME = dt.timedelta(hours=12)

# A link is given to everyone who asks for the same within metadata_ttl_seconds, for a minute at
# most: an hour is the shortest life of a link.
LINKS: Recent[str] = Recent(most_seconds=60)

# For one request to IAM or to a token server; Google's default is two minutes.
_IAM_SECONDS = 5


def lifetime() -> dt.timedelta:
    """How long a URL that is signed now will work."""
    wanted = dt.timedelta(hours=config.url_expiry_hours())
    return wanted if _holds_private_key(clients.signer()) else min(wanted, IAM_LIFETIME)


def signed_url(
    store: Store, found: StoredObject, method: str, disposition: str, content_type: str
) -> str:
    """A V4 signed URL for this generation of the object.

    A crowd shares the link that one of it was given: to sign is a request to Google where IAM
    does it, and a large part of a hot download's work where the site has a key.

    :param method: the signature is good for this HTTP method only
    :raises PermissionMissing: the site's credentials can sign neither themselves nor through IAM
    """

    def sign() -> str:
        return _signed(store, found, method, disposition, content_type)

    asked = (store.bucket, found.name, found.generation, method, disposition, content_type)
    return LINKS.get(repr(asked), sign) or sign()


def _signed(
    store: Store, found: StoredObject, method: str, disposition: str, content_type: str
) -> str:
    credentials = clients.signer()
    blob = store.client.bucket(store.bucket).blob(found.name)
    with clients.told("the signature of a download link"):
        if not _holds_private_key(credentials):
            credentials = _SignedByIam(credentials)
        try:
            return blob.generate_signed_url(
                version="v4",
                method=method,
                expiration=lifetime(),
                response_disposition=disposition,
                response_type=content_type,
                generation=found.generation,
                api_access_endpoint=os.environ.get("STORAGE_EMULATOR_HOST") or None,
                credentials=credentials,
            )
        except auth_exc.TransportError as err:
            # IAM's refusal, which has no type of its own.
            if "signBlob API" not in str(err):
                raise
            raise PermissionMissing(
                "IAM does not sign download links: the site's service account needs the role "
                "Service Account Token Creator on itself, and the project the IAM Credentials API."
            ) from err


def _holds_private_key(credentials: gcredentials.Credentials) -> bool:
    """Impersonated credentials, too, can sign, but by asking IAM."""
    return isinstance(getattr(credentials, "signer", None), crypt.RSASigner)


class _SignedByIam(gcredentials.Signing):
    """Credentials without a private key, with IAM's signBlob for a pen.

    :raises PermissionMissing: they are not those of a service account
    """

    def __init__(self, credentials: gcredentials.Credentials) -> None:
        request = partial(Request(), timeout=_IAM_SECONDS)
        if not credentials.valid:
            # Those of a machine learn only now whose they are.
            credentials.refresh(request)
        email = getattr(credentials, "service_account_email", None)
        if not email:
            raise PermissionMissing(
                "Download links cannot be signed: the site's Google credentials are no service "
                f"account. Give one in {config.CREDENTIALS}, or run the site under one that has "
                "the role Service Account Token Creator on itself."
            )
        self._email = str(email)
        self._signer = iam.Signer(request, credentials, self._email)

    @property
    def signer(self) -> crypt.Signer:
        return self._signer

    @property
    def signer_email(self) -> str:
        return self._email

    def sign_bytes(self, message: bytes) -> bytes:
        return self._signer.sign(message)
