-- All that bears on some paths, assets and quarantined files of one owner, from our tables and Immich's, at one moment.
-- Nothing here writes. Times leave as nanoseconds since 1970.

-- name: view
-- $1 owner, $2 paths, $3 asset ids, $4 checksums, $5 inodes, $6 ids of quarantine entries, $7 ids of events left out (null:
-- no events are asked for), $8 events at most.
--
-- One row: an array for each column of the records, then of the quarantined files and of the assets, all null where there
-- is none; that is read in a quarter of the time that arrays of rows take. Everything is looked up by itself (offset 0), along the one
-- index that answers it, and whose it is is asked afterwards: a plan that was made while the tables were empty is right
-- for full ones, too. Each step costs a deletion some time, be there little to do or nothing: what can be is done once.
with told as materialized (
  -- The owner's oldest events, but for some, and those of nobody (overflow).
  select e.id, e.owner_id, e.asset_id, e.kind from immich_dbsync_v1.events e
  where $7::bigint[] is not null and (e.owner_id = $1 or e.kind = 'overflow')
    and e.id not in (select unnest($7))  -- hashed: while a folder is not well there may be many thousands
  order by e.id
  limit $8
),
given as materialized (
  -- The assets asked for, and that of an event which is alone: a deletion is one question. Of many it is found out first
  -- whether they are too many.
  select i from unnest($3::uuid[]) i
  union all
  select asset_id from told where owner_id = $1 and (select count(*) from told) = 1
),
entry as materialized (
  -- What lies in quarantine for these assets, what may go back to these paths, and these entries.
  select q.* from given cross join lateral (
    select * from immich_dbsync_v1.quarantine where asset_id = given.i offset 0
  ) q
  where q.owner_id = $1
  union
  select q.* from unnest($6::bigint[]) i cross join lateral (
    select * from immich_dbsync_v1.quarantine where id = i offset 0
  ) q
  where q.owner_id = $1
  union
  select q.* from unnest($2::bytea[]) p cross join lateral (
    select * from immich_dbsync_v1.quarantine where not superseded and sha256(path) = sha256(p) offset 0
  ) q
  where q.owner_id = $1
),
asked as materialized (
  select a.checksum, a.video_id from given cross join lateral (
    select "ownerId" as owner_id, checksum, "livePhotoVideoId" as video_id from public.asset where id = given.i offset 0
  ) a
  where a.owner_id = $1
),
content as materialized (
  -- Of the records at these paths and the entries', of these assets (tied to them, of their content, or of their motion
  -- part) and with these inodes.
  select s as sha1 from unnest($4::bytea[]) s
  union
  select checksum from asked
  union
  select r.sha1 from (
    select i from given union all select video_id from asked where video_id is not null
  ) a cross join lateral (
    select owner_id, sha1 from immich_dbsync_v1.records where asset_id = a.i offset 0
  ) r
  where r.owner_id = $1
  union
  select r.sha1 from (select p from unnest($2::bytea[]) p union all select path from entry) w cross join lateral (
    select sha1 from immich_dbsync_v1.records where owner_id = $1 and sha256(path) = sha256(w.p) offset 0
  ) r
  union
  select r.sha1 from unnest($5::bigint[]) i cross join lateral (
    select sha1 from immich_dbsync_v1.records where owner_id = $1 and inode = i offset 0
  ) r
),
record as materialized (
  -- All that share one: what reconcile calls closed.
  select r.* from content cross join lateral (
    select path, size, mtime_ns, ctime_ns, inode, racy, xxh3, sha1, asset_id, problem, hold_id, damaged
    from immich_dbsync_v1.records where owner_id = $1 and sha1 = content.sha1 offset 0
  ) r
),
wanted as materialized (
  select i as id from given
  union
  select asset_id from record where asset_id is not null
  union
  select asset_id from entry
),
found as materialized (
  -- Rows with a libraryId belong to external libraries and are never ours.
  select a.* from wanted cross join lateral (
    select id, "ownerId", "libraryId", checksum, status, "createdAt", "deletedAt", visibility, "livePhotoVideoId"
    from public.asset where id = wanted.id offset 0
  ) a
  where a."ownerId" = $1 and a."libraryId" is null
  union
  select a.* from (select sha1 from content union all select sha1 from entry) c cross join lateral (
    select id, "ownerId", "libraryId", checksum, status, "createdAt", "deletedAt", visibility, "livePhotoVideoId"
    from public.asset where checksum = c.sha1 offset 0
  ) a
  where a."ownerId" = $1 and a."libraryId" is null
),
gone as materialized (select id from wanted where id not in (select id from found))
select r.*, e.*, a.*, t.*,
  -- What else lies in quarantine for the assets of these records.
  array(
    select q.id from wanted cross join lateral (
      select id, owner_id from immich_dbsync_v1.quarantine where asset_id = wanted.id offset 0
    ) q
    where q.owner_id = $1 and q.id not in (select id from entry)
  ) as further_entries,
  -- Rows that are gone and of which our own trigger or Immich's audit (which forgets after 31 days) saw the deletion.
  array(
    select e.asset_id from gone cross join lateral (
      select asset_id, owner_id, kind from immich_dbsync_v1.events where asset_id = gone.id offset 0
    ) e
    where e.owner_id = $1 and e.kind = 'deleted'
    union all
    select d."assetId" from gone cross join lateral (
      select "assetId", "ownerId" from public.asset_audit where "assetId" = gone.id offset 0
    ) d
    where d."ownerId" = $1
  ) as deleted,
  -- Immich marks a user as being removed before it deletes their assets: whoever sees these gone sees that.
  exists (
    select from public."user" u where u.id = $1 and u.status::text = 'active' and u."deletedAt" is null
  ) as owner_active,
  -- Immich keeps only what differs from the defaults, and on is the default.
  coalesce(
    (select (value #>> '{trash,enabled}')::boolean from public.system_metadata where key = 'system-config'), true
  ) as trash_enabled
from (
  select array_agg(path), array_agg(size), array_agg(mtime_ns), array_agg(ctime_ns), array_agg(inode), array_agg(racy),
         array_agg(xxh3), array_agg(sha1), array_agg(asset_id), array_agg(problem), array_agg(hold_id),
         array_agg(damaged),
         array_agg((select h.decision from immich_dbsync_v1.holds h where h.id = record.hold_id))
  from record
) r cross join (
  select array_agg(id), array_agg(path), array_agg(location), array_agg(size), array_agg(mtime_ns), array_agg(inode),
         array_agg(xxh3), array_agg(sha1), array_agg(asset_id), array_agg(superseded), array_agg(gone),
         array_agg((extract(epoch from quarantined_at) * 1000000000)::bigint)
  from entry
) e cross join (
  -- With the stills of the live photos whose videos are among them. The last: in the trash by our own request, and nobody
  -- restored and trashed it again since. (A request may take as long as its time-out; the clocks of Immich and PostgreSQL
  -- may differ by a moment.)
  select array_agg(a.id), array_agg(a.checksum), array_agg(a.status::text),
         array_agg((extract(epoch from a."createdAt") * 1000000000)::bigint),
         array_agg((extract(epoch from a."deletedAt") * 1000000000)::bigint),
         array_agg(a.visibility::text = 'hidden'), array_agg(a."livePhotoVideoId"),
         array_agg(a.status::text = 'trashed' and exists (
           select from immich_dbsync_v1.trash_requests t
           where t.asset_id = a.id and t.owner_id = $1
             and a."deletedAt" between t.requested_at - interval '2 s' and t.requested_at + interval '6 min'
         ))
  from (
    select * from found
    union all
    select s.* from found cross join lateral (
      select id, "ownerId", "libraryId", checksum, status, "createdAt", "deletedAt", visibility, "livePhotoVideoId"
      from public.asset where "livePhotoVideoId" = found.id offset 0
    ) s
    where s."ownerId" = $1 and s."libraryId" is null
  ) a
) a cross join (
  select array_agg(id), array_agg(owner_id), array_agg(asset_id), array_agg(kind) from told
) t
