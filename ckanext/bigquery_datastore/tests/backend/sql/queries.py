# ruff: noqa: E501 — one query, one line
"""Queries in PostgreSQL's SQL: those that have to give PostgreSQL's rows, and those that cannot.

The tables are those of ``TABLES``: ``t`` with a column of each type and nasty rows, ``u`` to be joined.
"""

from __future__ import annotations

#: By table: its columns (name -> PostgreSQL's type), its rows as texts.
TABLES: dict[str, tuple[dict[str, str], list[list[str | None]]]] = {
    "t": (
        {
            "_id": "int4",
            "n": "int4",
            "big": "int8",
            "num": "numeric",
            "f": "float8",
            "s": "text",
            "b": "bool",
            "d": "date",
            "ts": "timestamp",
            "tz": "timestamptz",
            "ti": "time",
        },
        [
            ["1", "7", "9007199254740993", "1.5", "0.5", "Alpha", "true", "2013-01-01",
             "2013-01-01 00:00:00", "2013-01-01 00:00:00+00", "00:00:00"],
            ["2", "-3", "-4", "-0.25", "2.5", "béta_%", "false", "2012-02-29",
             "2012-12-31 23:59:59.5", "2012-12-31 23:30:00+00", "23:59:59.25"],
            ["3", "0", "0", "0", "-0.0", "", "true", "2024-12-30",
             "2024-12-30 13:05:07.123456", "2024-07-01 12:00:00+00", "13:05:07"],
            ["4", None, None, None, None, None, None, None, None, None, None],
            ["5", "2", "5", "100", "NaN", "two words", "false", "1999-10-31",
             "1999-10-31 08:09:10", "1999-10-31 01:30:00+00", "08:09:10"],
            ["6", "7", "12", "0.333333333", "1e20", "gamma delta", "true", "2000-01-03",
             "2000-01-03 00:00:01", "2000-01-03 00:00:01+00", "12:00:00"],
            ["7", "-3", "-1", "7.25", "-1.5", "a.b\\c'd", None, "2013-01-01",
             "2013-06-15 10:00:00", "2013-06-15 10:00:00+00", "10:00:00"],
            ["8", "1", "3", "-2.5", "-Infinity", "ALPHA", "false", "2011-12-31",
             "2011-12-31 12:30:00", "2011-12-31 12:30:00+00", "12:30:00"],
        ],
    ),
    "u": (
        {"_id": "int4", "n": "int4", "s": "text", "v": "numeric"},
        [
            ["1", "7", "seven", "70.5"],
            ["2", "2", "two", "20"],
            ["3", "7", "Alpha", None],
            ["4", None, "none", "1"],
            ["5", "9", "nine", "90"],
        ],
    ),
}  # fmt: skip

#: Conditions on a row of ``t``.
CONDITIONS = """
n = '7'
n = ' 7 '
n <> '7'
'7' = n
big = '9007199254740993'
big > '4'
num = '1.5'
num > '1'
num = 1.5
num <= '0.25'
f = '0.5'
f > '1'
f >= '1'
f < '1'
f <= '1'
f = 'NaN'
f <> 'NaN'
f > 'NaN'
f <> 0.5
f = 0
f > num
f >= f
f = f
f in (0.5, 2.5)
f in ('0.5', 'NaN')
f not in (0.5)
f between 0 and 3
f between '0' and '3'
f is distinct from 'NaN'
b = 't'
b = 'true'
b = 'f'
b = 'no'
b <> 'yes'
b
not b
b is true
b is not true
b is unknown
b is not false
b and n > '0'
b = true
b > false
d = '2013-01-01'
d > '2012-12-31'
d >= '2012-02-29' and d < '2013-01-02'
d > date '2012-12-31'
d = ts
d < tz
ts > '2013-01-01'
ts = '2013-01-01 00:00:00'
ts >= d
ts between '2012-12-31' and '2013-01-01'
ts > timestamp '2013-01-01 10:00'
tz > '2013-01-01'
tz = '2012-12-31 23:30:00+00'
tz > timestamptz '2012-12-31 22:00:00+01'
ti > '12:00'
ti = '10:00:00'
ti < time '09:00'
s = 'Alpha'
s <> 'Alpha'
s > 'a'
s in ('Alpha', 'béta_%')
s = 'a.b\\c''d'
s like 'A%'
s like '%\\_\\%'
s like '%_%'
s not like 'A%'
s ilike 'alpha'
s not ilike 'ALPHA'
s like '%!_!%' escape '!'
s like '%a_%' escape '_' or s = ''
s similar to 'A%'
s similar to '(Alpha|ALPHA)'
s not similar to '%a%'
s similar to 'two_words'
s similar to '%[a-c]ta%'
s similar to 'a.b\\\\c''d'
s ~ '^A'
s ~ 'a$'
s ~* '^alpha$'
s !~ 'a'
s !~* 'ALPHA'
s ~ '^\\w+$'
s ~ '\\s'
s ~ '\\d'
s ~ '[[:upper:]]{5}'
s ~ 'b.ta'
s ~ '^.{5}$'
s ~ '(two|gamma) (words|delta)'
s ~ 'a.*a'
s ~ '[^a-z]'
s ~ '\\.b\\\\\\\\'
n in (1, '7')
n in ('1', '7')
n in (1, 2.5)
n not in (7, 2)
n in (7, null)
n between 1 and '7'
n between symmetric 7 and 1
n not between 0 and 5
n = any (array[7, 2])
n = any ('{7,2}')
n = any ('{7,NULL}')
n <> all (array[7, 2])
n > all (array[0, 1])
n < any (array[0, 2])
n = any (select n from u)
n = any (select n from u where n is not null)
n <> all (select n from u where n is not null)
n = some (select n from u)
s = any (array['Alpha', 'two words'])
s like any (array['A%', 't%'])
d = any ('{2013-01-01,1999-10-31}')
n in (select n from u)
n not in (select n from u where n is not null)
big in (select n from u)
exists (select 1 from u where u.n = t.n)
not exists (select 1 from u where u.n = t.n and v is null)
(n, s) = (7, 'Alpha')
(n, s) <> (7, 'Alpha')
(n, s) in ((7, 'Alpha'), (2, 'two words'))
n = (select max(n) from u where n < 8)
n is null
n is not null
n isnull
n is distinct from 7
n is not distinct from null
s is distinct from 'Alpha'
n + 1 = '8'
n * 2 > num
length(s) = '5'
upper(s) = 'ALPHA'
coalesce(n, '0') = 0
coalesce(s, 'none') = 'none'
nullif(n, '7') is null
case when b then 'x' else 'y' end = 'x'
case n when '7' then true else false end
extract(year from d) = 2013
extract(year from d) = '2013'
date_part('year', ts) = 2013
date_trunc('year', ts) = '2013-01-01'
ts - d > interval '1 hour'
ts > d + interval '1 day'
ts - interval '1 month' < '2013-01-01'
tz at time zone 'Europe/Vienna' > '2013-01-01'
ts at time zone 'America/New_York' > '2013-01-01'
d - date '2013-01-01' > 10
ts - timestamp '2013-01-01' between interval '0' and interval '1 year'
starts_with(s, 'A')
regexp_like(s, '^alpha', 'i')
'a' < 'b'
n % 2 = 1
n / 2 = 3
n::text = '7'
num::int = 2
b::int = 1
n::bool
's' is not null
null is null
n = null
true
false or b
s || n = 'Alpha7'
mod(n, 2) = -1
abs(n) = 3 or n is null
position('p' in s) = 3
s = trim('  Alpha ')
"""

#: Outputs of each row of ``t``.
VALUES = """
n / 2
n / -2
n % 2
-n / 2
big / 2
7 / 2
7 / 2.0
n / 2.0
num / 3
num / 7
n / 3.0
1.0 / 3
2.0 / 3
10000.0 / 3
123456.0 / 7
0.001 / 3
1.5 / 1.2
num * num
num * 0.000000001
num + n
num - 0.1
0.1 + 0.2
0.1 + 0.2 = 0.3
1e3
.5
1.50
12345678901
9223372036854775808
n * 1.5
n + f
f * 2
f / 4
num + f
num % 0.4
big + n
-num
- -n
+n
2 ^ 3
n ^ 2
f ^ 2
-2 ^ 2
2 ^ 3 ^ 2
n + '1'
'3' + n
num * '2'
f + '1'
'a' || null
s || 'x'
s || n
n || s
s || num
s || b
s || d
s || ts
s || null
'a' || 'b'
concat(s, n)
concat(s, null, 'x')
concat(b, d, ts, tz, num, ti)
concat('a', 1, true)
concat_ws(',', s, n, null, b)
concat_ws(null, s, n)
length(s)
char_length(s)
octet_length(s)
bit_length(s)
upper(s)
lower(s)
initcap(s)
reverse(s)
repeat(s, 2)
repeat(s, -1)
replace(s, 'a', 'xy')
replace(s, '', 'x')
translate(s, 'abc', 'x')
left(s, 2)
left(s, -1)
left(s, 0)
left(s, n)
right(s, 2)
right(s, -1)
right(s, n)
substr(s, 2)
substr(s, 0, 3)
substr(s, -1, 4)
substr(s, 2, 3)
substr(s, n)
substr(s, 1, 0)
substring(s, 2)
substring(s from 2 for 2)
substring(s from 0 for 3)
substring(s from '[a-z]+')
substring(s from 'a(.)')
substring(s from '(l)(p)')
substring(s from 'zzz')
substring(s from '.*?a')
substring(s from '^(.*) (.*)$')
substring(s, 'p.')
lpad(s, 7, '*')
lpad(s, 3)
lpad(s, 10)
lpad(s, -1, 'x')
lpad(s, 3, '')
rpad(s, 7, '12')
rpad(s, 2)
ltrim('  x ')
rtrim('xyyx', 'x')
btrim(s, 'aA')
trim('  x ')
trim(both 'a' from s)
trim(leading 'A' from s)
trim(trailing from ' x ')
position('a' in s)
strpos(s, 'a')
strpos(s, '')
strpos('', '')
ascii(s)
ascii('é')
ascii('')
chr(233)
md5(s)
starts_with(s, 'A')
regexp_replace(s, 'a', 'X')
regexp_replace(s, 'a', 'X', 'g')
regexp_replace(s, 'A', 'X', 'gi')
regexp_replace(s, 'a', 'X', 'i')
regexp_replace(s, '(.)a', '<\\1>')
regexp_replace(s, '(l)(p)', '\\2\\1', 'g')
regexp_replace(s, 'l', '[\\&]')
regexp_replace(s, '[aeiou]+', '-', 'g')
regexp_replace(s, '\\s+', '_')
regexp_replace(s, '^', '>')
regexp_replace(s, 'x*', '-', 'g')
regexp_like(s, 'A.p')
greatest(n, 1)
greatest(n, null)
greatest(n, big, 3)
greatest(n, num)
greatest(null, null)
greatest(f, 1)
least(n, null, 1)
least(f, 1)
least(f, num)
least(s, 'B')
greatest(d, '2013-01-01')
coalesce(n, 0)
coalesce(s, 'none')
coalesce(n, num)
coalesce(d, '2000-01-01')
coalesce(null, 'x')
coalesce(null, n)
nullif(n, 7)
nullif(s, 'Alpha')
nullif(f, 'NaN')
abs(n)
abs(num)
abs(f)
ceil(num)
ceil(f)
ceil(n)
ceiling(num)
floor(num)
floor(f)
round(num)
round(num, 1)
round(f)
round(2.5)
round(-2.5)
round(2.5::float8)
round(n)
round(n / 3.0, 2)
trunc(num)
trunc(num, 1)
trunc(f)
sign(n)
sign(num)
sign(-1.5)
sqrt(abs(n))
sqrt(4)
cbrt(f)
exp(n)
ln(n + 10)
log(n + 10)
log(100)
log10(1000)
power(n, 2)
power(2, 0.5::float8)
mod(n, 2)
mod(num, 0.4)
pi()
degrees(f)
radians(f)
degrees(pi())
sin(n)
cos(n)
tan(1)
atan(f)
atan2(n, 2)
asin(0.5)
acos(0.5)
n::text
num::text
b::text
d::text
ts::text
tz::text
ti::text
n::float8
n::numeric
n::numeric(10,2)
n::bool
num::int
num::numeric(6,1)
(num * 3)::numeric(8,2)
(1/3::float8)::numeric
'7'::int
'7'::int + 1
'1.50'::numeric
't'::bool
'off'::boolean
'2013-01-01'::date
'2013-1-5'::date
'2013-01-01'::timestamp
'2013-01-01 10:00'::timestamp
'2013-01-01 10:00+02'::timestamptz
'10:00'::time
n::text::int
s::varchar(3)
cast('3' as integer)
cast(d as timestamp)
ts::date
ts::time
tz::date
tz::timestamp
d::timestamptz
b::int
b::int + 1
null::int
null::text
null
'x'
true
2.5::float8::int
3.5::float8::int
2.5::int
-2.5::numeric::int
extract(year from d)
extract(month from d)
extract(day from ts)
extract(hour from ts)
extract(minute from tz)
extract(second from ts)
extract(milliseconds from ts)
extract(microseconds from ts)
extract(second from ti)
extract(dow from d)
extract(isodow from d)
extract(doy from d)
extract(week from d)
extract(isoyear from d)
extract(quarter from d)
extract(epoch from d)
extract(epoch from ts)
extract(epoch from tz)
extract(epoch from ti)
extract(decade from d)
extract(century from d)
extract(millennium from ts)
extract(epoch from ts - timestamp '2013-01-01')
extract(day from ts - timestamp '2013-01-01')
extract(hour from ts - timestamp '2013-01-01')
extract(year from interval '1 year 2 months')
extract(month from interval '1 year 2 months')
extract(epoch from interval '1 year 2 months 3 days 4:05:06.5')
extract(year from d) / 10
extract(timezone from tz)
date_part('year', d)
date_part('dow', ts)
date_part('epoch', ts)
date_part('second', ts)
date_part('week', d)
date_part('hour', d)
date_part('isodow', tz)
date_part('day', ts - timestamp '2013-01-01')
date_trunc('microseconds', ts)
date_trunc('second', ts)
date_trunc('minute', ts)
date_trunc('hour', ts)
date_trunc('day', ts)
date_trunc('week', ts)
date_trunc('month', ts)
date_trunc('quarter', ts)
date_trunc('year', ts)
date_trunc('decade', ts)
date_trunc('century', ts)
date_trunc('millennium', ts)
date_trunc('month', d)
date_trunc('week', tz)
date_trunc('decade', tz)
date_trunc('day', tz, 'Europe/Vienna')
date_trunc('month', d)::date
ts at time zone 'Europe/Vienna'
tz at time zone 'Europe/Vienna'
tz at time zone 'UTC'
ts at time zone 'UTC' at time zone 'Asia/Tokyo'
d + 1
1 + d
d - 1
d - n
d - date '2012-12-31'
d + interval '1 month'
d - interval '1 day'
ts + interval '1 year 2 months'
ts + interval '1 month -1 day 2:30'
ts - interval '90 minutes'
tz + interval '1 month'
tz - interval '1 week'
date '2012-01-31' + interval '1 month'
date '2012-02-29' + interval '1 year'
ts + n * interval '1 day'
ts + interval '1 day' * 2
ts + (ts - timestamp '2013-01-01')
ts + interval '1' day
interval '1 day' = interval '24 hours'
interval '1 month' > interval '29 days'
case when n > 0 then 'pos' when n < 0 then 'neg' else 'zero' end
case n when 7 then 'seven' when '2' then 'two' end
case when b then 1 else 2.5 end
case when b then n end
case when b then d else ts end
case when f > 1 then f else n end
case b when 't' then 1 else 0 end
(n > 0)
n > 0 and b
not b
n is null
(select max(v) from u)
(select s from u where u._id = t._id)
(select count(*) from u where u.n = t.n)
exists (select 1 from u where u.n = t.n)
n in (select n from u where n is not null)
n between 1 and 5
n <> '7'
greatest(ts, '2013-01-01')
left(upper(s), 1) || lower(substr(s, 2))
round(100.0 * n / 7, 1)
"""

#: Whole queries.
QUERIES = """
select * from t order by _id
select * from t where n = '7' order by _id
select n, s from t order by n, s
select n from t order by n desc, _id
select n from t order by n nulls first, _id
select n from t order by n desc nulls last, _id
select f from t order by f, _id
select f from t order by f desc, _id
select f from t order by f desc nulls last, _id
select distinct f from t order by f
select distinct f from t order by f desc
select f from t union select 0.5 order by f
select f as x from t order by 1, _id
select -f as f from t order by f, _id
select -n as n from t order by n, _id
select -n as n from t order by n + 1, _id
select -n as n, count(*) from t group by n order by 1
select n + 1 from t group by n + 1 order by n + 1
select n + 1, count(*) from t group by n + 1 order by n + 1
select n + 1 as m, count(*) from t group by m order by m desc
select n % 2 as m, count(*) from t group by 1 order by 1
select count(*) from t group by n order by n
select count(*) from t group by n + 1 order by n + 1
select upper(s) from t group by upper(s) order by upper(s)
select upper(s) as s from t group by s order by 1
select n from t group by n having count(*) > '1' order by n
select n, max(s) from t group by n having max(s) > 'a' order by n
select count(*) from t
select count(*), count(n), count(distinct n) from t
select count(*) filter (where n > 0), count(*) filter (where b), count(n) filter (where s like 'A%') from t
select sum(n) filter (where b), avg(n) filter (where n > '0'), string_agg(s, ',' order by s) filter (where n > 0) from t
select count(distinct n) filter (where n < 5) from t
select sum(n), sum(big), sum(num), sum(f) from t where f is distinct from 'NaN'
select avg(n), avg(big), avg(num) from t
select avg(f) from t where f < 100 and f > -100
select avg(n) from t where n > 0
select avg(n), sum(num) / count(*) from t group by b order by 1
select min(n), max(n), min(s), max(s), min(d), max(ts), min(num), max(big) from t
select min(f), max(f) from t
select min(f) from t where f = 'NaN'
select sum(n) / count(*) from t
select sum(n) / count(*)::float from t
select sum(num) / 3 from t
select round(avg(num), 2) from t
select round(avg(f)::numeric, 2) from t where f between -100 and 100
select sum(distinct n), avg(distinct n) from t
select stddev(n), variance(n), var_pop(n), stddev_pop(num) from t
select stddev_samp(f), var_samp(f) from t where f between -10 and 10
select corr(n, big), covar_pop(n, big), covar_samp(n, big) from t
select bool_and(b), bool_or(b), every(n > -10) from t
select string_agg(s, ',' order by s) from t
select string_agg(s, ', ' order by n desc, s) from t where n is not null
select string_agg(distinct s, ',' order by s) from t
select n, string_agg(s, '|' order by _id desc) from t group by n order by n
select max(n) + 1, min(n) * 2 from t
select count(*) from t where 1 = 0
select sum(n), avg(n), max(s), bool_and(b), string_agg(s, ',') from t where 1 = 0
select n, count(*) as c from t group by n having count(*) > 1 order by c desc, n
select n, count(*) as "count" from t group by n order by count desc, n
select b, n, count(*) from t group by b, n order by b, n
select extract(year from d) as y, count(*) from t group by y order by y
select date_trunc('year', ts) as y, sum(n) from t group by 1 order by 1
select b, sum(n) from t group by rollup (b) order by b, 2
select b, n, sum(big) from t group by cube (b, n) order by 1, 2, 3
select b, n, count(*) from t group by grouping sets ((b), (n)) order by 1, 2, 3
select distinct n from t order by n
select distinct n, b from t order by n, b
select distinct n as m from t order by m desc
select distinct on (n) n, s from t order by n, s
select distinct on (n) n, s, _id from t order by n, _id desc
select distinct on (n) n, s from t order by n, s limit 2
select distinct on (b, n) b, n, _id from t order by b, n, _id desc
select distinct on (n) n, _id from t where n > 0 order by n desc, _id
select distinct on (f) f, _id from t order by f, _id
select distinct on (1) n, _id from t order by 1, 2 desc
select distinct on (n % 2) n % 2, _id from t order by n % 2, _id
select distinct on (b) b, count(*) from t group by b, n order by b, count(*) desc, n
select n from t order by _id limit 3
select n from t order by _id limit 3 offset 2
select n from t order by _id offset 5
select n from t order by _id limit null
select t.n, u.n from t join u on t.n = u.n order by t._id, u._id
select * from t join u on t.n = u.n order by t._id, u._id
select t.*, u.s from t join u on t.n = u.n order by t._id, u._id
select t.n as a, u.n as "A" from t join u on t.n = u.n order by t._id, u._id
select n, s as n from u order by _id
select u.s, v from t left join u on t.n = u.n order by t._id, u._id
select t.s, u.s from t right join u on t.n = u.n order by u._id, t._id
select t.s, u.s from t full join u on t.n = u.n order by t._id, u._id
select n, u.s from t join u using (n) order by t._id, u._id
select * from t join u using (n) order by t._id, u._id
select n from t full join u using (n) order by n, t._id, u._id
select n from t left join u using (n) order by n, t._id, u._id
select * from (select n, s from t) as x natural join (select n, v from u) as y order by n, s, v
select x.n from (select n from t) as x natural left join (select n, v from u) as y order by 1
select count(*) from t cross join u
select count(*) from t, u where t.n = u.n
select a._id, b._id from t a, t b where a.n = b.n and a._id < b._id order by 1, 2
select t._id from t join u on t.n = u.n and u.s like 's%' order by 1
select count(*) from t join u on t.n > '5' and u.n = '7'
select x.m from (select n + 1 as m from t) as x where x.m > '2' order by m
select * from (select n, count(*) from t group by n) as x order by n
select x.count from (select count(*) from t) as x
select y from (select n as y from t) x where y in (select n from u) order by 1
with x as (select n, s from t where n > 0) select s, n from x order by s
with x(a, b) as (select n, s from t) select a from x where b > 'a' order by a
with x as (select n from t), y as (select n from x where n > 1) select count(*) from y
with t as (select n * 2 as n from t) select n from t order by n
with x as (select '7' as v) select count(*) from x where v = '7'
select n from t union select n from u order by n
select n from t union all select n from u order by n
select n from t intersect select n from u order by n
select n from t except select n from u order by n
select n from t union select '7' order by 1
select 'a' as x union select s from u order by x
select n, null from t union all select n, s from u order by 1, 2
select n from t union all select v from u order by 1
select d from t union select '2013-01-01' order by 1
select d as x from t union select ts from t order by x
select 1 as x union select 2.5 union select 3 order by x desc
(select n from t order by n limit 2) union all (select n from u order by n desc limit 1) order by 1
select n from t union (select n from u intersect select 7) order by n
select 1 union all select 1 union select 2 order by 1
select n from t union select n from u order by n limit 3
select row_number() over (order by _id), n from t order by _id
select n, rank() over (order by n), dense_rank() over (order by n desc) from t order by _id
select _id, row_number() over (partition by n order by _id) from t order by _id
select _id, row_number() over (partition by f order by _id) from t order by _id
select _id, sum(n) over (order by _id) from t order by _id
select _id, sum(n) over (partition by b order by _id rows between 1 preceding and current row) from t order by _id
select _id, avg(n) over (partition by b) from t order by _id
select _id, min(f) over (partition by b) from t order by _id
select _id, count(*) over () from t order by _id
select _id, count(*) filter (where n > 0) over (partition by b) from t order by _id
select _id, lag(n) over (order by _id), lead(n, 2) over (order by _id), lag(n, 1, '0') over (order by _id) from t order by _id
select _id, first_value(s) over (order by _id), last_value(n) over (order by _id) from t order by _id
select _id, nth_value(s, 2) over (order by _id) from t order by _id
select _id, ntile(3) over (order by _id), percent_rank() over (order by n), cume_dist() over (order by n) from t order by _id
select _id, rank() over (order by f) from t order by _id
select _id, rank() over (order by f desc) from t order by _id
select _id, sum(n) over w from t window w as (partition by b order by _id) order by _id
select n, sum(count(*)) over (order by n) from t group by n order by n
select _id, row_number() over (order by n desc nulls last, _id) from t order by _id
select (select n from t where _id = 1) + 1
select (select max(n) from u), (select min(n) from u)
select t._id, (select string_agg(u.s, ',' order by u.s) from u where u.n = t.n) from t order by 1
select s from t where exists (select 1 from u where u.n = t.n and u.v > '50') order by s
select f::text, s || f, concat(f) from t where f <> 0 order by _id
select f::numeric, (f / 3)::numeric, round(f::numeric, 1) from t where abs(f) between 0.1 and 100 order by _id
select f::int, (f * 5)::bigint from t where abs(f) < 100 order by _id
select num / n, num / big, big / num from t where n <> 0 and num <> 0 order by _id
select 1
select 'a', 1, 2.5, true, null
select now() > '2013-01-01', current_date > '2013-01-01', current_timestamp > timestamp '2013-01-01'
select case when count(*) > 5 then 'many' else 'few' end from t
select coalesce(sum(n), 0) from t where n > 100
select max(length(s)) from t
select n from t where s = 'Alpha' or (b = 't' and n > '0') order by _id
select t.n from t where t.s like '%a%' and not t.b order by t._id
select "n", "t"."s" from "t" where "t"."n" = '7' order by "t"."_id"
select N, S from T order by _ID
select public.t.n from public.t order by _id
select count(*) from (select distinct n, b from t) as x
select sum(x.c) from (select count(*) as c from t group by n) as x
select avg(x) from (select n::float8 as x from t where n is not null) y
select n, n from t order by n, _id
select n as a, n as b from t order by a, b, _id
select s, length(s) as l from t order by l desc nulls last, s
select sum(case when n > 0 then 1 else 0 end), sum(b::int) from t
select n, 100.0 * count(*) / (select count(*) from t) as share from t group by n order by n
select min(d) - 1, max(ts) - min(d) > interval '1 day' from t
select d, count(*) from t where d >= '2012-01-01' and d < '2014-01-01' group by d order by d
select to_be.n from (select n from t) as to_be order by 1 limit 2
"""

#: What core's tests and documentation show
#: (https://docs.ckan.org/en/2.12/maintaining/datastore.html, its tests/test_search.py).
OF_CORE = """
select * from t limit 5
select * from t where s like '%a%' order by _id
select * from public.t order by _id
select count(*) from t
select t.s from t where t.n in (select n from u) order by t._id
select 1 as a
select n from t where s = 'béta_%'
select * from t where s = 'two words'
select sum(n) from t
select count("n") from t
select * from t as a join u as b on a.n = b.n order by a._id, b._id
with x as (select * from t) select s from x order by _id
select s from t where _id = 1
select * from t where "s" like '%%'
"""

#: DuckDB sorts a UNION by its columns alone, GoogleSQL by any expression of them.
NOT_BY_DUCKDB = ["select f from t union select 0.5 order by f"]

#: What cannot be said in GoogleSQL, or not as PostgreSQL means it: a part of the sentence.
REFUSED = {
    "select n from t except all select n from u": "EXCEPT ALL",
    "select n from t intersect all select n from u": "INTERSECT ALL",
    "select n from t union select n from u intersect select 7": "parentheses",
    "select n % 2 * 3 from t": "parentheses",
    "select n from t where s = 'a' is true": "parentheses",
    "select s ~ 'a' || 'b' from t": "parentheses",
    "select sqrt(num) from t": "float8",
    "select ln(num) from t": "float8",
    "select log(num) from t": "float8",
    "select log(2, 8) from t": "float8",
    "select num ^ 2 from t": "float8",
    "select power(num, 2) from t": "float8",
    "select n from t where n > all (select n from u)": "least or the greatest",
    "select n from t where n > any (select n from u)": "least or the greatest",
    "select n from t where (n, s) in (select n, s from u)": "EXISTS",
    "select n from t where f in (select f from t)": "EXISTS",
    "select substring(s from 'a|ab') from t": "more than one length",
    "select substring(s from '.*?a.*') from t": "more than one length",
    "select regexp_replace(s, 'a|ab', '') from t": "more than one length",
    "select n from t where s ~ '(?=a)'": "regular expression",
    "select n from t where s ~ '(a)\\1'": "regular expression",
    "select n from t where s ~ '\\ya'": "regular expression",
    "select n from t where s ~ s": "literal",
    "select n from t where s like s escape 'x'": "literal",
    "select regexp_replace(s, 'a', 'b', 'n') from t": "flags",
    "select ts at time zone 'CET' from t": "time zone",
    "select ts at time zone 'UTC+2' from t": "time zone",
    "select ts - d from t": "extract(epoch",
    "select interval '1 day'": "extract(epoch",
    "select interval '1 day' * 1.5 + ts from t": "whole number",
    "select d + interval '0.5 month' from t": "part of a month",
    "select max(n) over (order by n range between 1 preceding and current row) from t": "frame",
    "select count(distinct n) over () from t": "DISTINCT",
    "select s::char(3) from t": "CHAR",
    "select n from t where d = 'today'": "invalid input syntax for type date",
    "select count(*) from t where n = 'x'": 'invalid input syntax for type integer: "x"',
    "select count(*) from t where b = 'x'": "invalid input syntax for type boolean",
    "select count(*) from t where d = '2013-02-30'": "2013-02-30",
    "select n from t where s = 1": "operator does not exist: text = integer",
    "select n from t where b = 1": "operator does not exist: boolean = integer",
    "select s + 1 from t": "operator does not exist: text + integer",
    "select round(f, 2) from t": "function round(double precision, integer) does not exist",
    "select upper(n) from t": "function upper(integer) does not exist",
    "select extract(hour from d) from t": "not supported for type date",
    "select coalesce(n, s) from t": "cannot be matched",
    "select case when b then n else s end from t": "cannot be matched",
    "select n from t union select s from u": "cannot be matched",
    "select n from t union select n, s from u": "same number of columns",
    "select n from t where n": "must be type boolean",
    "select nothing from t": 'column "nothing" does not exist',
    "select u.n from t": 'missing FROM-clause entry for table "u"',
    "select n from t, u": 'column reference "n" is ambiguous',
    "select t.n from t natural join u, t": "specified more than once",
    "select distinct n from t order by s": "must appear in select list",
    "select n from t union select n from u order by n + 1": "Only result column names",
    "select n as x, s as x from t order by x": "ambiguous",
    "select n from t group by 3": "is not in select list",
    "select n from (select n from t)": "alias",
    "select array[1, 2]": "query AST element",
    "select row_number() from t": "OVER",
    "select sum(n) filter (where n) from t": "must be type boolean",
    "select (select n, s from t)": "only one column",
    "select x from (select n from t) as x": 'column "x" does not exist',
}


def lines(text: str) -> list[str]:
    return [line for line in text.replace("\\\\", "\\").splitlines() if line.strip()]


def bundles(most: int = 12) -> list[str]:
    """All conditions and values of a row of ``t``, some in each query."""
    terms = lines(CONDITIONS) + lines(VALUES)
    return [
        "select _id, "
        + ", ".join(f"{term} as x{number}" for number, term in enumerate(terms[at : at + most]))
        + " from t order by _id"
        for at in range(0, len(terms), most)
    ]


def all_queries() -> list[str]:
    """Every query that has to give PostgreSQL's rows."""
    wheres = [f"select _id from t where {line} order by _id" for line in lines(CONDITIONS)]
    return [*bundles(), *wheres[::5], *lines(QUERIES), *lines(OF_CORE)]
