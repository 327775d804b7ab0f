-- API keys, which `users add` makes and `users remove` deletes: the only rows of Immich's that are ever written. The
-- service itself does not come here.

-- name: key_type
-- The type of the column that holds a key's SHA-256: bytea, or text before 2.6, which is base64 then.
select format_type(a.atttypid, null) as type from pg_attribute a
where a.attrelid = to_regclass('public.api_key') and a.attname = 'key' and not a.attisdropped

-- name: create_key
-- $1 name, $2 SHA-256, $3 owner, $4 permissions.
insert into public.api_key (name, key, "userId", permissions) values ($1, $2, $3, $4) returning id

-- name: delete_keys
-- All that we made for an owner, known by the name. $1 owner, $2 name.
delete from public.api_key where "userId" = $1 and name = $2

-- name: delete_key
-- One that we made for an owner, if it is still called so. $1 owner, $2 name, $3 its SHA-256 as both forms of text.
delete from public.api_key where "userId" = $1 and name = $2 and key::text = any($3)

-- name: may_delete
-- Whether our role may delete keys that it looks up by owner and name.
select has_table_privilege('public.api_key', 'delete')
  and has_column_privilege('public.api_key', 'userId', 'select')
  and has_column_privilege('public.api_key', 'name', 'select') as may

-- name: count_other_keys
-- $1 owner, $2 name, $3 the SHA-256 of those that don't count, as both forms of text.
select count(*) as count from public.api_key where "userId" = $1 and name = $2 and not key::text = any($3)

-- name: count_keys
-- $1 owner, $2 name.
select count(*) as count from public.api_key where "userId" = $1 and name = $2

-- name: owners_with_keys
-- Whose keys we made. $1 name.
select distinct "userId" as id from public.api_key where name = $1
