"""What a visitor hears of an error, and what stays in the log.

Of a failure on the site's side, or on Google's, a visitor reads what it means, in the visitor's
language, and a number. The details, which may name service accounts, projects, buckets and
options, stand in the log under that number; sysadmins read them with it. What is wrong with the
request itself is said in full, without the names of the site's places at Google.
"""

from __future__ import annotations

import hashlib
import logging
import re

from ckan.plugins import toolkit as tk
from flask import has_request_context

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.errors import BigQueryDatastoreError

log = logging.getLogger(__name__)

_ACCOUNT = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
_OBJECT = re.compile(r"gs://[^\s'\"`]*")


def of(status: int) -> str:
    """What an error means, by the HTTP status that its class stands for."""
    gists = {
        400: tk._("The address asks for something that does not exist here."),
        413: tk._("The file would be larger, or cost more, than this site allows."),
        429: tk._("This site does no more for visitors who are not logged in for now."),
        502: tk._("The file could not be made. The people who run this site can help."),
        503: tk._("The file cannot be made at the moment. Please try again in a minute."),
    }
    return gists.get(status, tk._("Something went wrong on this site."))


def message(err: BigQueryDatastoreError) -> str:
    """What is said beside the gist: to the visitor, or to a sysadmin."""
    if err.is_for_visitors:
        return str(err) if _may_hear_all() else without_places(str(err))
    number = _noted(err)
    line = tk._("This failure has the number {number} in the site's log.").format(number=number)
    return f"{err}\n{line}" if _may_hear_all() else line


def sentence(err: BigQueryDatastoreError) -> str:
    """Gist and message as one text, where there is no page to set them apart."""
    return message(err) if err.is_for_visitors else f"{of(err.status)} {message(err)}"


def without_places(text: str) -> str:
    """A text without the names of service accounts, objects, and the site's project and dataset."""
    text = _ACCOUNT.sub("…", _OBJECT.sub("…", text))
    # Words of their own, in quotes or not: neither inside of another name nor its beginning.
    project, dataset, bucket = (
        rf"`?(?<![\w-]){re.escape(name)}(?![\w-])`?"
        for name in (config.project(), config.dataset(), config.export_bucket())
    )
    # Before the name of a table nothing is left of them, elsewhere a mark. A project alone is told
    # by the word before it or the colon behind it: it may be called as an ordinary word is.
    place = rf"{project}(?:[.:]|/datasets/){dataset}"
    text = re.sub(rf"{place}[.:](?=\S)", "", text)
    alone = rf"(?<=roject )(?:{project})|(?<=rojects/)(?:{project})|{project}(?=:)"
    return re.sub(rf"{place}|{alone}|{bucket}", "…", text)


def _noted(err: BigQueryDatastoreError) -> str:
    """Write the details into the log; their number, which is the same for the same details."""
    # On one line: nobody's words can look like a line of the log's own.
    details = " ".join(f"{type(err).__name__}: {err}".split())
    number = hashlib.sha256(details.encode()).hexdigest()[:8]
    level = logging.WARNING if err.status == 503 else logging.ERROR
    log.log(level, "Failure %s: %s", number, details)
    return number


def _may_hear_all() -> bool:
    """Whether who asks runs the site: a sysadmin, or a command."""
    return not has_request_context() or bool(getattr(tk.current_user, "sysadmin", False))
