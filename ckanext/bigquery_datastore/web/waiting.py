"""What a visitor who waits is told: what happens now, for how long, and how long it may take."""

from __future__ import annotations

import time

from ckan.plugins import toolkit as tk

from ckanext.bigquery_datastore.downloads import Ready, Running
from ckanext.bigquery_datastore.dump.state import ASSEMBLE

# Before this much of the work is done, or this many seconds, its rest is a guess.
_LEAST_PROGRESS, _LEAST_SECONDS = 0.05, 2


def words(state: Ready | Running) -> str:
    """What is happening, in a sentence."""
    if isinstance(state, Ready):
        return tk._("The file is ready. Others download at the moment: it is your turn soon.")
    if state.phase == ASSEMBLE:
        if state.parts:
            return tk.ungettext(
                "The table is exported: its one part is being made into a file.",
                "The table is exported: its {parts} parts are being joined into one file.",
                state.parts,
            ).format(parts=state.parts)
        return tk._("The table is exported: its parts are being joined into one file.")
    if state.progress is None:
        return tk._("The table is being exported. How much there is to do is not known yet.")
    return tk._("The table is being exported: {percent} percent are done.").format(
        percent=round(state.progress * 100)
    )


def elapsed(state: Running) -> float:
    """Seconds since the export began."""
    return max(0.0, time.time() - state.started.timestamp())


def left(state: Running) -> int | None:
    """Seconds that the phase will take at this pace; None where that cannot be told."""
    progress, seconds = state.progress or 0.0, elapsed(state)
    if progress < _LEAST_PROGRESS or seconds < _LEAST_SECONDS:
        return None
    return round(seconds * (1 - progress) / progress)


def time_words(state: Ready | Running) -> str:
    """For how long it has been going on, and may go on."""
    if isinstance(state, Ready):
        return ""
    found = tk._("{time} so far").format(time=_span(elapsed(state)))
    rest = left(state)
    if rest is None:
        return found
    return tk._("{so_far}, about {time} left").format(so_far=found, time=_span(rest))


def _span(seconds: float) -> str:
    if seconds < 90:
        count = round(seconds)
        return tk.ungettext("{count} second", "{count} seconds", count).format(count=count)
    count = round(seconds / 60)
    return tk.ungettext("{count} minute", "{count} minutes", count).format(count=count)
