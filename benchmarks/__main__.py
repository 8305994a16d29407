"""How fast, how large, how cheap: every benchmark in turn, as one table, JSON and pictures.

    . .stack/env; python -m benchmarks [--small] [--only NAME …]

Each is a process of its own, so that its memory and CPU are its own. What is found goes into the
documentation: ``docs/pictures/figures.json``, a picture of each curve beside it, and the page
``docs/operators/figures.md``. A small run leaves the documentation as it is, and writes the same
below ``.stack/figures/``. Ends with 1 where a benchmark failed; a target that is missed is no
failure.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import printing
from benchmarks.pictures import draw
from benchmarks.report import Curve, Figure

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = "operators/figures.md"
BEGIN, END = "<!-- what was measured -->", "<!-- to here -->"

# Programs of their own, which print tables of their own.
APART = {"alive", "engine"}
# The order of the page; what is not named comes behind.
ORDER = (
    *("cached", "dump", "stream", "compose", "parquet", "rewriting"),
    *("actions", "load", "sizes", "cost", "growth", "paper"),
)


def names() -> list[str]:
    """The benchmarks that there are, in the order of the page."""
    found = {path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py")}
    place = {name: number for number, name in enumerate(ORDER)}
    return sorted(found - APART, key=lambda name: (place.get(name, len(ORDER)), name))


def main() -> int:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--small", action="store_true", help="little of everything")
    options.add_argument("--only", nargs="+", choices=names(), default=names(), metavar="NAME")
    options.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.into:
        return _measure(given.only[0], given.small, given.into)
    folder = REPOSITORY / (".stack/figures" if given.small else "docs")
    failed = []
    found = _read(folder)
    for name in given.only:
        sys.stdout.write(f"--- {name}\n")
        sys.stdout.flush()
        told, well = _run(name, given.small)
        if told:
            found[name] = {"small": given.small, **_circumstances(), "found": told}
        if not well:
            failed.append(name)
        # After each, so that what was measured is not lost with what follows.
        _write(folder, found)
    figures = [one for one in _findings(found, given.only) if isinstance(one, Figure)]
    if figures:
        sys.stdout.write(f"\n{printing.table(figures)}\nIn {folder / PAGE}\n")
    if failed:
        sys.stdout.write(f"FAILED: {', '.join(failed)}\n")
    return 1 if failed else 0


def _measure(name: str, small: bool, into: Path) -> int:
    """In a process of its own: each finding as a line of ``into``, as it comes."""
    with into.open("w") as lines:
        for found in import_module(f"benchmarks.bench_{name}").measure(small):
            kind = "figure" if isinstance(found, Figure) else "curve"
            lines.write(json.dumps({"kind": kind, **asdict(found)}) + "\n")
            lines.flush()
            printing.show([found])
    return 0


def _run(name: str, small: bool) -> tuple[list[dict[str, Any]], bool]:
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "found.jsonl"
        command = [sys.executable, "-m", "benchmarks", "--only", name, "--into", str(into)]
        done = subprocess.run(command + ["--small"] * small, cwd=REPOSITORY)
        lines = into.read_text().splitlines() if into.exists() else []
    return [json.loads(line) for line in lines], done.returncode == 0


def _circumstances() -> dict[str, str]:
    """When, on what, and of which state of this repository."""
    git = ["git", "-C", str(REPOSITORY)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    processors = Path("/proc/cpuinfo").read_text().count("processor\t")
    kilobytes = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "commit": commit.stdout.strip(),
        "machine": f"{processors} cores, {kilobytes / 2**20:.0f} GiB, "
        f"{platform.system()} on {platform.machine()}, Python {platform.python_version()}",
    }


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "pictures" / "figures.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _write(folder: Path, found: dict[str, Any]) -> None:
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    (pictures / "figures.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    every = [name for name in names() if name in found]
    for one in _findings(found, every):
        if isinstance(one, Curve):
            draw(one, pictures / _picture(one))
    page, written = folder / PAGE, REPOSITORY / "docs" / PAGE
    head, _, rest = written.read_text().partition(BEGIN)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{head}{BEGIN}\n{_text(found, every)}{END}{rest.partition(END)[2]}")


def _picture(curve: Curve) -> str:
    """The name of a curve's file, which stands in a link."""
    return f"growth-{re.sub(r'[^a-z0-9]+', '-', curve.name.lower())}.svg"


def _findings(found: dict[str, Any], of: list[str]) -> Iterator[Figure | Curve]:
    for name in of:
        for told in found.get(name, {}).get("found", ()):
            values = {key: value for key, value in told.items() if key != "kind"}
            yield Figure(**values) if told["kind"] == "figure" else Curve(**values)


def _text(found: dict[str, Any], of: list[str]) -> str:
    """The page's part between its marks."""
    measured: dict[str, list[str]] = {}
    for name in of:
        one = found[name]
        size = ", in small" if one["small"] else ""
        when = f"{one['machine']}; {one['date']}, commit {one['commit']}{size}"
        measured.setdefault(when, []).append(name)
    every = list(_findings(found, of))
    figures = [one for one in every if isinstance(one, Figure)]
    curves = [one for one in every if isinstance(one, Curve)]
    parts = [f"Measured on {when}: {', '.join(of)}." for when, of in measured.items()]
    if figures:
        parts.append(printing.markdown(figures).rstrip())
    if curves:
        parts.append(
            "## Growth\n\nBoth axes are logarithmic: a straight line that rises by one "
            "decade in one decade is proportional."
        )
    for one in curves:
        title = f"{one.y[:1].upper()}{one.y[1:]} by {one.x}"
        parts.append(f"### {title}\n\n![{title}](../pictures/{_picture(one)})\n\n{one.reading}")
    return "".join(f"\n{part}\n" for part in parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
