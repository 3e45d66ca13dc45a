"""What the SQL surface is, as the catalogue has it: columns with their types, arguments of functions first."""

from sqlalchemy import Connection, text

_COLUMNS = """
select c.relname as name, array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) order by a.attnum) as parts
from pg_class as c
join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0
where c.relnamespace = 'report'::regnamespace and c.relkind = 'v'
group by c.relname
union all
select proname, array_agg(mode || ' ' || name || ' ' || format_type(type, null) order by place)
from pg_proc
cross join lateral unnest(proargmodes::text[], proargnames, proallargtypes)
    with ordinality as of (mode, name, type, place)
where pronamespace = 'report'::regnamespace
group by proname
order by name
"""


def read_surface(connection: Connection) -> dict[str, list[str]]:
    """Each view's columns and each function's arguments (`i`) and columns (`t`), in order, by name."""
    return {row.name: list(row.parts) for row in connection.execute(text(_COLUMNS))}
