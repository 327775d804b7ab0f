-- What is read from Immich's own tables, and of our own what belongs to it. Nothing here writes. Times leave as nanoseconds since 1970.

-- name: assets
-- The assets of one owner with one of these ids or checksums. $1 owner, $2 ids, $3 checksums. Rows with a libraryId belong
-- to external libraries and are never ours. Each is looked up by itself, as in the view.
select a.id, a.checksum, a.status::text as status,
       (extract(epoch from a."createdAt") * 1000000000)::bigint as created_ns,
       (extract(epoch from a."deletedAt") * 1000000000)::bigint as deleted_ns,
       a.visibility::text = 'hidden' as hidden, a."livePhotoVideoId" as video_id
from (
  select b.* from unnest($2::uuid[]) i cross join lateral (
    select id, "ownerId", "libraryId", checksum, status, "createdAt", "deletedAt", visibility, "livePhotoVideoId"
    from public.asset where id = i offset 0
  ) b
  union
  select b.* from unnest($3::bytea[]) s cross join lateral (
    select id, "ownerId", "libraryId", checksum, status, "createdAt", "deletedAt", visibility, "livePhotoVideoId"
    from public.asset where checksum = s offset 0
  ) b
) a
where a."ownerId" = $1 and a."libraryId" is null

-- name: favourites
-- Which of these assets are favourites. $1 ids.
select id from public.asset where id = any($1::uuid[]) and "isFavorite"

-- name: in_album
-- Which of these assets are in an album. $1 ids.
select distinct "assetId" as id from public.album_asset where "assetId" = any($1::uuid[])

-- name: in_album_plural
-- The same where the column has the name it had before 2.3 (migration FixColumnNames).
select distinct "assetsId" as id from public.album_asset where "assetsId" = any($1::uuid[])

-- name: album_column
-- What album_asset calls its asset here.
select a.attname::text as name from pg_attribute a
where a.attrelid = to_regclass('public.album_asset') and a.attname in ('assetId', 'assetsId') and not a.attisdropped

-- name: owner_of_key
-- Whose key this is: the SHA-256 as bytes, or as base64 text before 2.6. $1 text, $2 text.
select u.id, u.email, u.name, u.status::text = 'active' and u."deletedAt" is null as active
from public.api_key k
join public."user" u on u.id = k."userId"
where k.key::text in ($1, $2)

-- name: owners
-- The users with these ids. $1 ids.
select id, email, name, status::text = 'active' and "deletedAt" is null as active
from public."user" where id = any($1::uuid[])

-- name: all_owners
select id, email, name, status::text = 'active' and "deletedAt" is null as active
from public."user" order by email

-- name: version
-- Of the server that used this database last.
select version from public.version_history order by "createdAt" desc limit 1

-- name: trash_enabled
-- Whether the trash is on, as in the view.
select coalesce(
  (select (value #>> '{trash,enabled}')::boolean from public.system_metadata where key = 'system-config'), true
) as trash_enabled
