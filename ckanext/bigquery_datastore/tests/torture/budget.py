"""Of many things to try, as many as there is time for, by chance.

In the short form the chance is always the same, as everybody's tests are to be; in full it is one
of the day, so that in some days all is tried.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

LEAST = 3

# What chance begins with, as ``conftest`` sets it.
seeds = [""]

_T = TypeVar("_T")
_R = TypeVar("_R")


def tried_in_time(
    work: Callable[[_T], _R], items: Iterable[_T], seconds: float, at_once: int = 1, seed: str = ""
) -> list[_R]:
    """What came of those whose turn came in time, so many at once; some are tried in any case.

    :raises Exception: the first that any raised; no more are begun then
    """
    chosen = list(items)
    random.Random(seeds[0] + seed).shuffle(chosen)
    end, turns, results = time.monotonic() + seconds, enumerate(chosen), []
    is_over = False

    def some(_: int) -> None:
        nonlocal is_over
        for number, item in turns:
            if is_over or (number >= LEAST and time.monotonic() > end):
                return
            try:
                results.append(work(item))
            except BaseException:
                is_over = True
                raise

    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(some, range(at_once)))
    return results
