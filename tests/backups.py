"""Immich's own backup and restore, as it runs them."""

import psycopg

from immich_dbsync.demo.cluster import Cluster


def backup(cluster: Cluster, name: str, role: str) -> str:
    """A dump of this database, by the role that owns Immich's tables."""
    return cluster.dump(name, "--clean", "--if-exists", user=role)


def restore(cluster: Cluster, name: str, role: str, dump: str) -> None:
    """End all sessions, then in one transaction drop the schema public and play the dump; stop at the first error."""
    with psycopg.connect(cluster.url(), autocommit=True) as connection:
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
    path = cluster.folder / f"{name}.sql"
    path.write_text(f"drop schema public cascade;\ncreate schema public;\n{dump}", encoding="utf-8")
    path.chmod(0o644)
    cluster._run(
        "psql",
        "--quiet",
        "--no-psqlrc",
        "--single-transaction",
        "--set=ON_ERROR_STOP=on",
        f"--host={cluster.folder}",
        f"--username={role}",
        f"--dbname={name}",
        f"--file={path}",
    )
