"""The rights that `triggers sql --role` prints are those that our statements use, and no more.

That they suffice is tried with a real role in tests/faults/test_secrets.py.
"""

import re

from immich_dbsync import sql
from immich_dbsync.store.install import grants

_OURS = r"immich_dbsync_v1\.(\w+)"
_VERBS = {
    "insert": rf"\binsert into {_OURS}",
    "update": rf"\bupdate {_OURS}",
    "delete": rf"\bdelete from {_OURS}",
    "select": rf"(?<!delete )\b(?:from|join|using) {_OURS}",
}


def statements() -> dict[str, str]:
    """What the service and the commands run, without comments."""
    found = {
        f"{file}.{name}": text
        for file in ("store", "holds", "immich", "view")
        for name, text in sql.blocks(file).items()
    }
    found["heartbeat"] = sql.block("schema/catalog", "heartbeat")
    return {name: re.sub(r"--.*", "", text) for name, text in found.items()}


def granted() -> list[tuple[str, list[str]]]:
    """Each grant: its rights, and on which tables."""
    text = re.sub(r"--.*", "", grants("x"))
    return [
        (rights, re.findall(r'[\w"]+\.[\w"]+', tables))
        for rights, tables in re.findall(r"grant (.*?)\s+on\s+(.*?)\s+to", text, re.DOTALL)
    ]


def test_our_own_tables_are_granted_what_is_done_to_them() -> None:
    used: dict[str, set[str]] = {}
    for text in statements().values():
        for verb, pattern in _VERBS.items():
            for table in re.findall(pattern, text):
                used.setdefault(table, set()).add(verb)
        for table in re.findall(rf"insert into {_OURS}(?:(?!insert into)[^;])*on conflict[^;]*do update", text):
            used.setdefault(table, set()).add("update")
    given: dict[str, set[str]] = {}
    for rights, tables in granted():
        for table in tables:
            if table.startswith("immich_dbsync_v1."):
                given.setdefault(table.partition(".")[2], set()).update(rights.split(", "))
    assert given == used


def test_of_immichs_tables_only_columns_that_are_read_are_granted() -> None:
    everything = "\n".join(statements().values())
    tables = set()
    for rights, [table] in [(rights, tables) for rights, tables in granted() if "public." in "".join(tables)]:
        name = table.partition(".")[2]
        tables.add(name)
        assert table in everything
        if "(" in rights:
            for column in re.findall(r'"?(\w+)"?', rights.partition("(")[2]):
                assert re.search(rf"\b{column}\b", everything), (table, column)
    read = set(re.findall(r'\bpublic\.("?\w+"?)', everything))
    assert tables == read


def test_no_name_of_a_role_leaves_its_quotes() -> None:
    assert '"a""; drop table asset; --"' in grants('a"; drop table asset; --')
    assert ":" not in re.sub(r"--.*", "", grants("x"))
