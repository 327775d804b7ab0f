-- All that bears on some paths, assets and quarantined files of one owner, from our tables and Immich's, at one moment.
-- Nothing here writes. Times leave as nanoseconds since 1970.

-- name: view
-- $1 owner, $2 paths, $3 asset ids, $4 checksums, $5 inodes, $6 ids of quarantine entries.
--
-- One row, with an array of rows for each kind of thing. Everything is looked up by itself (offset 0), along the one
-- index that answers it, and whose it is is asked afterwards: a plan that was made while the tables were empty is right
-- for full ones, too.
with entry as materialized (
  -- What lies in quarantine for these assets, what may go back to these paths, and these entries.
  select q.* from (
    select q.* from unnest($3::uuid[]) i cross join lateral (
      select * from immich_dbsync_v1.quarantine where asset_id = i offset 0
    ) q
    union
    select q.* from unnest($6::bigint[]) i cross join lateral (
      select * from immich_dbsync_v1.quarantine where id = i offset 0
    ) q
    union
    select q.* from unnest($2::bytea[]) p cross join lateral (
      select * from immich_dbsync_v1.quarantine
      where owner_id = $1 and not superseded and sha256(path) = sha256(p) offset 0
    ) q
  ) q
  where q.owner_id = $1
),
content as materialized (
  -- Of the records at these paths and the entries', of these assets (tied to them, of their content, or of their motion
  -- part) and with these inodes.
  select r.sha1 from (select p from unnest($2::bytea[]) p union select path from entry) w(p) cross join lateral (
    select sha1 from immich_dbsync_v1.records where owner_id = $1 and sha256(path) = sha256(p) offset 0
  ) r
  union
  select r.sha1 from unnest($3::uuid[]) i cross join lateral (
    select owner_id, sha1 from immich_dbsync_v1.records where asset_id = i offset 0
  ) r
  where r.owner_id = $1
  union
  select a.checksum from unnest($3::uuid[]) i cross join lateral (
    select "ownerId", checksum from public.asset where id = i offset 0
  ) a
  where a."ownerId" = $1
  union
  select r.sha1 from unnest($3::uuid[]) i cross join lateral (
    select "livePhotoVideoId" as video_id from public.asset where id = i offset 0
  ) a cross join lateral (
    select owner_id, sha1 from immich_dbsync_v1.records where asset_id = a.video_id offset 0
  ) r
  where r.owner_id = $1
  union
  select r.sha1 from unnest($5::bigint[]) i cross join lateral (
    select sha1 from immich_dbsync_v1.records where owner_id = $1 and inode = i offset 0
  ) r
  union
  select s from unnest($4::bytea[]) s
),
record as materialized (
  -- All that share one: what reconcile calls closed.
  select r.* from content c cross join lateral (
    select path, size, mtime_ns, ctime_ns, inode, racy, xxh3, sha1, asset_id, problem, hold_id, damaged
    from immich_dbsync_v1.records where owner_id = $1 and sha1 = c.sha1 offset 0
  ) r
),
wanted as materialized (
  select i as id from unnest($3::uuid[]) i
  union
  select asset_id from record where asset_id is not null
  union
  select asset_id from entry
),
found as materialized (
  -- Rows with a libraryId belong to external libraries and are never ours.
  select a.id from wanted cross join lateral (
    select id, "ownerId", "libraryId" from public.asset where id = wanted.id offset 0
  ) a
  where a."ownerId" = $1 and a."libraryId" is null
  union
  select a.id from (select sha1 from content union select sha1 from entry) c cross join lateral (
    select id, "ownerId", "libraryId" from public.asset where checksum = c.sha1 offset 0
  ) a
  where a."ownerId" = $1 and a."libraryId" is null
),
still as materialized (
  -- And the stills of the live photos whose videos are among them.
  select id from found
  union
  select a.id from found cross join lateral (
    select id, "ownerId", "libraryId" from public.asset where "livePhotoVideoId" = found.id offset 0
  ) a
  where a."ownerId" = $1 and a."libraryId" is null
)
select
  array(
    select row(path, size, mtime_ns, ctime_ns, inode, racy, xxh3, sha1, asset_id, problem, hold_id, damaged,
               (select h.decision from immich_dbsync_v1.holds h where h.id = record.hold_id))
    from record
  ) as records,
  array(
    select row(id, path, location, size, mtime_ns, inode, xxh3, sha1, asset_id, superseded, gone,
               (extract(epoch from quarantined_at) * 1000000000)::bigint)
    from entry
  ) as entries,
  -- What else lies in quarantine for the assets of these records.
  array(
    select q.id from (select distinct asset_id from record) r cross join lateral (
      select id, owner_id from immich_dbsync_v1.quarantine where asset_id = r.asset_id offset 0
    ) q
    where q.owner_id = $1 and q.id not in (select id from entry)
  ) as further_entries,
  array(
    select row(a.id, a.checksum, a.status::text, (extract(epoch from a."createdAt") * 1000000000)::bigint,
               (extract(epoch from a."deletedAt") * 1000000000)::bigint, a.visibility::text = 'hidden',
               a."livePhotoVideoId")
    from still cross join lateral (
      select id, checksum, status, "createdAt", "deletedAt", visibility, "livePhotoVideoId"
      from public.asset where id = still.id offset 0
    ) a
  ) as assets,
  -- In the trash by our own request: nobody restored and trashed it again since. (A request may take as long as its
  -- time-out; the clocks of Immich and PostgreSQL may differ by a moment.)
  array(
    select a.id from still cross join lateral (
      select id, status, "deletedAt" from public.asset where id = still.id offset 0
    ) a cross join lateral (
      select owner_id, requested_at from immich_dbsync_v1.trash_requests where asset_id = a.id offset 0
    ) t
    where t.owner_id = $1 and a.status::text = 'trashed'
      and a."deletedAt" between t.requested_at - interval '2 s' and t.requested_at + interval '6 min'
  ) as trashed_by_us,
  -- Rows that are gone and of which our own trigger or Immich's audit (which forgets after 31 days) saw the deletion.
  array(
    select e.asset_id from wanted cross join lateral (
      select asset_id, owner_id, kind from immich_dbsync_v1.events where asset_id = wanted.id offset 0
    ) e
    where e.owner_id = $1 and e.kind = 'deleted' and wanted.id not in (select id from found)
    union
    select d."assetId" from wanted cross join lateral (
      select "assetId", "ownerId" from public.asset_audit where "assetId" = wanted.id offset 0
    ) d
    where d."ownerId" = $1 and wanted.id not in (select id from found)
  ) as deleted,
  -- Immich marks a user as being removed before it deletes their assets: whoever sees these gone sees that.
  exists (
    select from public."user" u where u.id = $1 and u.status::text = 'active' and u."deletedAt" is null
  ) as owner_active,
  -- Immich keeps only what differs from the defaults, and on is the default.
  coalesce(
    (select (value #>> '{trash,enabled}')::boolean from public.system_metadata where key = 'system-config'), true
  ) as trash_enabled
