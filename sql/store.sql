-- Reading and writing our own tables. Paths are compared by their SHA-256, as the unique index has them.

-- name: owner_register
-- $1 owner. Turns capture on.
insert into immich_dbsync_v1.owners (owner_id) values ($1)
on conflict (owner_id) do update set enabled = true where not owners.enabled

-- name: owner
select root_id, stfolders, rules, first_scan_at is not null as scanned
from immich_dbsync_v1.owners where owner_id = $1

-- name: owner_stfolders
-- $1 owner, $2 folders.
update immich_dbsync_v1.owners set stfolders = $2::bytea[] where owner_id = $1 and stfolders is distinct from $2

-- name: owner_root
-- $1 owner, $2 root id.
update immich_dbsync_v1.owners set root_id = $2 where owner_id = $1 and root_id is distinct from $2

-- name: owner_problem
-- $1 owner, $2 kind, $3 sentence or null.
update immich_dbsync_v1.owners
set problems = case
  when $3::text is null then problems - $2::text
  else jsonb_set(problems, array[$2::text], jsonb_build_object('text', $3::text, 'at', now())) end
where owner_id = $1 and problems #>> array[$2::text, 'text'] is distinct from $3

-- name: owner_problems_end
-- All but that a person paused it. $1 owner.
update immich_dbsync_v1.owners
set problems = case when problems ? 'paused' then jsonb_build_object('paused', problems -> 'paused') else '{}' end
where owner_id = $1 and problems - 'paused' <> '{}'

-- name: owner_pause
-- Capture stays on, so that what happens meanwhile is known afterwards. $1 owner, $2 sentence.
insert into immich_dbsync_v1.owners (owner_id, problems)
values ($1, jsonb_build_object('paused', jsonb_build_object('text', $2::text, 'at', now())))
on conflict (owner_id) do update set enabled = true, problems = owners.problems || excluded.problems

-- name: owner_resume
-- Returns the row where it was paused. $1 owner.
update immich_dbsync_v1.owners set problems = problems - 'paused' where owner_id = $1 and problems ? 'paused'
returning owner_id

-- name: owners_paused
select owner_id from immich_dbsync_v1.owners where problems ? 'paused'

-- name: owner_forget
-- What ties paths to assets goes, and capture ends; history, and what lies in quarantine, stay. $1 owner.
with records as (delete from immich_dbsync_v1.records where owner_id = $1),
sends as (delete from immich_dbsync_v1.sends where owner_id = $1),
requests as (delete from immich_dbsync_v1.trash_requests where owner_id = $1),
events as (delete from immich_dbsync_v1.events where owner_id = $1),
asks as (delete from immich_dbsync_v1.asks where owner_id = $1),
holds as (update immich_dbsync_v1.holds set closed_at = now() where owner_id = $1 and closed_at is null)
update immich_dbsync_v1.owners
set enabled = false, root_id = null, stfolders = '{}', rules = null, first_scan_at = null, last_scan_at = null,
    last_scan = null, summary = null, undecided = '{}', problems = '{}'
where owner_id = $1

-- name: owner_undecided
-- $1 owner, $2 counts by reason as JSON.
update immich_dbsync_v1.owners set undecided = $2::jsonb where owner_id = $1

-- name: owner_scanned
-- $1 owner, $2 counts as JSON, $3 digest of the settings (null: not all of it could be decided).
update immich_dbsync_v1.owners
set last_scan_at = now(), last_scan = $2::jsonb,
    first_scan_at = case when $3::text is null then first_scan_at else coalesce(first_scan_at, now()) end,
    rules = coalesce($3, rules)
where owner_id = $1

-- name: owner_summary
-- What became of the files that a first scan found. $1 owner, $2 since, $3 counts as JSON.
update immich_dbsync_v1.owners
set summary = $3::jsonb || (
  select coalesce(jsonb_object_agg(action, count), '{}')
  from (
    select action, count(*) as count from immich_dbsync_v1.history where owner_id = $1 and at >= $2 group by action
  ) as done
)
where owner_id = $1
returning summary

-- name: records_at
-- $1 owner, $2 paths.
select r.*, (select h.decision from immich_dbsync_v1.holds h where h.id = r.hold_id) as decision
from unnest($2::bytea[]) p cross join lateral (
  select path, size, mtime_ns, ctime_ns, inode, racy, xxh3, sha1, asset_id, problem, hold_id, damaged
  from immich_dbsync_v1.records where owner_id = $1 and sha256(path) = sha256(p) offset 0
) r

-- name: record_page
-- One page of an owner's records in path order. $1 owner, $2 after this path, $3 rows.
select path, size, mtime_ns, ctime_ns, inode, racy
from immich_dbsync_v1.records
where owner_id = $1
  and substring(path, 1, 1000) >= substring($2::bytea, 1, 1000) and path > $2
order by substring(path, 1, 1000), path
limit $3

-- name: record_digest
-- What a scan compares, of as many records as a page has, without fetching them. $1 owner, $2 after this path, $3 rows.
select sha256(string_agg(
  path || '\x00'::bytea || int8send(size) || int8send(mtime_ns) || int8send(ctime_ns) || int8send(inode)
  || case when racy then '\x01'::bytea else ''::bytea end, ''::bytea)) as digest
from (
  select path, size, mtime_ns, ctime_ns, inode, racy
  from immich_dbsync_v1.records
  where owner_id = $1
    and substring(path, 1, 1000) >= substring($2::bytea, 1, 1000) and path > $2
  order by substring(path, 1, 1000), path
  limit $3
) page

-- name: content_page
-- The same with what each file should hold. $1 owner, $2 after this path, $3 rows.
select path, size, mtime_ns, ctime_ns, inode, racy, xxh3, damaged
from immich_dbsync_v1.records
where owner_id = $1
  and substring(path, 1, 1000) >= substring($2::bytea, 1, 1000) and path > $2
order by substring(path, 1, 1000), path
limit $3

-- name: record_upsert
-- $1 owner, $2 paths, $3 sizes, $4 mtimes, $5 ctimes, $6 inodes, $7 racy, $8 xxh3, $9 sha1, $10 asset ids, $11 problems,
-- $12 hold ids, $13 damaged, $14 quarantine entries that end with it.
with ended as (delete from immich_dbsync_v1.quarantine where owner_id = $1 and id = any($14::bigint[])),
claimed as (
  delete from immich_dbsync_v1.sends s using unnest($9::bytea[], $10::uuid[]) t(sha1, asset_id)
  where s.owner_id = $1 and s.sha1 = t.sha1 and t.asset_id is not null
)
insert into immich_dbsync_v1.records
  (owner_id, path, size, mtime_ns, ctime_ns, inode, racy, xxh3, sha1, asset_id, problem, hold_id, damaged)
select $1, * from unnest($2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[],
                         $8::bytea[], $9::bytea[], $10::uuid[], $11::text[], $12::bigint[], $13::bytea[])
on conflict (owner_id, sha256(path)) do update
set size = excluded.size, mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns, inode = excluded.inode,
    racy = excluded.racy, xxh3 = excluded.xxh3, sha1 = excluded.sha1, asset_id = excluded.asset_id,
    problem = excluded.problem, hold_id = excluded.hold_id, damaged = excluded.damaged

-- name: record_tie
-- What was sent, by its paths, where the asset that came of it is active and holds it: returns these paths, of each of which
-- the history tells. $1 to $8, $9, $10 and $11 as above, but of one content ($8, $9) and one asset ($10); $11 cause.
with stored as materialized (
  select id from public.asset
  where id = $10 and "ownerId" = $1 and "libraryId" is null and status = 'active' and checksum = $9
),
claimed as (
  delete from immich_dbsync_v1.sends where owner_id = $1 and sha1 = $9 and exists (select from stored)
),
told as (
  insert into immich_dbsync_v1.history (owner_id, action, path, asset_id, cause)
  select $1, 'upload', path, stored.id, $11 from unnest($2::bytea[]) path cross join stored
)
insert into immich_dbsync_v1.records (owner_id, path, size, mtime_ns, ctime_ns, inode, racy, xxh3, sha1, asset_id)
select $1, f.*, $8, $9, stored.id
from unnest($2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[]) f cross join stored
on conflict (owner_id, sha256(path)) do update
set size = excluded.size, mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns, inode = excluded.inode,
    racy = excluded.racy, xxh3 = excluded.xxh3, sha1 = excluded.sha1, asset_id = excluded.asset_id,
    problem = null, hold_id = null, damaged = null
returning path

-- name: record_drop
-- $1 owner, $2 paths, $3 the assets they must be tied to (null: any or none).
delete from immich_dbsync_v1.records
where owner_id = $1 and sha256(path) in (select sha256(p) from unnest($2::bytea[]) p)
  and ($3::uuid[] is null or asset_id = any($3::uuid[]))

-- name: folders
-- Which of these paths are folders to us: records lie below them. $1 owner, $2 paths.
select p as path from unnest($2::bytea[]) p
where (
  select true from immich_dbsync_v1.records r
  where r.owner_id = $1
    and substring(r.path, 1, 1000) >= substring(p || '/'::bytea, 1, 1000) and r.path > p || '/'::bytea
    and substring(r.path, 1, 1000) <= substring(p || '0'::bytea, 1, 1000) and r.path < p || '0'::bytea
  limit 1
)

-- name: entries
-- $1 owner, $2 ids.
select id, path, location, size, mtime_ns, inode, xxh3, sha1, asset_id, superseded, gone,
       (extract(epoch from quarantined_at) * 1000000000)::bigint as at_ns
from immich_dbsync_v1.quarantine where owner_id = $1 and id = any($2::bigint[])

-- name: all_entries
-- $1 owner.
select id, path, location, size, mtime_ns, inode, xxh3, sha1, asset_id, superseded, gone,
       (extract(epoch from quarantined_at) * 1000000000)::bigint as at_ns
from immich_dbsync_v1.quarantine where owner_id = $1 order by id

-- name: quarantine_list
-- Everything in quarantine that was at and below a path, oldest first, with what its asset is now (null: there is none).
-- $1 owner, $2 path (empty: all).
select q.id, q.path, q.location, q.size, q.quarantined_at, q.superseded, q.gone, a.status::text as status
from immich_dbsync_v1.quarantine q left join public.asset a on a.id = q.asset_id
where q.owner_id = $1 and ($2::bytea = '' or q.path = $2 or substring(q.path, 1, length($2) + 1) = $2 || '/'::bytea)
order by q.id

-- name: entry_locations
-- $1 owner.
select id, location from immich_dbsync_v1.quarantine where owner_id = $1

-- name: entry_add
-- $1 owner, $2 paths, $3 locations, $4 sizes, $5 mtimes, $6 inodes, $7 xxh3, $8 sha1, $9 asset ids
-- $10 whether the records at these paths end with it, $11 causes. The history tells of each.
with ended as (
  delete from immich_dbsync_v1.records
  where $10::boolean and owner_id = $1 and sha256(path) in (select sha256(p) from unnest($2::bytea[]) p)
),
told as (
  insert into immich_dbsync_v1.history (owner_id, action, path, asset_id, cause)
  select $1, 'quarantine', * from unnest($2::bytea[], $9::uuid[], $11::text[])
)
insert into immich_dbsync_v1.quarantine
  (owner_id, path, location, size, mtime_ns, inode, xxh3, sha1, asset_id)
select $1, * from unnest($2::bytea[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[],
                         $8::bytea[], $9::uuid[])
on conflict (owner_id, sha256(location)) do update
set path = excluded.path, size = excluded.size, mtime_ns = excluded.mtime_ns, inode = excluded.inode,
    xxh3 = excluded.xxh3, sha1 = excluded.sha1, asset_id = excluded.asset_id, superseded = false,
    gone = false, quarantined_at = now()

-- name: entry_drop
-- $1 owner, $2 entry ids.
delete from immich_dbsync_v1.quarantine where owner_id = $1 and id = any($2::bigint[])

-- name: entry_supersede
-- What lies in quarantine for these assets, but for a live photo's video, which is no other copy of its still: it has an
-- asset of its own; and these entries. $1 owner, $2 asset ids, $3 entry ids.
update immich_dbsync_v1.quarantine q set superseded = true
where q.owner_id = $1 and not q.superseded
  and (q.id = any($3::bigint[])
       or q.asset_id = any($2::uuid[]) and not exists (
         select from public.asset a
         where a."ownerId" = q.owner_id and a.checksum = q.sha1 and a."libraryId" is null and a.id <> q.asset_id))

-- name: entry_gone
-- $1 owner, $2 entry ids.
update immich_dbsync_v1.quarantine set gone = true where owner_id = $1 and not gone and id = any($2::bigint[])

-- name: history_add
-- $1 owner, $2 actions, $3 paths, $4 asset ids, $5 causes
insert into immich_dbsync_v1.history (owner_id, action, path, asset_id, cause)
select $1, * from unnest($2::text[], $3::bytea[], $4::uuid[], $5::text[])

-- name: history_page
-- The latest of what was done at and below a path, newest first. $1 owner, $2 path (empty: all), $3 since (null: ever),
-- $4 rows.
select at, action, path, asset_id, cause from immich_dbsync_v1.history
where owner_id = $1 and at >= coalesce($3::timestamptz, '-infinity')
  and ($2::bytea = '' or path = $2 or substring(path, 1, length($2) + 1) = $2 || '/'::bytea)
order by at desc, id desc
limit $4

-- name: event_drop
-- $1 ids.
delete from immich_dbsync_v1.events where id = any($1::bigint[])

-- name: send_add
-- Returns the row where there was none. $1 owner, $2 sha1, $3 xxh3, $4 size, $5 path.
insert into immich_dbsync_v1.sends (owner_id, sha1, xxh3, size, path) values ($1, $2, $3, $4, $5)
on conflict do nothing
returning sha1

-- name: send_end
-- $1 owner, $2 sha1s.
delete from immich_dbsync_v1.sends where owner_id = $1 and sha1 = any($2::bytea[])

-- name: sends_unclaimed
-- What we had Immich take, and no path holds any more, oldest first. $1 owner.
select s.sha1, s.xxh3, s.size, s.path from immich_dbsync_v1.sends s
where s.owner_id = $1
  and not exists (select from immich_dbsync_v1.records r where r.owner_id = $1 and r.sha1 = s.sha1)
order by s.asked_at

-- name: trash_request_add
-- $1 owner, $2 assets. This and the next three may run at the same time: each takes its rows in the order of their assets, so
-- that no two wait for each other.
insert into immich_dbsync_v1.trash_requests (asset_id, owner_id, requested_at)
select a, $1, clock_timestamp() from unnest($2::uuid[]) a order by a
on conflict (asset_id) do update set owner_id = excluded.owner_id, requested_at = excluded.requested_at

-- name: trash_request_end
-- $1 owner, $2 assets.
with ended as materialized (
  select asset_id from immich_dbsync_v1.trash_requests where owner_id = $1 and asset_id = any($2::uuid[])
  order by asset_id for update
)
delete from immich_dbsync_v1.trash_requests where asset_id = any(array(select asset_id from ended))

-- name: trash_request_restored
-- Requests that were made before somebody restored their assets. $1 owner, $2 ids of events.
with ended as materialized (
  select t.asset_id from immich_dbsync_v1.trash_requests t
  join immich_dbsync_v1.events e on e.asset_id = t.asset_id and e.at > t.requested_at
  where t.owner_id = $1 and e.id = any($2::bigint[]) and e.kind = 'restored'
  order by t.asset_id for update of t
)
delete from immich_dbsync_v1.trash_requests where asset_id = any(array(select asset_id from ended))

-- name: trash_request_clean
-- Requests whose assets are out of the trash, one way or the other. $1 owner, $2 assets that are on their way there.
with ended as materialized (
  select t.asset_id from immich_dbsync_v1.trash_requests t
  where t.owner_id = $1 and t.asset_id <> all($2::uuid[])
    and not exists (select from public.asset a where a.id = t.asset_id and a.status = 'trashed')
  order by t.asset_id for update
)
delete from immich_dbsync_v1.trash_requests where asset_id = any(array(select asset_id from ended))

-- name: catch_up_records
-- Paths whose asset is not what the record says, those that have none yet, those whose live photo's still is lost, and
-- those on a hold that was decided: all that was missed while nobody listened. $1 owner, $2 after this path, $3 rows.
select r.path
from immich_dbsync_v1.records r
left join public.asset a on a.id = r.asset_id
left join immich_dbsync_v1.holds h on h.id = r.hold_id
where r.owner_id = $1 and substring(r.path, 1, 1000) >= substring($2::bytea, 1, 1000) and r.path > $2
  and (r.asset_id is null and r.problem is null
       or r.asset_id is not null and (a.id is null or a.status <> 'active')
       or h.decision <> 'waiting'
       or a.visibility = 'hidden' and exists (
         select from public.asset still where still."livePhotoVideoId" = a.id and still.status <> 'active'))
order by substring(r.path, 1, 1000), r.path
limit $3

-- name: catch_up_entries
-- Quarantined files whose asset is active again, or may have been deleted for good, or whose retention is over. $1
-- owner, $2 retention (null: for ever).
select q.id
from immich_dbsync_v1.quarantine q
left join public.asset a on a.id = q.asset_id
where q.owner_id = $1
  and (not q.superseded and a.status = 'active'
       or a.id is null and not q.gone
       or a.id is null and q.gone and q.quarantined_at < now() - $2::interval)

-- name: sizes_seen
-- For each file whether a recorded one has its size, so that it may be a copy; and whether anything else is known that it
-- may be: a record at its path, a file in quarantine, something that was sent. In their order. $1 owner, $2 paths, $3
-- sizes. Asked for the first (and not whether there is any), so that each is looked up along an index.
select (select true from immich_dbsync_v1.records r where r.owner_id = $1 and r.size = f.size limit 1) is not null
         as recorded,
       coalesce(
         (select true from immich_dbsync_v1.records r where r.owner_id = $1 and sha256(r.path) = sha256(f.path) limit 1),
         (select true from immich_dbsync_v1.quarantine q where q.owner_id = $1 and q.size = f.size limit 1),
         (select true from immich_dbsync_v1.sends s where s.owner_id = $1 and s.size = f.size limit 1),
         false
       ) as known
from unnest($2::bytea[], $3::bigint[]) with ordinality f(path, size, n)
order by n

-- name: knows_sizes
-- Whether this Immich keeps its assets' sizes where we look for them.
select exists (
  select from pg_attribute
  where attrelid = to_regclass('public.asset_exif') and attname = 'fileSizeInByte' and not attisdropped
) as known

-- name: library_sizes
-- The sizes of an owner's assets that were created from $2 on (null: of all), ascending, eight bytes each with the
-- highest first; whether some size is not known yet, because Immich writes it right after the asset's row; and what time
-- it is. Our own uploads are not waited for, and after a while an asset without a size will never have one.
-- $1 owner, $2 time.
select coalesce(string_agg(int8send(size), '' order by size), '') as sizes, coalesce(bool_or(awaited), false) as awaited,
       now() as at
from (
  select e."fileSizeInByte" as size,
         bool_or(e."fileSizeInByte" is null and a."createdAt" > now() - interval '10 minutes' and not exists (
           select from immich_dbsync_v1.sends s where s.owner_id = $1 and s.sha1 = a.checksum
         )) as awaited
  from public.asset a
  left join public.asset_exif e on e."assetId" = a.id
  where a."ownerId" = $1 and a."libraryId" is null and ($2::timestamptz is null or a."createdAt" >= $2)
  group by 1
) as found

-- name: contents_of_copies
-- The SHA-1 of a recorded content with this size and XXH3, for each of some in their order: both are of one read and belong
-- together, whatever became of the file since. $1 owner, $2 sizes, $3 xxh3.
select (
  select r.sha1 from immich_dbsync_v1.records r
  where r.owner_id = $1 and r.size = f.size and r.xxh3 = f.xxh3 and r.damaged is null
  limit 1
) as sha1
from unnest($2::bigint[], $3::bytea[]) with ordinality f(size, xxh3, n)
order by n

-- name: refusals_forget
-- $1 owner, $2 prefix (empty: all).
update immich_dbsync_v1.records set problem = null
where owner_id = $1 and problem is not null
  and (path = $2 or $2 = '' or substring(path, 1, length($2) + 1) = $2 || '/'::bytea)

-- name: damage_set
-- $1 owner, $2 path, $3 xxh3 (null: it is whole again).
update immich_dbsync_v1.records set damaged = $3 where owner_id = $1 and sha256(path) = sha256($2::bytea)

-- name: damaged
-- $1 owner, $2 rows.
select path from immich_dbsync_v1.records where owner_id = $1 and damaged is not null order by path limit $2

-- name: status
-- One row for each owner whose folder is or was synced.
select o.owner_id, o.enabled, o.problems, o.first_scan_at, o.last_scan_at, o.last_scan, o.summary, o.undecided,
       coalesce(r.synced, 0) as synced, coalesce(r.waiting, 0) as waiting, coalesce(r.refused, 0) as refused,
       coalesce(r.damaged, 0) as damaged,
       (select count(*) from immich_dbsync_v1.holds h
        where h.owner_id = o.owner_id and h.closed_at is null and h.decision = 'waiting'
          and exists (select from immich_dbsync_v1.records r where r.hold_id = h.id)) as holds,
       coalesce(q.quarantined, 0) as quarantined, coalesce(e.events, 0) as events
from immich_dbsync_v1.owners o
left join (
  select owner_id, count(asset_id) as synced, count(*) filter (where asset_id is null and problem is null) as waiting,
         count(problem) as refused, count(damaged) as damaged
  from immich_dbsync_v1.records group by owner_id
) r using (owner_id)
left join (select owner_id, count(*) as quarantined from immich_dbsync_v1.quarantine group by owner_id) q using (owner_id)
left join (select owner_id, count(*) as events from immich_dbsync_v1.events group by owner_id) e using (owner_id)

-- name: totals
-- How much is known, of all owners.
select (select count(*) from immich_dbsync_v1.records) as records,
       (select count(*) from immich_dbsync_v1.quarantine) as quarantined,
       (select count(*) from immich_dbsync_v1.history) as history

-- name: refused
-- Some of an owner's files that were refused, and why. $1 owner, $2 rows.
select path, problem from immich_dbsync_v1.records where owner_id = $1 and problem is not null order by path limit $2

-- name: locked
-- Which of these advisory locks some session holds. $1 keys.
select k as key from unnest($1::bigint[]) k
where exists (
  select from pg_locks l
  where l.locktype = 'advisory' and l.granted and l.objsubid = 1
    and l.database = (select oid from pg_database where datname = current_database())
    and ((l.classid::bigint << 32) | l.objid::bigint) = k
)

-- name: listening
-- Whether a service listens on this database, be it for an owner or not. $1 its name as an application.
select exists (
  select from pg_stat_activity where datname = current_database() and application_name = $1
) as listening
