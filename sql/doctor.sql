-- What `doctor` asks besides.

-- name: place
-- Where and who we are. The time is the first thing that is computed.
select clock_timestamp() as now, current_setting('server_version') as version, current_database()::text as database,
       current_user::text as role

-- name: rights_missing
-- Which of these rights the role lacks, of what is there. $1 relations, $2 columns (null: all of it), $3 privileges.
select needed.relation, needed.name, needed.privilege
from unnest($1::text[], $2::text[], $3::text[]) as needed(relation, name, privilege)
join pg_class c on c.oid = to_regclass(needed.relation)
where case
  when needed.name is null then not has_table_privilege(c.oid, needed.privilege)
  else exists (
      select from pg_attribute a where a.attrelid = c.oid and a.attname = needed.name and not a.attisdropped
    ) and not has_column_privilege(c.oid, needed.name, needed.privilege)
end
