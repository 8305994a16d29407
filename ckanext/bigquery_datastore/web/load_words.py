"""What the status of a load means, in words: for the page of a resource and for its badge."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ckan.plugins import toolkit as tk

# Who waits longer is told what may be missing. A worker takes a job within a second.
_PATIENCE = dt.timedelta(minutes=2)


def _(text: str) -> str:
    """Marks a text for translation; it is translated when it is said."""
    return text


STATES = {
    "none": _("Nothing has been loaded yet."),
    "waiting": _("Waiting for a worker to begin."),
    "loading": _("Loading."),
    "complete": _("Loaded."),
    "error": _("The last load failed. The table is as it was before."),
}
WITHOUT_TABLE = {
    "complete": _("The table has been deleted since the last load."),
    "error": _("The last load failed. There is no table."),
}
STEPS = {
    "reading": _("Loading: the file is being read."),
    "uploading": _("Loading: the file is on its way to Cloud Storage."),
    "loading": _("Loading: BigQuery is reading the rows."),
    "typing": _("Loading: every column is given its type."),
    "replacing": _("Loading: the new rows are taking their place."),
}
MODES = {
    "replace": _("new rows in place of the old ones"),
    "append": _("new rows after the old ones"),
    "upsert": _("rows of the same key replaced, others added"),
}
LEVELS = {
    "DEBUG": _("Detail"),
    "INFO": _("Information"),
    "WARNING": _("Warning"),
    "ERROR": _("Error"),
}


class Badge(NamedTuple):
    """A state that editors see on the resource's own page; ``icon`` is one of Font Awesome's."""

    text: str
    icon: str


BADGES = {
    "waiting": Badge(_("DataStore: waiting to be loaded"), "clock"),
    "loading": Badge(_("DataStore: loading"), "spinner"),
    "error": Badge(_("DataStore: the load failed"), "triangle-exclamation"),
}


def is_running(load: Mapping[str, Any]) -> bool:
    return load["state"] in ("waiting", "loading")


def sentence(load: Mapping[str, Any]) -> str:
    """The state in one sentence, which changes with the step and not with the share."""
    if load["state"] == "loading" and load["step"] in STEPS:
        return tk._(STEPS[load["step"]])
    states = STATES if load["datastore_active"] else {**STATES, **WITHOUT_TABLE}
    return tk._(states[load["state"]])


def hint(load: Mapping[str, Any], now: Callable[[], dt.datetime] | None = None) -> str:
    """What may be wrong where nobody began the load; empty where there is nothing to say."""
    if load["state"] != "waiting" or not load["requested"]:
        return ""
    asked = dt.datetime.fromisoformat(load["requested"])
    if asked.tzinfo is None:
        asked = asked.replace(tzinfo=dt.timezone.utc)
    if (now() if now else dt.datetime.now(dt.timezone.utc)) - asked < _PATIENCE:
        return ""
    return tk._(
        "It has been waiting for minutes: perhaps no worker is running. Ask who runs this site "
        "to start `ckan jobs worker bigquery_loads`."
    )


def badge(load: Mapping[str, Any]) -> Badge | None:
    """The badge of a load that is not finished, translated; None for all others."""
    found = BADGES.get(load["state"])
    return found and found._replace(text=tk._(found.text))
