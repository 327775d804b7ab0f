-- What is read from Immich's own tables. Nothing here writes. Times leave as nanoseconds since 1970.

-- name: assets
-- Every asset of one owner with one of these ids or checksums. $1 owner, $2 ids, $3 checksums.
-- Rows with a libraryId belong to external libraries and are never ours.
select a.id, a.checksum, a.status::text as status,
       (extract(epoch from a."createdAt") * 1000000000)::bigint as created_ns,
       (extract(epoch from a."deletedAt") * 1000000000)::bigint as deleted_ns,
       a.visibility::text = 'hidden' as hidden
from public.asset a
where a."ownerId" = $1 and a."libraryId" is null and a.id = any($2::uuid[])
union
select a.id, a.checksum, a.status::text,
       (extract(epoch from a."createdAt") * 1000000000)::bigint,
       (extract(epoch from a."deletedAt") * 1000000000)::bigint,
       a.visibility::text = 'hidden'
from public.asset a
where a."ownerId" = $1 and a."libraryId" is null and a.checksum = any($3::bytea[])

-- name: audited
-- Which of these assets Immich's own audit says were deleted. $1 owner, $2 ids.
select "assetId" as id from public.asset_audit where "ownerId" = $1 and "assetId" = any($2::uuid[])

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

-- name: circumstances
-- Whether an owner is there and active, and whether the trash is on: Immich keeps only what differs from the defaults,
-- and on is the default. $1 owner.
select exists (
         select from public."user" u where u.id = $1 and u.status::text = 'active' and u."deletedAt" is null
       ) as owner_active,
       coalesce(
         (select (value #>> '{trash,enabled}')::boolean from public.system_metadata where key = 'system-config'), true
       ) as trash_enabled
