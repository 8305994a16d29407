"""A query as PostgreSQL means it, said in GoogleSQL: types as PostgreSQL finds them, by tables.

Each expression gets PostgreSQL's type before it is said, so that a quoted literal takes the type of
what it meets, and what has another meaning in GoogleSQL is said otherwise. What has no row in a
table is refused with a sentence: nothing is passed on in the hope that it means the same.

The result is a tree like any other: it is written, read again and held against the lists
(``check``) before it runs.

    kinds         PostgreSQL's types, which become which, and literals of them
    template      GoogleSQL with places to fill
    scope         what a name means
    casts         a value as one of another type, as text
    patterns      LIKE, SIMILAR TO and regular expressions
    reading       what sqlglot has read otherwise than PostgreSQL does
    comparisons   operators that answer true or false
    arithmetic    operators of numbers, texts and moments
    moments       fields and units of dates and times
    intervals     lengths of time, which only live inside of an expression
    functions     the functions
    matching      those of regular expressions
    aggregates    functions of many rows, and of windows
    ordering      terms of an ORDER BY, with NaN and NULL where PostgreSQL has them
    calls         functions as they are called: DISTINCT, FILTER, OVER
    expressions   one expression, whatever it is
    naming        what an output is called
    sources       FROM and its joins
    ends          GROUP BY, DISTINCT, ORDER BY
    queries       SELECT with all of its clauses, and sets of them
"""
