"""Signed URLs: who has one may download one object, for a while, and nothing else.

https://cloud.google.com/storage/docs/access-control/signed-urls
"""

from __future__ import annotations

import datetime as dt
import os

from google.auth import credentials as gcredentials
from google.auth.transport.requests import Request

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.dump.storage import Store, StoredObject
from ckanext.bigquery_datastore.errors import PermissionMissing

# Google's own keys, which IAM signs with, are rotated: a signature of theirs is good for 12 hours.
# https://cloud.google.com/storage/docs/authentication/creating-signatures
IAM_LIFETIME = dt.timedelta(hours=12)


def lifetime() -> dt.timedelta:
    """How long a URL that is signed now will work."""
    wanted = dt.timedelta(hours=config.url_expiry_hours())
    return wanted if _holds_private_key(clients.signer()) else min(wanted, IAM_LIFETIME)


def signed_url(
    store: Store, found: StoredObject, method: str, disposition: str, content_type: str
) -> str:
    """A V4 signed URL for this generation of the object.

    :param method: the signature is good for this HTTP method only
    :raises PermissionMissing: the site's credentials can sign neither themselves nor through IAM
    """
    credentials = clients.signer()
    blob = store.client.bucket(store.bucket).blob(found.name)
    with clients.told("the signature of a download link"):
        return blob.generate_signed_url(
            version="v4",
            method=method,
            expiration=lifetime(),
            response_disposition=disposition,
            response_type=content_type,
            generation=found.generation,
            api_access_endpoint=os.environ.get("STORAGE_EMULATOR_HOST") or None,
            credentials=credentials,
            **({} if _holds_private_key(credentials) else _through_iam(credentials)),
        )


def _holds_private_key(credentials: gcredentials.Credentials) -> bool:
    return isinstance(credentials, gcredentials.Signing) and credentials.signer is not None


def _through_iam(credentials: gcredentials.Credentials) -> dict[str, str]:
    """What makes Google's client sign by IAM's signBlob: the account and a fresh access token."""
    if not credentials.valid:
        credentials.refresh(Request())
    account = getattr(credentials, "service_account_email", None)
    if not account:
        raise PermissionMissing(
            "Download links cannot be signed: the site's Google credentials are no service "
            f"account. Give one in {config.CREDENTIALS}, or run the site under one that has the "
            "role Service Account Token Creator on itself."
        )
    return {"service_account_email": account, "access_token": str(credentials.token)}
