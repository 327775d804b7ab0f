"""What PostgreSQL's log says of the statements that were sent."""

from tests.bench.rest import statements

_LOG = """\
2026-01-02 03:04:05.678 UTC [12] LOG:  execute __asyncpg_stmt_1__: select 1
2026-01-02 03:04:05.679 UTC [12] DETAIL:  Parameters: $1 = 'LOG:  statement: none'
2026-01-02 03:04:05.700 UTC [12] LOG:  execute __asyncpg_stmt_2__: -- What is asked.
\tselect a,
\t       b
\tfrom t
2026-01-02 03:04:05.701 UTC [13] LOG:  statement: BEGIN
2026-01-02 03:04:05.702 UTC [13] WARNING:  there is already a transaction in progress
2026-01-02 03:04:05.703 UTC [12] LOG:  execute <unnamed>: select 1
"""


def test_each_statement_is_counted() -> None:
    assert statements(_LOG) == {"select 1": 2, "-- What is asked. select a, b from t": 1, "BEGIN": 1}


def test_an_empty_log_holds_none() -> None:
    assert statements("") == {}
