"""How long the footers of many Parquet shards take to merge, and in how much memory.

    python -m benchmarks.bench_parquet [--small]

One real shard of 2 row groups × 50 columns is written by pyarrow, and merged as often as makes
10,000, 100,000 and 1,000,000 column chunks. pyarrow cannot move offsets: beside the merge, which
is Python and writes, stands what it takes pyarrow only to read the same footers, as values that
Python could change, and in its own C++ alone. Each figure comes from a process of its own: the time
is the best of three and the processor's, the memory the peak of what Python holds.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq

from ckanext.bigquery_datastore.dump import parquet

from .alone import run
from .report import Curve, Figure, alternately

COLUMNS, GROUPS, ROWS = 50, 2, 1000
CHUNKS = (10_000, 100_000, 1_000_000)


def one_shard() -> bytes:
    """A file with columns of the commonest types, statistics and dictionaries."""
    rng = random.Random(1)
    kinds = (
        lambda: rng.randint(-(10**9), 10**9),
        lambda: "x" * rng.randint(3, 25),
        lambda: rng.random(),
        lambda: rng.random() < 0.5,
        lambda: rng.choice((None, 1, 2)),
    )
    table = pa.table(
        {
            f"measured_{nth}": [kinds[nth % len(kinds)]() for _ in range(ROWS * GROUPS)]
            for nth in range(COLUMNS)
        }
    )
    out = BytesIO()
    pq.write_table(table, out, row_group_size=ROWS, store_schema=False)
    return out.getvalue()


def shards(chunks: int) -> list[parquet.Shard]:
    """As many as make ``chunks`` column chunks, each with a footer of its own in memory."""
    data = one_shard()
    footer = data[-parquet.footer_length(data[-8:]) :]
    return [
        parquet.Shard(len(data), bytes(bytearray(footer)))
        for _ in range(chunks // (COLUMNS * GROUPS))
    ]


def metadata_of(shard: parquet.Shard) -> pq.FileMetaData:
    return pq.read_metadata(BytesIO(b"PAR1" + shard.footer))


def cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def seconds(chunks: int) -> tuple[float, ...]:
    """Ours, pyarrow's as values, its C++ alone, and the bytes of all footers."""
    them = shards(chunks)
    parquet.merge(them[:1])  # the first merge of a process makes its tables
    found = alternately(
        lambda: parquet.merge(them),
        lambda: [metadata_of(shard).to_dict() and None for shard in them],
        lambda: [metadata_of(shard) and None for shard in them],
        rounds=3,
        measure=cpu,
    )
    return (*map(min, found), sum(len(shard.footer) for shard in them))


def peak(chunks: int) -> tuple[float, ...]:
    """In multiples of the footers' bytes."""
    parquet.merge(shards(COLUMNS * GROUPS))
    tracemalloc.start()
    them = shards(chunks)
    tracemalloc.reset_peak()
    parquet.merge(them)
    return (tracemalloc.get_traced_memory()[1] / sum(len(shard.footer) for shard in them),)


def apart(what: str, chunks: int) -> list[float]:
    """The figures of ``what`` from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bench_parquet", what, str(chunks)]
    return [float(figure) for figure in subprocess.check_output(command, text=True).split()]


def measure(small: bool) -> Iterator[Figure | Curve]:
    merged, values, parsed = [], [], []
    for chunks in CHUNKS[:2] if small else CHUNKS:
        ours, as_values, in_c, size = apart("seconds", chunks)
        (memory,) = apart("peak", chunks)
        merged.append((chunks, ours))
        values.append((chunks, as_values))
        parsed.append((chunks, in_c))
        yield Figure(
            "parquet footers, merged",
            f"{chunks:,} column chunks, {size / 1e6:.1f} MB of footers",
            f"{ours:.2f} s, {1e6 * ours / chunks:.1f} µs a chunk",
            f"pyarrow only reading them, as values {as_values:.2f} s: {as_values / ours:.1f} ×, "
            f"its C++ alone {in_c:.2f} s: {in_c / ours:.1f} ×",
            "≥ 3 × pyarrow's values",
            as_values >= 3 * ours,
        )
        yield Figure(
            "parquet footers, merged",
            f"memory, {chunks:,} column chunks",
            f"{memory - 1:.2f} × the footers, {memory:.2f} × with themselves",
            target="≤ 2 ×",
            reached=memory - 1 <= 2,
        )
    yield Curve(
        "Parquet footers, merged",
        "column chunks",
        "seconds",
        {"merge": merged, "pyarrow, read as values": values, "pyarrow, its C++ alone": parsed},
        "All are straight: each chunk is looked at once.",
    )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        found = {"seconds": seconds, "peak": peak}[sys.argv[1]](int(sys.argv[2]))
        sys.stdout.write(" ".join(map(repr, found)))
    else:
        run(measure, __doc__)
