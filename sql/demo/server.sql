-- What the stand-in Immich asks of the database. Where triggers can see a statement, it has the shape of Immich's
-- own: how many rows one statement takes and which columns it sets. The texts are ours.

-- name: create_user
insert into "user" (email, name, "quotaSizeInBytes") values ($1, $2, $3) returning id

-- name: create_api_key
insert into api_key (name, key, "userId", permissions) values ($1, $2, $3, $4)

-- name: user_exists
select id from "user" where id = $1 and "deletedAt" is null

-- name: user_removing
update "user" set status = 'removing', "deletedAt" = now() where id = $1

-- name: delete_user_albums
delete from album where "ownerId" = $1

-- name: delete_user
delete from "user" where id = $1

-- name: delete_user_audit
delete from asset_audit where "ownerId" = $1

-- name: caller
-- A user whose deletion has begun has keys that work no longer.
select k.permissions, u.id, u.email, u.name, u.status, u."isAdmin", u."quotaSizeInBytes" as quota,
  u."quotaUsageInBytes" as usage
from api_key k join "user" u on u.id = k."userId" and u."deletedAt" is null
where k.key = $1

-- name: owned
-- The locked folder is closed to API keys.
select id from asset where id = any($1::uuid[]) and "ownerId" = $2 and visibility <> 'locked'

-- name: by_checksum
select id from asset where "ownerId" = $1 and checksum = $2 and "libraryId" is null limit 1

-- name: asset
select a.*, e."fileSizeInByte" from asset a left join asset_exif e on e."assetId" = a.id where a.id = $1

-- name: insert_asset
insert into asset ("ownerId", checksum, "checksumAlgorithm", "originalPath", "originalFileName", "fileCreatedAt",
  "fileModifiedAt", "localDateTime", type, "isFavorite", visibility, "livePhotoVideoId")
values ($1, $2, 'sha1', $3, $4, $5, $6, $5, $7, $8, $9::text::asset_visibility_enum, $10)
returning id

-- name: insert_asset_2
insert into asset ("ownerId", checksum, "checksumAlgorithm", "originalPath", "originalFileName", "fileCreatedAt",
  "fileModifiedAt", "localDateTime", type, "isFavorite", visibility, "livePhotoVideoId", "deviceAssetId", "deviceId")
values ($1, $2, 'sha1', $3, $4, $5, $6, $5, $7, $8, $9::text::asset_visibility_enum, $10, $11, $12)
returning id

-- name: insert_sidecar
insert into asset_file ("assetId", path, type) values ($1, $2, 'sidecar')
on conflict ("assetId", type, "isEdited") do update set path = excluded.path

-- name: insert_exif
insert into asset_exif ("assetId", "fileSizeInByte") values ($1, $2)
on conflict ("assetId") do update set "fileSizeInByte" = excluded."fileSizeInByte"

-- name: add_usage
update "user" set "quotaUsageInBytes" = "quotaUsageInBytes" + $2 where id = $1 and "deletedAt" is null

-- name: hide
update asset set visibility = 'hidden' where id = $1

-- name: metadata_read
update asset set "localDateTime" = "localDateTime", width = 1, height = 1 where id = $1

-- name: exif_read
update asset_exif set "exifImageWidth" = 1, "exifImageHeight" = 1 where "assetId" = $1

-- name: thumbnail_made
update asset set thumbhash = substring(checksum from 1 for 8) where id = $1

-- name: set_status
update asset set "deletedAt" = $2, status = $3::text::assets_status_enum where id = any($1::uuid[])

-- name: restore_some
update asset set status = 'active', "deletedAt" = null where status = 'trashed' and id = any($1::uuid[])

-- name: restore_all
update asset set status = 'active', "deletedAt" = null where "ownerId" = $1 and status = 'trashed'

-- name: empty_trash
update asset set status = 'deleted' where "ownerId" = $1 and status = 'trashed'

-- name: to_delete
select id from asset where status = 'deleted'

-- name: for_deletion
select a."ownerId", a."libraryId", a."livePhotoVideoId", a."originalPath", e."fileSizeInByte" as size,
  s.id as stack_id, s."primaryAssetId" as stack_primary, f.path as sidecar,
  array(
    select other.id from asset other
    where other."stackId" = s.id and other.id not in (s."primaryAssetId", a.id)
      and other.visibility = 'timeline' and other.status <> 'deleted'
    order by other.id
  ) as stack_others
from asset a
left join asset_exif e on e."assetId" = a.id
left join asset_file f on f."assetId" = a.id and f.type = 'sidecar' and not f."isEdited"
left join stack s on s.id = a."stackId"
where a.id = $1

-- name: delete_stack
delete from stack where id = $1

-- name: promote
update stack set "primaryAssetId" = $2 where id = $1

-- name: delete_asset
delete from asset where id = $1

-- name: stills_of
select count(*) from asset where "livePhotoVideoId" = $1

-- name: for_copy
select a.id, a."stackId", a."isFavorite", a."originalPath", f.path as sidecar
from asset a left join asset_file f on f."assetId" = a.id and f.type = 'sidecar' and not f."isEdited"
where a.id = $1

-- name: copy_albums
insert into album_asset ("albumId", "assetId")
select "albumId", $2 from album_asset where "assetId" = $1
on conflict do nothing

-- name: copy_shared_links
insert into shared_link_asset ("sharedLinkId", "assetId")
select "sharedLinkId", $2 from shared_link_asset where "assetId" = $1
on conflict do nothing

-- name: merge_stacks
update asset set "stackId" = $2 where "stackId" = $1

-- name: set_stack
update asset set "stackId" = $2 where id = $1

-- name: set_favourite
update asset set "isFavorite" = $2 where id = $1
