"""Notes what happens to assets and users, from triggers, so that a test can tell one statement from two."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from tests.contract.target import Row

_INSTALL = """
create schema contract_watch;
create table contract_watch.seen (
  n bigint generated always as identity, op text, id uuid, before text, after text, visibility text, rows bigint
);
create function contract_watch.changed() returns trigger language plpgsql security definer as $$
begin
  insert into contract_watch.seen (op, id, before, after, visibility)
  values ('update ' || tg_table_name, new.id, old.status, new.status,
    case when tg_table_name = 'asset' then to_jsonb(new) ->> 'visibility' end);
  return null;
end $$;
create function contract_watch.removed() returns trigger language plpgsql security definer as $$
begin
  insert into contract_watch.seen (op, id, before, visibility, rows)
  select 'delete asset', id, status, visibility, (select count(*) from gone) from gone;
  return null;
end $$;
create trigger contract_watch_update after update on public.asset
  for each row execute function contract_watch.changed();
create trigger contract_watch_update after update on public."user"
  for each row execute function contract_watch.changed();
create trigger contract_watch_delete after delete on public.asset referencing old table as gone
  for each statement execute function contract_watch.removed();
"""
_REMOVE = """
drop trigger if exists contract_watch_update on public.asset;
drop trigger if exists contract_watch_update on public."user";
drop trigger if exists contract_watch_delete on public.asset;
drop schema if exists contract_watch cascade;
"""


@dataclass
class Watch:
    """What was noted since it began, or since it was last forgotten."""

    database: "asyncpg.Connection[Row]"

    async def of(self, *ids: UUID) -> list[Row]:
        """The notes about these assets or users, in order."""
        return await self.database.fetch("select * from contract_watch.seen where id = any($1::uuid[]) order by n", ids)

    async def forget(self) -> None:
        await self.database.execute("delete from contract_watch.seen")


@asynccontextmanager
async def watching(database: "asyncpg.Connection[Row]") -> AsyncIterator[Watch]:
    """Install the triggers in a schema of their own, and take all of it away at the end."""
    await database.execute(_REMOVE)
    await database.execute(_INSTALL)
    try:
        yield Watch(database)
    finally:
        await database.execute(_REMOVE)
