-- What a database role needs to run the service and the other commands, where it neither owns Immich's tables nor is a
-- superuser: the least that works. :"role" stands for its name. Installing, mending and removing is for the owner.

-- name: grants
grant usage on schema public, immich_dbsync_v1 to :"role";

-- Of Immich's tables only the columns that are read: no password, no file path, no location.
grant select (id, "ownerId", checksum, status, "createdAt", "deletedAt", "libraryId", "livePhotoVideoId", visibility, "isFavorite")
  on public.asset to :"role";
grant select ("assetId", "fileSizeInByte") on public.asset_exif to :"role";
grant select ("assetId", "ownerId") on public.asset_audit to :"role";
grant select (id, email, name, status, "deletedAt") on public."user" to :"role";
grant select (key, "userId") on public.api_key to :"role";
grant select (version, "createdAt") on public.version_history to :"role";
-- Whether Immich's trash is on. The row also holds what else an administrator configured.
grant select (key, value) on public.system_metadata to :"role";
-- For the setting `protect`. The column is called "assetsId" before Immich 2.3.
grant select on public.album_asset to :"role";

grant select, insert, update on immich_dbsync_v1.owners, immich_dbsync_v1.holds to :"role";
grant select, insert on immich_dbsync_v1.history to :"role";
grant select, insert, update, delete
  on immich_dbsync_v1.records, immich_dbsync_v1.quarantine, immich_dbsync_v1.trash_requests, immich_dbsync_v1.asks
  to :"role";
grant select, insert, delete on immich_dbsync_v1.sends to :"role";
grant select, delete on immich_dbsync_v1.events to :"role";
