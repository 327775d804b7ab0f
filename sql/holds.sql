-- What waits for a person, and what a command asks of the service that runs.

-- name: synced_count
-- No more are counted than bear on the answer: a folder may be large. $1 owner, $2 the most.
select count(*) as synced
from (select from immich_dbsync_v1.records where owner_id = $1 and asset_id is not null limit $2::bigint) r

-- name: emptied
-- Which of these folders hold no synced file but those at some paths. $1 owner, $2 folders (empty: the root), $3 paths.
-- Every path comes before 256 times the highest byte, for a name has 255 bytes at most. Asked for the first file in order
-- (and not whether there is none), so that PostgreSQL goes along the index for each folder.
with without as materialized (select sha256(p) as hash from unnest($3::bytea[]) p),
folders as materialized (
  select f as folder, case f when '' then f else f || '/'::bytea end as low,
         case f when '' then decode(repeat('ff', 256), 'hex') else f || '0'::bytea end as high
  from unnest($2::bytea[]) f
)
select folder from folders
where (
  select true from immich_dbsync_v1.records r
  where r.owner_id = $1 and r.asset_id is not null
    and substring(r.path, 1, 1000) >= substring(low, 1, 1000) and r.path > low
    and substring(r.path, 1, 1000) <= substring(high, 1, 1000) and r.path < high
    and sha256(r.path) not in (select hash from without)
  order by substring(r.path, 1, 1000)
  limit 1
) is null

-- name: hold_open
-- Begin a hold. $1 owner, $2 direction, $3 reason.
insert into immich_dbsync_v1.holds (owner_id, direction, reason) values ($1, $2, $3) returning id

-- name: hold_recent
-- A hold of this kind that began a moment ago, to be added to. $1 owner, $2 direction, $3 reason, $4 since.
select id from immich_dbsync_v1.holds
where owner_id = $1 and direction = $2 and reason = $3 and decision = 'waiting' and closed_at is null and created_at >= $4
order by id desc limit 1

-- name: hold_add
-- Let the deletions of these paths wait in a hold. $1 owner, $2 hold, $3 paths.
update immich_dbsync_v1.records set hold_id = $2
where owner_id = $1 and sha256(path) in (select sha256(p) from unnest($3::bytea[]) p) and hold_id is distinct from $2

-- name: hold_lost_assets
-- Let the removal of every file wait that lost_count counts. $1 owner, $2 the assets (null: all), $3 hold.
update immich_dbsync_v1.records set hold_id = $3
where ctid in (
  select r.ctid
  from immich_dbsync_v1.records r left join public.asset a on a.id = r.asset_id
  where r.owner_id = $1 and r.hold_id is null and r.asset_id is not null
    and ($2::uuid[] is null or r.asset_id = any($2::uuid[]))
    and (a.status <> 'active'
         or a.id is null and (
           exists (select from immich_dbsync_v1.events e where e.asset_id = r.asset_id and e.kind = 'deleted')
           or exists (select from public.asset_audit u where u."assetId" = r.asset_id)))
)

-- name: lost_count
-- How many files' assets are lost by evidence, of those on no hold. $1 owner, $2 the assets (null: all).
select count(*) as lost
from immich_dbsync_v1.records r left join public.asset a on a.id = r.asset_id
where r.owner_id = $1 and r.hold_id is null and r.asset_id is not null
  and ($2::uuid[] is null or r.asset_id = any($2::uuid[]))
  and (a.status <> 'active'
       or a.id is null and (
         exists (select from immich_dbsync_v1.events e where e.asset_id = r.asset_id and e.kind = 'deleted')
         or exists (select from public.asset_audit u where u."assetId" = r.asset_id)))

-- name: lost_by_events_count
-- The same of all assets that events tell of, each looked up by itself: a large library costs no more. And the ids of
-- these events. $1 owner.
select count(*) as lost, array(select id from immich_dbsync_v1.events where owner_id = $1) as events
from (select distinct asset_id from immich_dbsync_v1.events where owner_id = $1) t cross join lateral (
  select asset_id, hold_id, owner_id from immich_dbsync_v1.records where asset_id = t.asset_id offset 0
) r left join lateral (
  select id, status from public.asset where id = r.asset_id offset 0
) a on true
where r.owner_id = $1 and r.hold_id is null
  and (a.status <> 'active'
       or a.id is null and (
         exists (select from immich_dbsync_v1.events e where e.asset_id = r.asset_id and e.kind = 'deleted')
         or exists (select from public.asset_audit u where u."assetId" = r.asset_id)))

-- name: holds_close
-- End the holds of an owner that no record names any more. $1 owner.
update immich_dbsync_v1.holds h set closed_at = now()
where h.owner_id = $1 and h.closed_at is null
  and not exists (select from immich_dbsync_v1.records r where r.hold_id = h.id)
returning h.id

-- name: holds
-- Every hold to which something belongs, of one owner or all, oldest first. $1 owner (null: all).
select h.id, h.owner_id, h.direction, h.reason, h.created_at, h.decision, h.decided_at,
       (select count(*) from immich_dbsync_v1.records r where r.hold_id = h.id) as files
from immich_dbsync_v1.holds h
where h.closed_at is null and ($1::uuid is null or h.owner_id = $1)
  and exists (select from immich_dbsync_v1.records r where r.hold_id = h.id)
order by h.id

-- name: concerns
-- What waits for a person, of each owner that has something: holds, and what keeps a sync waiting (a person's pause apart).
select o.owner_id,
       (
         select count(*) from immich_dbsync_v1.holds h
         where h.owner_id = o.owner_id and h.closed_at is null and h.decision = 'waiting'
       ) as holds,
       (select count(*) from jsonb_object_keys(o.problems - 'paused')) as problems
from immich_dbsync_v1.owners o

-- name: hold_paths
-- What belongs to a hold, in the order of paths. $1 hold, $2 rows.
select path, size, asset_id from immich_dbsync_v1.records where hold_id = $1 order by path limit $2

-- name: hold_decide
-- $1 hold, $2 decision. Only a hold that waits can be decided.
update immich_dbsync_v1.holds set decision = $2, decided_at = now()
where id = $1 and decision = 'waiting' and closed_at is null
returning owner_id

-- name: decided_paths
-- Paths on a hold that was decided. $1 owner, $2 after this path, $3 rows.
select r.path from immich_dbsync_v1.records r join immich_dbsync_v1.holds h on h.id = r.hold_id
where r.owner_id = $1 and h.decision <> 'waiting' and r.path > $2
order by r.path
limit $3

-- name: held_of
-- Which of these paths are on hold. $1 owner, $2 paths.
select path from immich_dbsync_v1.records
where owner_id = $1 and hold_id is not null and sha256(path) = any (select sha256(p) from unnest($2::bytea[]) p)

-- name: ask_add
-- $1 owner, $2 kind, $3 arguments as JSON.
insert into immich_dbsync_v1.asks (owner_id, kind, arguments) values ($1, $2, $3::jsonb) returning id

-- name: asks
-- What is asked of the service of this owner and not done, oldest first. $1 owner.
select id, kind, arguments, asked_at from immich_dbsync_v1.asks where owner_id = $1 and done_at is null order by id

-- name: ask_done
-- $1 ask, $2 result as JSON. Older ones go: nobody waits for them any more.
with old as (delete from immich_dbsync_v1.asks where done_at < now() - interval '1 day')
update immich_dbsync_v1.asks set done_at = clock_timestamp(), result = $2::jsonb where id = $1

-- name: ask_result
-- $1 ask.
select done_at is not null as done, result from immich_dbsync_v1.asks where id = $1

-- name: history_since
-- What was done since a moment, counted by action. $1 owner, $2 since.
select action, count(*) as count from immich_dbsync_v1.history where owner_id = $1 and at >= $2 group by action

-- name: recent_deletions
-- Paths of deletions in the last minute, and when. $1 owner, $2 action, $3 since.
select path, at from immich_dbsync_v1.history where owner_id = $1 and action = $2 and at >= $3 order by id desc
