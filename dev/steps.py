"""Steps that wait for each other, run side by side where they can, and say where they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from machine import StackError

SECONDS_BETWEEN_SIGNS_OF_LIFE = 10


@dataclass(frozen=True)
class Step:
    """One thing to do, after which others. `run` returns what it did; `log` tells how far it is."""

    name: str
    run: Callable[[], str]
    after: tuple[str, ...] = ()
    log: Path | None = None


def run_steps(steps: Sequence[Step], wanted: Iterable[str]) -> None:
    """Run the wanted steps and all they stand on, a line each; StackError of the first to fail."""
    todo = _with_what_they_stand_on(steps, wanted)
    done: set[str] = set()
    running: dict[Future[str], tuple[Step, float]] = {}
    with ThreadPoolExecutor() as pool:
        while todo or running:
            for step in [step for step in todo if done.issuperset(step.after)]:
                todo.remove(step)
                running[pool.submit(step.run)] = (step, time.monotonic())
            finished = wait(running, SECONDS_BETWEEN_SIGNS_OF_LIFE, FIRST_COMPLETED).done
            if not finished:
                _say_what_is_going_on(running.values())
            for future in finished:
                step, began = running.pop(future)
                try:
                    _say(step.name, future.result(), began)
                except StackError:
                    # What runs already goes on to its end: a half-made venv helps nobody.
                    others = ", ".join(other.name for other, _ in running.values())
                    _say(step.name, f"FAILED{others and f'; waiting for {others}'}", began)
                    raise
                done.add(step.name)


def _with_what_they_stand_on(steps: Sequence[Step], wanted: Iterable[str]) -> list[Step]:
    by_name = {step.name: step for step in steps}
    needed: set[str] = set()
    queue = list(wanted)
    while queue:
        name = queue.pop()
        if name not in by_name:
            raise StackError(f"There is no step {name!r}. Steps: {', '.join(by_name)}")
        if name not in needed:
            needed.add(name)
            queue.extend(by_name[name].after)
    return [step for step in steps if step.name in needed]


def _say(name: str, text: str, began: float) -> None:
    print(f"  {name:<12} {time.monotonic() - began:6.1f} s  {text}", flush=True)


def _say_what_is_going_on(running: Iterable[tuple[Step, float]]) -> None:
    for step, began in running:
        _say(step.name, f"… {_last_line(step.log)}", began)


def _last_line(log: Path | None) -> str:
    if log is None or not log.exists():
        return ""
    lines = log.read_bytes()[-2000:].decode(errors="replace").split("\n")
    return next((line.strip()[:90] for line in reversed(lines) if line.strip()), "")
