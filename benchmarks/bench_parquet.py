"""How long the footers of many Parquet shards take to merge, and in how much memory.

    python benchmarks/bench_parquet.py [COLUMN_CHUNKS ...]

One real shard of 2 row groups × 50 columns is written by pyarrow, and merged as often as makes
10,000, 100,000 and 1,000,000 column chunks. Each figure comes from a process of its own: the time
is the best of three and the processor's (nothing is waited for, so that an idle machine's clock
says the same), the memory the peak of all that Python holds, the shards' footers included.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
import tracemalloc
from io import BytesIO

import click
import pyarrow as pa
import pyarrow.parquet as pq

from ckanext.bigquery_datastore.dump import parquet

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


def seconds(chunks: int) -> float:
    them = shards(chunks)
    parquet.merge(them[:1])  # the first merge of a process makes its tables
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        parquet.merge(them)
        best = min(best, time.process_time() - start)
    return best


def peak(chunks: int) -> float:
    """In multiples of the footers' bytes."""
    parquet.merge(shards(COLUMNS * GROUPS))
    tracemalloc.start()
    them = shards(chunks)
    tracemalloc.reset_peak()
    parquet.merge(them)
    return tracemalloc.get_traced_memory()[1] / sum(len(shard.footer) for shard in them)


def apart(what: str, chunks: int) -> float:
    """The figure ``what`` from a process of its own."""
    told = subprocess.run(
        [sys.executable, __file__, what, str(chunks)], check=True, capture_output=True, text=True
    )
    return float(told.stdout)


def main(arguments: list[str]) -> None:
    measures = {"seconds": seconds, "peak": peak}
    if arguments and arguments[0] in measures:
        click.echo(measures[arguments[0]](int(arguments[1])))
        return
    click.echo("column chunks   footers, MB   CPU seconds   µs a chunk   peak / footers")
    for chunks in map(int, arguments or CHUNKS):
        took = apart("seconds", chunks)
        size = sum(len(shard.footer) for shard in shards(chunks)) / 1e6
        click.echo(
            f"{chunks:13,}   {size:11.1f}   {took:11.2f}   {took / chunks * 1e6:10.1f}"
            f"   {apart('peak', chunks):14.2f}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
