-- The tables of Immich 3.1.0 that a sync service meets, as a real server's catalog describes them, and what
-- differs in 2.7.5. Left out: indexes that need extensions (trigram, earthdistance), which no part of this project
-- uses. The bodies of Immich's functions are our own; what they do is what was seen on real servers.

-- name: functions
create function uuid_generate_v4() returns uuid language sql volatile as $$ select gen_random_uuid() $$;

-- A version 7 UUID: 48 bits of milliseconds, then random bits.
create function immich_uuid_v7() returns uuid language sql volatile as $$
  select encode(
    overlay(
      overlay(uuid_send(gen_random_uuid()) placing
        substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6)
      placing '\x70'::bytea from 7 for 1),
    'hex')::uuid
$$;

create function updated_at() returns trigger language plpgsql as $$
begin
  new."updatedAt" = clock_timestamp();
  new."updateId" = immich_uuid_v7();
  return new;
end
$$;

create function asset_delete_audit() returns trigger language plpgsql as $$
begin
  insert into asset_audit ("assetId", "ownerId") select id, "ownerId" from old;
  return null;
end
$$;

create function user_delete_audit() returns trigger language plpgsql as $$
begin
  insert into user_audit ("userId") select id from old;
  return null;
end
$$;

create function album_asset_delete_audit() returns trigger language plpgsql as $$
begin
  insert into album_asset_audit ("albumId", "assetId")
  select o."albumId", o."assetId" from old o join album a on a.id = o."albumId";
  return null;
end
$$;

create function stack_delete_audit() returns trigger language plpgsql as $$
begin
  insert into stack_audit ("stackId", "userId") select id, "ownerId" from old;
  return null;
end
$$;

-- name: tables
create type asset_checksum_algorithm_enum as enum ('sha1', 'sha1-path');
create type asset_visibility_enum as enum ('archive', 'timeline', 'hidden', 'locked');
create type assets_status_enum as enum ('active', 'trashed', 'deleted');

create table asset (
  checksum bytea not null,
  "checksumAlgorithm" asset_checksum_algorithm_enum not null,
  "createdAt" timestamp with time zone not null default now(),
  "deletedAt" timestamp with time zone,
  "duplicateId" uuid,
  duration integer,
  "fileCreatedAt" timestamp with time zone not null,
  "fileModifiedAt" timestamp with time zone not null,
  height integer,
  id uuid not null default uuid_generate_v4(),
  "isEdited" boolean not null default false,
  "isExternal" boolean not null default false,
  "isFavorite" boolean not null default false,
  "isOffline" boolean not null default false,
  "libraryId" uuid,
  "livePhotoVideoId" uuid,
  "localDateTime" timestamp with time zone not null,
  "originalFileName" character varying not null,
  "originalPath" character varying not null,
  "ownerId" uuid not null,
  "stackId" uuid,
  status assets_status_enum not null default 'active'::assets_status_enum,
  thumbhash bytea,
  type character varying not null,
  "updateId" uuid not null default immich_uuid_v7(),
  "updatedAt" timestamp with time zone not null default now(),
  visibility asset_visibility_enum not null default 'timeline'::asset_visibility_enum,
  width integer,
  constraint "asset_pkey" PRIMARY KEY (id)
);

create table asset_exif (
  "assetId" uuid not null,
  "autoStackId" character varying,
  "bitsPerSample" integer,
  city character varying,
  colorspace character varying,
  country character varying,
  "dateTimeOriginal" timestamp with time zone,
  description text not null default ''::text,
  "exifImageHeight" integer,
  "exifImageWidth" integer,
  "exposureTime" character varying,
  "fNumber" double precision,
  "fileSizeInByte" bigint,
  "focalLength" double precision,
  fps double precision,
  iso integer,
  latitude double precision,
  "lensModel" character varying,
  "livePhotoCID" character varying,
  "lockedProperties" character varying[],
  longitude double precision,
  make character varying,
  model character varying,
  "modifyDate" timestamp with time zone,
  orientation character varying,
  "profileDescription" character varying,
  "projectionType" character varying,
  rating integer,
  state character varying,
  tags character varying[],
  "timeZone" character varying,
  "updateId" uuid not null default immich_uuid_v7(),
  "updatedAt" timestamp with time zone not null default clock_timestamp(),
  constraint "asset_exif_pkey" PRIMARY KEY ("assetId")
);

create table asset_audit (
  "assetId" uuid not null,
  "deletedAt" timestamp with time zone not null default clock_timestamp(),
  id uuid not null default immich_uuid_v7(),
  "ownerId" uuid not null,
  constraint "asset_audit_pkey" PRIMARY KEY (id)
);

create table asset_file (
  "assetId" uuid not null,
  "createdAt" timestamp with time zone not null default now(),
  id uuid not null default uuid_generate_v4(),
  "isEdited" boolean not null default false,
  "isProgressive" boolean not null default false,
  "isTransparent" boolean not null default false,
  path character varying not null,
  type character varying not null,
  "updateId" uuid not null default immich_uuid_v7(),
  "updatedAt" timestamp with time zone not null default now(),
  constraint "asset_file_assetId_type_isEdited_uq" UNIQUE ("assetId", type, "isEdited"),
  constraint "asset_file_pkey" PRIMARY KEY (id)
);

create table api_key (
  "createdAt" timestamp with time zone not null default now(),
  id uuid not null default uuid_generate_v4(),
  "key" bytea not null,
  name character varying not null,
  permissions character varying[] not null,
  "updateId" uuid not null default immich_uuid_v7(),
  "updatedAt" timestamp with time zone not null default now(),
  "userId" uuid not null,
  constraint "api_key_pkey" PRIMARY KEY (id)
);

create table "user" (
  "avatarColor" character varying,
  "createdAt" timestamp with time zone not null default now(),
  "deletedAt" timestamp with time zone,
  email character varying not null,
  id uuid not null default uuid_generate_v4(),
  "isAdmin" boolean not null default false,
  name character varying not null default ''::character varying,
  "oauthId" character varying not null default ''::character varying,
  password character varying not null default ''::character varying,
  "pinCode" character varying,
  "profileChangedAt" timestamp with time zone not null default now(),
  "profileImagePath" character varying not null default ''::character varying,
  "quotaSizeInBytes" bigint,
  "quotaUsageInBytes" bigint not null default 0,
  "shouldChangePassword" boolean not null default true,
  status character varying not null default 'active'::character varying,
  "storageLabel" character varying,
  "updateId" uuid not null default immich_uuid_v7(),
  "updatedAt" timestamp with time zone not null default now(),
  constraint "user_email_uq" UNIQUE (email),
  constraint "user_pkey" PRIMARY KEY (id),
  constraint "user_storageLabel_uq" UNIQUE ("storageLabel")
);

create table version_history (
  "createdAt" timestamp with time zone not null default now(),
  id uuid not null default uuid_generate_v4(),
  version character varying not null,
  constraint "version_history_pkey" PRIMARY KEY (id)
);

create table system_metadata (
  "key" character varying not null,
  value jsonb not null,
  constraint "system_metadata_pkey" PRIMARY KEY (key)
);

create table album_asset (
  "albumId" uuid not null,
  "assetId" uuid not null,
  "createdAt" timestamp with time zone not null default now(),
  "updateId" uuid not null default immich_uuid_v7(),
  "updatedAt" timestamp with time zone not null default now(),
  constraint "album_asset_pkey" PRIMARY KEY ("albumId", "assetId")
);

create table kysely_migrations (
  name character varying(255) not null,
  timestamp character varying(255) not null,
  constraint "kysely_migrations_pkey" PRIMARY KEY (name)
);

create table library (
  "createdAt" timestamp with time zone not null default now(),
  "deletedAt" timestamp with time zone,
  "exclusionPatterns" text[] not null,
  id uuid not null default uuid_generate_v4(),
  "importPaths" text[] not null,
  name character varying not null,
  "ownerId" uuid not null,
  "refreshedAt" timestamp with time zone,
  "updateId" uuid not null default immich_uuid_v7(),
  "updatedAt" timestamp with time zone not null default now(),
  constraint "library_pkey" PRIMARY KEY (id)
);

create table stack (
  "createdAt" timestamp with time zone not null default now(),
  id uuid not null default uuid_generate_v4(),
  "ownerId" uuid not null,
  "primaryAssetId" uuid not null,
  "updateId" uuid not null default immich_uuid_v7(),
  "updatedAt" timestamp with time zone not null default now(),
  constraint "stack_pkey" PRIMARY KEY (id),
  constraint "stack_primaryAssetId_uq" UNIQUE ("primaryAssetId")
);

-- Albums only as far as album_asset needs them.
create table album (
  id uuid not null default uuid_generate_v4() primary key,
  "ownerId" uuid,
  "albumName" character varying not null default 'Untitled Album'
);

-- Shared links and the audits of other tables only as far as copying and deleting meet them.
create table shared_link (
  id uuid not null default uuid_generate_v4() primary key,
  "userId" uuid not null references "user"(id) on update cascade on delete cascade,
  key bytea not null unique,
  type character varying not null,
  "createdAt" timestamp with time zone not null default now(),
  "allowUpload" boolean not null default false
);

create table shared_link_asset (
  "assetId" uuid not null references asset(id) on update cascade on delete cascade,
  "sharedLinkId" uuid not null references shared_link(id) on update cascade on delete cascade,
  primary key ("assetId", "sharedLinkId")
);

create table user_audit (
  id uuid not null default immich_uuid_v7() primary key,
  "userId" uuid not null,
  "deletedAt" timestamp with time zone not null default clock_timestamp()
);

create table album_asset_audit (
  id uuid not null default immich_uuid_v7() primary key,
  "albumId" uuid not null references album(id) on update cascade on delete cascade,
  "assetId" uuid not null,
  "deletedAt" timestamp with time zone not null default clock_timestamp()
);

create table stack_audit (
  id uuid not null default immich_uuid_v7() primary key,
  "stackId" uuid not null,
  "userId" uuid not null,
  "deletedAt" timestamp with time zone not null default clock_timestamp()
);

alter table asset add constraint "asset_libraryId_fkey" FOREIGN KEY ("libraryId") REFERENCES library(id) ON UPDATE CASCADE ON DELETE CASCADE;
alter table asset add constraint "asset_livePhotoVideoId_fkey" FOREIGN KEY ("livePhotoVideoId") REFERENCES asset(id) ON UPDATE CASCADE ON DELETE SET NULL;
alter table asset add constraint "asset_ownerId_fkey" FOREIGN KEY ("ownerId") REFERENCES "user"(id) ON UPDATE CASCADE ON DELETE CASCADE;
alter table asset add constraint "asset_stackId_fkey" FOREIGN KEY ("stackId") REFERENCES stack(id) ON UPDATE CASCADE ON DELETE SET NULL;
alter table asset_exif add constraint "asset_exif_assetId_fkey" FOREIGN KEY ("assetId") REFERENCES asset(id) ON DELETE CASCADE;
alter table asset_file add constraint "asset_file_assetId_fkey" FOREIGN KEY ("assetId") REFERENCES asset(id) ON UPDATE CASCADE ON DELETE CASCADE;
alter table api_key add constraint "api_key_userId_fkey" FOREIGN KEY ("userId") REFERENCES "user"(id) ON UPDATE CASCADE ON DELETE CASCADE;
alter table album_asset add constraint "album_asset_albumId_fkey" FOREIGN KEY ("albumId") REFERENCES album(id) ON UPDATE CASCADE ON DELETE CASCADE;
alter table album_asset add constraint "album_asset_assetId_fkey" FOREIGN KEY ("assetId") REFERENCES asset(id) ON UPDATE CASCADE ON DELETE CASCADE;
alter table library add constraint "library_ownerId_fkey" FOREIGN KEY ("ownerId") REFERENCES "user"(id) ON UPDATE CASCADE ON DELETE CASCADE;
alter table stack add constraint "stack_ownerId_fkey" FOREIGN KEY ("ownerId") REFERENCES "user"(id) ON UPDATE CASCADE ON DELETE CASCADE;
alter table stack add constraint "stack_primaryAssetId_fkey" FOREIGN KEY ("primaryAssetId") REFERENCES asset(id);

CREATE INDEX "asset_createdAt_idx" ON asset USING btree ("createdAt");
CREATE INDEX "asset_duplicateId_idx" ON asset USING btree ("duplicateId");
CREATE INDEX "asset_fileCreatedAt_idx" ON asset USING btree ("fileCreatedAt");
CREATE INDEX "asset_id_stackId_idx" ON asset USING btree (id, "stackId");
CREATE INDEX "asset_id_timeline_notDeleted_idx" ON asset USING btree (id) WHERE ((visibility = 'timeline'::asset_visibility_enum) AND ("deletedAt" IS NULL));
CREATE INDEX "asset_libraryId_idx" ON asset USING btree ("libraryId");
CREATE INDEX "asset_livePhotoVideoId_idx" ON asset USING btree ("livePhotoVideoId");
CREATE INDEX "asset_localDateTime_idx" ON asset USING btree (((("localDateTime" AT TIME ZONE 'UTC'::text))::date));
CREATE INDEX "asset_localDateTime_month_idx" ON asset USING btree (((date_trunc('MONTH'::text, ("localDateTime" AT TIME ZONE 'UTC'::text)) AT TIME ZONE 'UTC'::text)));
CREATE INDEX "asset_originalFileName_idx" ON asset USING btree ("originalFileName");
CREATE INDEX "asset_originalPath_libraryId_idx" ON asset USING btree ("originalPath", "libraryId");
CREATE INDEX "asset_ownerId_idx" ON asset USING btree ("ownerId");
CREATE INDEX "asset_stackId_idx" ON asset USING btree ("stackId");
CREATE INDEX "asset_updateId_idx" ON asset USING btree ("updateId");
CREATE INDEX asset_checksum_idx ON asset USING btree (checksum);
CREATE UNIQUE INDEX "UQ_assets_owner_checksum" ON asset USING btree ("ownerId", checksum) WHERE ("libraryId" IS NULL);
CREATE UNIQUE INDEX "asset_ownerId_libraryId_checksum_idx" ON asset USING btree ("ownerId", "libraryId", checksum) WHERE ("libraryId" IS NOT NULL);
CREATE INDEX "asset_exif_autoStackId_idx" ON asset_exif USING btree ("autoStackId");
CREATE INDEX "asset_exif_livePhotoCID_idx" ON asset_exif USING btree ("livePhotoCID");
CREATE INDEX "asset_exif_updateId_idx" ON asset_exif USING btree ("updateId");
CREATE INDEX asset_exif_city_idx ON asset_exif USING btree (city);
CREATE INDEX "asset_audit_assetId_idx" ON asset_audit USING btree ("assetId");
CREATE INDEX "asset_audit_deletedAt_idx" ON asset_audit USING btree ("deletedAt");
CREATE INDEX "asset_audit_ownerId_idx" ON asset_audit USING btree ("ownerId");
CREATE INDEX "asset_file_assetId_idx" ON asset_file USING btree ("assetId");
CREATE INDEX "asset_file_updateId_idx" ON asset_file USING btree ("updateId");
CREATE INDEX "api_key_updateId_idx" ON api_key USING btree ("updateId");
CREATE INDEX "api_key_userId_idx" ON api_key USING btree ("userId");
CREATE INDEX api_key_key_idx ON api_key USING btree (key);
CREATE INDEX "user_updateId_idx" ON "user" USING btree ("updateId");
CREATE INDEX "user_updatedAt_id_idx" ON "user" USING btree ("updatedAt", id);
CREATE INDEX "album_asset_albumId_idx" ON album_asset USING btree ("albumId");
CREATE INDEX "album_asset_assetId_idx" ON album_asset USING btree ("assetId");
CREATE INDEX "album_asset_updateId_idx" ON album_asset USING btree ("updateId");
CREATE INDEX "library_ownerId_idx" ON library USING btree ("ownerId");
CREATE INDEX "library_updateId_idx" ON library USING btree ("updateId");
CREATE INDEX "stack_ownerId_idx" ON stack USING btree ("ownerId");
CREATE INDEX "stack_primaryAssetId_idx" ON stack USING btree ("primaryAssetId");

CREATE TRIGGER "asset_updatedAt" BEFORE UPDATE ON asset FOR EACH ROW EXECUTE FUNCTION updated_at();
CREATE TRIGGER asset_delete_audit AFTER DELETE ON asset REFERENCING OLD TABLE AS old FOR EACH STATEMENT WHEN ((pg_trigger_depth() = 0)) EXECUTE FUNCTION asset_delete_audit();
CREATE TRIGGER "asset_exif_updatedAt" BEFORE UPDATE ON asset_exif FOR EACH ROW EXECUTE FUNCTION updated_at();
CREATE TRIGGER "asset_file_updatedAt" BEFORE UPDATE ON asset_file FOR EACH ROW EXECUTE FUNCTION updated_at();
CREATE TRIGGER "api_key_updatedAt" BEFORE UPDATE ON api_key FOR EACH ROW EXECUTE FUNCTION updated_at();
CREATE TRIGGER "user_updatedAt" BEFORE UPDATE ON "user" FOR EACH ROW EXECUTE FUNCTION updated_at();
CREATE TRIGGER user_delete_audit AFTER DELETE ON "user" REFERENCING OLD TABLE AS old FOR EACH STATEMENT WHEN ((pg_trigger_depth() = 0)) EXECUTE FUNCTION user_delete_audit();
CREATE TRIGGER "album_asset_updatedAt" BEFORE UPDATE ON album_asset FOR EACH ROW EXECUTE FUNCTION updated_at();
CREATE TRIGGER album_asset_delete_audit AFTER DELETE ON album_asset REFERENCING OLD TABLE AS old FOR EACH STATEMENT WHEN ((pg_trigger_depth() <= 1)) EXECUTE FUNCTION album_asset_delete_audit();
CREATE TRIGGER "library_updatedAt" BEFORE UPDATE ON library FOR EACH ROW EXECUTE FUNCTION updated_at();
CREATE TRIGGER "stack_updatedAt" BEFORE UPDATE ON stack FOR EACH ROW EXECUTE FUNCTION updated_at();
CREATE TRIGGER stack_delete_audit AFTER DELETE ON stack REFERENCING OLD TABLE AS old FOR EACH STATEMENT WHEN ((pg_trigger_depth() = 0)) EXECUTE FUNCTION stack_delete_audit();

-- name: to_2_7_5
alter table asset alter column duration type character varying;
alter table asset add column "deviceAssetId" character varying not null;
alter table asset add column "deviceId" character varying not null;
drop index "asset_createdAt_idx";

-- name: from_2_7_5
-- What an update to 3.1.0 changes; pictures have no duration.
alter table asset alter column duration type integer using null;
alter table asset drop column "deviceAssetId";
alter table asset drop column "deviceId";
create index "asset_createdAt_idx" on asset using btree ("createdAt");
