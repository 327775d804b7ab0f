from immich_dbsync import sql
from immich_dbsync.store import expected
from immich_dbsync.store.expected import Part, Row

MANIFEST = sql.block("schema/v1_manifest", "manifest")


def _rows() -> list[Row]:
    parts = [line.removeprefix("-- ").split(" | ", 2) for line in MANIFEST.splitlines()]
    return [(kind, name, definition) for kind, name, definition in parts]


def test_the_manifest_itself_differs_in_nothing() -> None:
    assert expected.manifest(_rows()) == MANIFEST
    assert expected.differences(reversed(_rows())) == ()
    assert expected.repairs(_rows()) == ()


def test_an_empty_database_is_one_difference_and_needs_everything() -> None:
    assert expected.differences([]) == ("schema immich_dbsync_v1 is missing: the triggers are not installed",)
    assert expected.repairs([]) == tuple(Part)


def test_each_row_missing_or_changed_is_named() -> None:
    for kind, name, definition in _rows():
        if kind == "schema":
            continue
        rest = [row for row in _rows() if row[:2] != (kind, name)]
        if kind != "owner":
            assert expected.differences(rest) == (f"{kind} {name} is missing",)
        [said] = expected.differences([*rest, (kind, name, "something else")])
        assert name in said
        assert said.endswith(f"is changed: something else; expected: {definition}")


def test_tables_are_never_among_the_repairs_of_what_is_there() -> None:
    rows = [row for row in _rows() if row[0] not in {"table", "column", "constraint"}]
    assert expected.differences(rows)
    assert expected.repairs(rows) == ()


def test_an_index_is_made_anew_and_dropped_before_where_it_is_another() -> None:
    name = "history_owner"
    rest = [row for row in _rows() if row[:2] != ("index", name)]
    assert expected.repairs(rest) == (Part.INDEXES,)
    assert expected.changed_indexes(rest) == ()
    other = [*rest, ("index", name, "another"), ("index", "of_somebody_else", "theirs")]
    assert expected.repairs(other) == (Part.INDEXES,)
    assert expected.changed_indexes(other) == (name,)
    assert expected.changed_indexes([("index", "history_pkey", "another")]) == ()


def test_warnings_are_no_differences() -> None:
    rows: list[Row] = [
        ("version", "immich_dbsync_v9", "present"),
        ("predecessor", "table assets_delete_audits", "present"),
    ]
    assert expected.differences(_rows() + rows) == ()
    assert len(expected.warnings(rows)) == 2


def test_the_query_for_both_drivers_has_no_parameters() -> None:
    assert "$" not in expected.CATALOG_SQL
    assert "%" not in expected.CATALOG_SQL
