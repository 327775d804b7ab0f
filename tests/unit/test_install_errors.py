import pytest

from immich_dbsync.errors import DatabaseUnreachable
from immich_dbsync.store import install

SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://immich:{SECRET}@/immich?host=/nonexistent",
        f"postgresql://immich:{SECRET}@127.0.0.1:1/immich",
        f"postgresql://immich:a@{SECRET}@127.0.0.1:1/immich",
        f"postgresql://immich:a#{SECRET}@127.0.0.1:1/immich",
        f"postgresql://immich:a/{SECRET}@127.0.0.1:1/immich",
        f"postgresql://immich:a?{SECRET}@127.0.0.1:1/immich",
        f"postgresql://immich:%zz{SECRET}@127.0.0.1:1/immich",
        f"postgresql://immich:{SECRET}",
        f"postgresql://immich:{SECRET}@127.0.0.1:1/immich?nonsense=1",
        f"host=127.0.0.1 port=1 password={SECRET} oops",
        f"host=127.0.0.1 port=1 password={SECRET}",
    ],
)
@pytest.mark.parametrize("command", [install.install, install.verify, install.remove])
def test_a_database_out_of_reach_is_one_line_without_the_password(command: object, url: str) -> None:
    assert callable(command)
    with pytest.raises(DatabaseUnreachable) as refused:
        command(url)
    said = str(refused.value)
    assert SECRET not in said
    assert "\n" not in said
    assert refused.value.__suppress_context__ or SECRET not in str(refused.value.__cause__)


def test_the_script_is_one_transaction_with_a_lock_timeout() -> None:
    lines = [line for line in install.script(install.Patience(lock_timeout=0.25)).splitlines() if line]
    assert lines[:2] == ["begin;", "set local lock_timeout = '250ms';"]
    assert lines[-1] == "commit;"
    assert lines.count("commit;") == 1
    order = [
        next(i for i, line in enumerate(lines) if line.startswith(start))
        for start in (
            "create schema",
            "create table",
            "create or replace function",
            "create or replace trigger",
        )
    ]
    assert order == sorted(order)
