"""Each right that `triggers sql --role` prints is needed: without it some statement of ours is refused."""

import psycopg
import pytest

from immich_dbsync import sql
from tests.integration.assets import connected, least_role

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

_FILES = ("store", "holds", "immich", "view", "doctor", "schema/catalog")
_GRANTED = """
select n.nspname, c.relname, a.privilege_type, null::name
from pg_class c join pg_namespace n on n.oid = c.relnamespace, aclexplode(c.relacl) a
where a.grantee = $1::regrole
union all
select n.nspname, c.relname, a.privilege_type, t.attname
from pg_attribute t join pg_class c on c.oid = t.attrelid join pg_namespace n on n.oid = c.relnamespace,
     aclexplode(t.attacl) a
where a.grantee = $1::regrole
"""


def refused(connection: psycopg.Connection, role: str) -> set[str]:
    """The statements that this role may not run; they are planned only."""
    found = set()
    for name, text in {f"{file}.{name}": text for file in _FILES for name, text in sql.blocks(file).items()}.items():
        with connection.transaction(force_rollback=True):
            connection.execute(f'set local role "{role}"'.encode())
            try:
                connection.execute(b"explain (generic_plan) " + text.encode())
            except psycopg.errors.InsufficientPrivilege:
                found.add(name)
            except psycopg.Error:  # no statement that can be planned so
                continue
    return found


def test_each_right_is_needed(database_url: str) -> None:
    role = least_role(database_url)
    with connected(database_url) as connection:
        refused_anyway = refused(connection, role)
        query = _GRANTED.replace("$1", f"'\"{role}\"'")
        granted = connection.execute(query.encode()).fetchall()
        assert len(granted) > 40
        unneeded = []
        for schema, table, right, column in granted:
            with connection.transaction(force_rollback=True):
                what = f'{right} ("{column}")' if column else right
                connection.execute(f'revoke {what} on "{schema}"."{table}" from "{role}"'.encode())
                if refused(connection, role) == refused_anyway:
                    unneeded.append((table, right, column))
    assert not unneeded
