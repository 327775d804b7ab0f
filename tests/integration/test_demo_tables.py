import asyncpg

from immich_dbsync.demo.tables import ImmichVersion


async def test_tables_have_what_differs_between_the_versions(database_url: str, immich_version: ImmichVersion) -> None:
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch(
        """select column_name as name, data_type as type from information_schema.columns
           where table_schema = 'public' and table_name = 'asset'"""
    )
    await connection.close()
    columns = {row["name"]: row["type"] for row in rows}
    assert columns["duration"] == {"2.7.5": "character varying", "3.1.0": "integer"}[immich_version]
    assert ("deviceAssetId" in columns) == (immich_version == "2.7.5")
