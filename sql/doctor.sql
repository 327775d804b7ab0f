-- What `doctor` asks besides.

-- name: place
-- Where and who we are. The time is the first thing that is computed.
select clock_timestamp() as now, current_setting('server_version') as version, current_database()::text as database,
       current_user::text as role

-- name: rights_missing
-- Which of these rights the role lacks, of what is there; first of all to look into the schemas. Read from the catalog
-- alone, for to_regclass fails in a schema that may not be looked into.
-- $1 relations, $2 columns (null: all of it), $3 privileges.
with needed as (
  select wanted.*, (parse_ident(relation))[1] as schema, (parse_ident(relation))[2] as table
  from unnest($1::text[], $2::text[], $3::text[]) with ordinality as wanted(relation, name, privilege, number)
)
select relation, name, privilege from (
  select distinct 'schema ' || n.nspname as relation, null as name, 'usage' as privilege, 0::bigint as number
  from needed join pg_namespace n on n.nspname = needed.schema
  where not has_schema_privilege(n.oid, 'usage')
  union all
  select needed.relation, needed.name, needed.privilege, needed.number
  from needed
  join pg_namespace n on n.nspname = needed.schema
  join pg_class c on c.relnamespace = n.oid and c.relname = needed.table
  where case
    when needed.name is null then not has_table_privilege(c.oid, needed.privilege)
    else exists (
        select from pg_attribute a where a.attrelid = c.oid and a.attname = needed.name and not a.attisdropped
      ) and not has_column_privilege(c.oid, needed.name, needed.privilege)
  end
) as lacking
order by number, relation
