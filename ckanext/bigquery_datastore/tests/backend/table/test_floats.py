"""The text of a float is PostgreSQL's to the last digit, from Python and from GoogleSQL alike."""

from __future__ import annotations

import math
import os
import random
import struct
from collections.abc import Iterator, Sequence

import psycopg2
import pytest
from ckan.plugins import toolkit as tk

from ckanext.bigquery_datastore.backend.parameters import Parameter
from ckanext.bigquery_datastore.backend.table import conversion, reading
from ckanext.bigquery_datastore.tests.evaluated import evaluate

pytestmark = pytest.mark.usefixtures("with_plugins")

SEED = int(os.environ.get("FLOATS_SEED", "20240229"))
# ``FLOATS=1000000`` is the whole test; the suite takes a sample of it.
FLOATS = int(os.environ.get("FLOATS", "20000"))
EVALUATED = FLOATS // 10
SMALLEST_NORMAL = 2.0**-1022
SPECIAL = (0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, 1e15, 1e22)


def drawn(dice: random.Random, count: int) -> Iterator[float]:
    """Floats of all magnitudes: any bits, decimals, whole numbers, few binary digits."""
    while count:
        found = dice.choice([
            lambda: struct.unpack("d", struct.pack("Q", dice.getrandbits(64)))[0],
            lambda: dice.choice((-1, 1)) * dice.uniform(1, 10) * 10 ** dice.randint(-20, 40),
            lambda: float(dice.randint(2**53, 2 ** dice.randint(54, 100))),
            lambda: round(dice.uniform(-1e6, 1e6), dice.randint(0, 9)),
            lambda: math.ldexp(dice.getrandbits(dice.randint(1, 53)), dice.randint(-100, 60)),
        ])()  # fmt: skip
        if math.isfinite(found):
            count -= 1
            yield found


POWERS = [sign * 2.0**power for power in range(-1074, 1024) for sign in (1, -1)]


def postgresql(values: Sequence[float]) -> list[str]:
    """The texts that the stack's PostgreSQL has for floats."""
    with psycopg2.connect(tk.config["sqlalchemy.url"]) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT array_agg(x::text ORDER BY n) "
            "FROM unnest(%s::float8[]) WITH ORDINALITY AS given (x, n)",
            ([f"{value:.17g}" for value in values],),
        )
        (texts,) = cursor.fetchone()
        return texts


def test_a_text_from_python_is_postgresqls() -> None:
    values = [*SPECIAL, *POWERS, *drawn(random.Random(SEED), FLOATS)]
    texts = zip(values, postgresql(values), strict=True)
    assert [wrong for wrong in texts if reading.float_text(wrong[0]) != wrong[1]] == []


def test_a_text_from_googlesql_is_postgresqls() -> None:
    dice = random.Random(SEED + 1)
    values = [*SPECIAL, *dice.sample(POWERS, 200), *drawn(dice, EVALUATED)]
    values = [v for v in values if not 0 < abs(v) < SMALLEST_NORMAL]
    given = Parameter("values", "FLOAT64", tuple(map(repr, values)))
    text = conversion.float_text("x")
    rows = evaluate(f"SELECT {text} FROM UNNEST(@values) AS x WITH OFFSET AS n ORDER BY n", [given])
    found = zip(values, postgresql(values), (text for (text,) in rows), strict=True)
    assert [wrong for wrong in found if wrong[1] != wrong[2]] == []


@pytest.mark.parametrize("value", [5e-324, -2.5e-310, SMALLEST_NORMAL - 5e-324])
def test_the_text_of_a_subnormal_reads_back_though_it_may_be_longer(value: float) -> None:
    given = Parameter("x", "FLOAT64", repr(value))
    ((text,),) = evaluate(f"SELECT {conversion.float_text('@x')}", [given])
    assert float(text) == value
