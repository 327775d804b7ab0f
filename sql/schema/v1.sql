-- Our schema, version 1. Its name carries the version, and a version's objects never change once released: Immich's
-- restore drops what a backup knows of and then the schema without CASCADE, which fails on anything the backup did
-- not know. A new version is a new schema beside this one.

-- name: tables
create schema immich_dbsync_v1;

-- The Immich users whose folders are synced. Only their assets' changes are captured.
create table immich_dbsync_v1.owners (
  owner_id uuid primary key,
  enabled boolean not null default true,
  root_id uuid,                       -- what <root>/.immich-dbsync/root-id must say; null until first seen
  stfolders bytea[] not null default '{}', -- folders that hold a .stfolder when all is well; lost: not healthy
  rules text,                         -- digest of the settings that decide, as of the last full scan
  first_scan_at timestamptz,          -- when the first scan ended; before it nothing is removed
  last_scan_at timestamptz,
  last_scan jsonb,                    -- what the last full scan counted
  summary jsonb,                      -- what became of what the first scan found
  undecided jsonb not null default '{}', -- files that the service leaves alone now: reason to count
  problems jsonb not null default '{}' -- why this owner's sync waits: kind to {text, at}
);

-- One row for one path of one root: the content last seen there, and the asset it is tied to.
create table immich_dbsync_v1.records (
  owner_id uuid not null,
  path bytea not null,                -- relative to the root; any bytes
  size bigint not null,
  mtime_ns bigint not null,
  ctime_ns bigint not null,
  inode bigint not null,              -- unsigned 64 bits, stored as signed
  racy boolean not null,              -- hashed too soon after its last change for the stat to prove the content
  xxh3 bytea not null,
  sha1 bytea not null,
  asset_id uuid,                      -- null: content known, not in Immich (yet)
  problem text,                       -- why Immich refused it; tried again when the file changes
  hold_id bigint,                     -- the hold that its deletion waits in
  damaged bytea                       -- XXH3 of other bytes that were found under an unchanged stat
);

-- Files taken out of a folder. The files themselves say the same: quarantine/<location> mirrors the path.
create table immich_dbsync_v1.quarantine (
  id bigint generated always as identity primary key,
  owner_id uuid not null,
  path bytea not null,                -- where it was
  location bytea not null,            -- where it is, relative to <root>/.immich-dbsync/quarantine
  size bigint not null,
  mtime_ns bigint not null,
  inode bigint not null,
  xxh3 bytea not null,
  sha1 bytea not null,
  asset_id uuid not null,             -- whose deletion brought it here, and whose restoration brings it back
  superseded boolean not null default false, -- the owner put the picture back: nothing is to be put back for it
  gone boolean not null default false, -- that asset was deleted for good; its events and audit are not kept
  quarantined_at timestamptz not null default now()
);

-- Assets that we asked Immich to trash because their files were missing. Should one of the files be there after all,
-- then it was not the user who deleted the asset.
create table immich_dbsync_v1.trash_requests (
  asset_id uuid primary key,
  owner_id uuid not null,
  requested_at timestamptz not null   -- before the request was sent
);

-- Contents that we asked Immich to take, or to bring back from its trash, and that no record is tied to yet. Should
-- their file leave before one is, then they are taken back.
create table immich_dbsync_v1.sends (
  owner_id uuid not null,
  sha1 bytea not null,
  xxh3 bytea not null,
  size bigint not null,
  path bytea not null,                -- whose content it is
  asked_at timestamptz not null default clock_timestamp(), -- before the request was sent
  primary key (owner_id, sha1)
);

-- Deletions that wait for a person. What belongs to one are the records that name it.
create table immich_dbsync_v1.holds (
  id bigint generated always as identity primary key,
  owner_id uuid not null,
  direction text not null,            -- folder: assets would be trashed; immich: files would leave the folder
  reason text not null,
  created_at timestamptz not null default now(),
  decision text not null default 'waiting', -- waiting, approved, rejected
  decided_at timestamptz,
  closed_at timestamptz               -- when no record named it any more
);

-- What a command asks of the service that runs, wherever that is.
create table immich_dbsync_v1.asks (
  id bigint generated always as identity primary key,
  owner_id uuid not null,
  kind text not null,                 -- resync, decided
  arguments jsonb not null default '{}',
  asked_at timestamptz not null default clock_timestamp(),
  done_at timestamptz,
  result jsonb
);

-- What happened to assets, written by our triggers. Processed and removed.
create table immich_dbsync_v1.events (
  id bigint generated always as identity primary key,
  owner_id uuid not null,
  asset_id uuid not null,
  kind text not null,                 -- trashed, deleting, restored, deleted; overflow: older ones were dropped
  at timestamptz not null default clock_timestamp()
);

-- What was done to what, when and why.
create table immich_dbsync_v1.history (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  owner_id uuid not null,
  action text not null,
  path bytea,
  asset_id uuid,
  cause text not null
);

-- name: indexes
-- One that is missing is made; a changed one has been dropped before.
-- Hashed, because a path may be longer than an index entry can be.
create unique index if not exists records_path on immich_dbsync_v1.records (owner_id, sha256(path));
-- A prefix of bounded length, in the order of a scan; what is equal there is sorted.
create index if not exists records_order on immich_dbsync_v1.records (owner_id, substring(path, 1, 1000));
create index if not exists records_asset on immich_dbsync_v1.records (asset_id);
create index if not exists records_content on immich_dbsync_v1.records (owner_id, sha1);
create index if not exists records_inode on immich_dbsync_v1.records (owner_id, inode); -- a moved file keeps its inode
create index if not exists records_size on immich_dbsync_v1.records (owner_id, size); -- a copy keeps its size
create index if not exists records_problem on immich_dbsync_v1.records (owner_id) where problem is not null;
create index if not exists records_damaged on immich_dbsync_v1.records (owner_id) where damaged is not null;
create index if not exists records_hold on immich_dbsync_v1.records (hold_id) where hold_id is not null;
create unique index if not exists quarantine_location on immich_dbsync_v1.quarantine (owner_id, sha256(location));
create index if not exists quarantine_asset on immich_dbsync_v1.quarantine (asset_id);
create index if not exists quarantine_size on immich_dbsync_v1.quarantine (owner_id, size);
create index if not exists quarantine_path on immich_dbsync_v1.quarantine (sha256(path)) where not superseded;
create index if not exists holds_owner on immich_dbsync_v1.holds (owner_id) where closed_at is null;
create index if not exists asks_owner on immich_dbsync_v1.asks (owner_id) where done_at is null;
create index if not exists events_asset on immich_dbsync_v1.events (asset_id);
create index if not exists history_owner on immich_dbsync_v1.history (owner_id, at);

-- name: functions
-- What runs inside Immich's own statements. Three rules hold: no error leaves a function, no wait is longer than
-- lock_timeout below and is had at most once per transaction, and nothing of Immich's is named outside of a block that
-- catches the error of its being gone. What is lost by that is announced with the payload 'missed': a catch-up finds it.
--
-- The setting immich_dbsync_v1.capture is local to the transaction (and to the savepoint, like the locks it stands
-- for): empty at first, 'ready' when our tables are locked against change, 'sent' after the notification, 'off' after
-- a failure. So each row after the first costs neither a lock nor a notification, nor a wait.

-- Locks what is written to, so that no later row of the transaction can meet a lock. ROW EXCLUSIVE also on the owners
-- that are only read: it is what REINDEX of their index conflicts with.
create or replace function immich_dbsync_v1.begin_capture() returns void
  language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '200ms'
as $$
begin
  lock table immich_dbsync_v1.events, immich_dbsync_v1.owners in row exclusive mode;
  perform set_config('immich_dbsync_v1.capture', 'ready', true);
end
$$;

-- Wakes the service when the transaction commits. A full notification queue would make the commit itself fail.
create or replace function immich_dbsync_v1.wake_service() returns void
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_notify('immich_dbsync_v1', '') where pg_notification_queue_usage() < 0.5;
  perform set_config('immich_dbsync_v1.capture', 'sent', true);
end
$$;

-- Keeps the newest 100,000 events; where older ones go, one event of kind overflow says so. Rows that the service is
-- working on are passed over. Row addresses, because a join might be planned for the empty table that events mostly is.
create or replace function immich_dbsync_v1.trim_events(newest bigint) returns void
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  bound constant bigint := 100000;
  nobody constant uuid := '00000000-0000-0000-0000-000000000000';
  last_to_go bigint;
begin
  if newest - (select min(id) from immich_dbsync_v1.events) < bound then
    return;
  end if;
  select id into last_to_go from immich_dbsync_v1.events order by id desc offset bound limit 1;
  if last_to_go is null then
    return;
  end if;
  delete from immich_dbsync_v1.events where ctid = any (array(
    select ctid from immich_dbsync_v1.events where id <= last_to_go for update skip locked));
  delete from immich_dbsync_v1.events where ctid = any (array(
    select ctid from immich_dbsync_v1.events where asset_id = nobody for update skip locked));
  insert into immich_dbsync_v1.events (owner_id, asset_id, kind) values (nobody, nobody, 'overflow');
end
$$;

create or replace function immich_dbsync_v1.asset_updated() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  capture text;
  before text;
  after text;
  event bigint;
begin
  if new.status = old.status and (new."deletedAt" is null) = (old."deletedAt" is null) then
    return null;
  end if;
  capture := current_setting('immich_dbsync_v1.capture', true);
  if capture = 'off' or new."libraryId" is not null then
    return null;
  end if;
  -- As text, because a label that Immich gives up would be an error as a value of its enum.
  before := old.status;
  after := new.status;
  before := case when before = 'deleted' then 'deleting'
    when before = 'trashed' or old."deletedAt" is not null then 'trashed' else 'restored' end;
  after := case when after = 'deleted' then 'deleting'
    when after = 'trashed' or new."deletedAt" is not null then 'trashed' else 'restored' end;
  if before = after then
    return null;
  end if;
  if coalesce(capture, '') = '' then
    perform immich_dbsync_v1.begin_capture();
  end if;
  insert into immich_dbsync_v1.events (owner_id, asset_id, kind)
    select owner_id, new.id, after from immich_dbsync_v1.owners where owner_id = new."ownerId" and enabled
    returning id into event;
  if event is not null and capture is distinct from 'sent' then
    perform immich_dbsync_v1.wake_service();
  end if;
  if event % 1000 = 0 then
    perform immich_dbsync_v1.trim_events(event);
  end if;
  return null;
exception when others then
  -- Nothing of ours is called here: it may be just what is missing.
  if current_setting('immich_dbsync_v1.capture', true) is distinct from 'off' then
    perform set_config('immich_dbsync_v1.capture', 'off', true);
    raise warning 'immich-dbsync could not note a change of assets and will look for it later: %', sqlerrm;
    perform pg_notify('immich_dbsync_v1', 'missed') where pg_notification_queue_usage() < 0.5;
  end if;
  return null;
end
$$;

create or replace function immich_dbsync_v1.assets_deleted() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  capture text := current_setting('immich_dbsync_v1.capture', true);
  oldest bigint;
  newest bigint;
begin
  if capture = 'off' or not exists (select from gone) then
    return null;
  end if;
  if coalesce(capture, '') = '' then
    perform immich_dbsync_v1.begin_capture();
  end if;
  with written as (
    insert into immich_dbsync_v1.events (owner_id, asset_id, kind)
      select gone."ownerId", gone.id, 'deleted' from gone
      where gone."libraryId" is null
        and gone."ownerId" in (select owner_id from immich_dbsync_v1.owners where enabled)
      returning id
  )
  select min(id), max(id) into oldest, newest from written;
  if newest is not null and capture is distinct from 'sent' then
    perform immich_dbsync_v1.wake_service();
  end if;
  if newest / 1000 > (oldest - 1) / 1000 then
    perform immich_dbsync_v1.trim_events(newest);
  end if;
  return null;
exception when others then
  if current_setting('immich_dbsync_v1.capture', true) is distinct from 'off' then
    perform set_config('immich_dbsync_v1.capture', 'off', true);
    raise warning 'immich-dbsync could not note deleted assets and will look for them later: %', sqlerrm;
    perform pg_notify('immich_dbsync_v1', 'missed') where pg_notification_queue_usage() < 0.5;
  end if;
  return null;
end
$$;

-- Whoever could attach these to a table of their own could forge events. Firing needs no right.
revoke all on all functions in schema immich_dbsync_v1 from public;

-- name: owner
-- Immich's backup runs under the role that owns its tables, and fails on any table that this role may not read.
do $$
declare
  owner constant oid := (select relowner from pg_class where oid = 'public.asset'::regclass);
  statement text;
begin
  for statement in
    select format('alter schema %I owner to %I', nspname, pg_get_userbyid(owner)) from pg_namespace
      where nspname = 'immich_dbsync_v1' and nspowner <> owner
    union all
    select format('alter table %s owner to %I', oid::regclass, pg_get_userbyid(owner)) from pg_class
      where relnamespace = 'immich_dbsync_v1'::regnamespace and relkind = 'r' and relowner <> owner
    union all
    select format('alter function %s owner to %I', oid::regprocedure, pg_get_userbyid(owner)) from pg_proc
      where pronamespace = 'immich_dbsync_v1'::regnamespace and proowner <> owner
  loop
    execute statement;
  end loop;
end
$$;

-- name: triggers
-- Last, because from here on Immich's writes wait. They name no column: PostgreSQL would refuse to drop or retype it.
create or replace trigger immich_dbsync_v1_updated after update on public.asset
  for each row execute function immich_dbsync_v1.asset_updated();
create or replace trigger immich_dbsync_v1_deleted after delete on public.asset
  referencing old table as gone
  for each statement execute function immich_dbsync_v1.assets_deleted();
