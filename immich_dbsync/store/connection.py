"""A connection that knows PostgreSQL's own array types from the start.

asyncpg asks for them on each new connection, once for each statement that takes one it has not met: a question that
takes PostgreSQL longer (5 ms) than nearly all of ours, in front of whatever waits for the connection.
"""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import asyncpg

ARRAYS = {
    1000: ("bool", 16),
    1001: ("bytea", 17),
    1005: ("int2", 21),
    1007: ("int4", 23),
    1009: ("text", 25),
    1015: ("varchar", 1043),
    1016: ("int8", 20),
    1022: ("float8", 701),
    1185: ("timestamptz", 1184),
    2951: ("uuid", 2950),
}
"""The OIDs of array types, with their elements' name and OID. They are the same in every PostgreSQL
(``src/include/catalog/pg_type.dat``: no OID below 10,000 is ever given anew).
"""

_ASKED = SimpleNamespace(name="known")  # nothing was: the statement that is being prepared is still there


if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]
else:
    _Connection = asyncpg.Connection  # which takes no parameter where it runs


class Connection(_Connection):
    """asyncpg's, but for that. Were this method not called any more, the question would be asked again."""

    async def _introspect_types(self, typeoids: Iterable[int], *how: object) -> Any:
        oids = [*typeoids]
        if all(oid in ARRAYS for oid in oids):
            return [_described(oid) for oid in oids], _ASKED
        return await super()._introspect_types(oids, *how)  # type: ignore[misc]


def _described(oid: int) -> dict[str, object]:
    """As asyncpg's question would describe the type."""
    name, element = ARRAYS[oid]
    nothing = dict.fromkeys(("basetype", "range_subtype", "attrtypoids", "attrnames", "basetype_name"))
    array = {"elemtype": element, "elemtype_name": name, "elemdelim": ","}
    return nothing | array | {"oid": oid, "ns": "pg_catalog", "name": f"_{name}", "kind": b"b"}
