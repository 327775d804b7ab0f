from uuid import UUID, uuid4

import pytest

from tests.contract.target import Answer, Person, Row, Target, picture, upload_parts


async def album_with(target: Target, person: Person, asset: UUID) -> UUID:
    # 2.x wants the album's owner in its own row; 3.x keeps it elsewhere.
    has_owner = await target.database.fetchval(
        """select true from information_schema.columns
           where table_schema = 'public' and table_name = 'album' and column_name = 'ownerId'"""
    )
    column, value = ('"ownerId"', person.id) if has_owner else ('"albumName"', "contract")
    album: UUID = await target.database.fetchval(f"insert into album ({column}) values ($1) returning id", value)
    await target.database.execute('insert into album_asset ("albumId", "assetId") values ($1, $2)', album, asset)
    return album


async def shared_link_with(target: Target, person: Person, asset: UUID) -> UUID:
    link: UUID = await target.database.fetchval(
        """insert into shared_link ("userId", key, type, "allowUpload")
           values ($1, uuid_send(gen_random_uuid()), 'INDIVIDUAL', false) returning id""",
        person.id,
    )
    await target.database.execute(
        'insert into shared_link_asset ("sharedLinkId", "assetId") values ($1, $2)', link, asset
    )
    return link


async def stack_of(target: Target, person: Person, *assets: UUID) -> UUID:
    stack: UUID = await target.database.fetchval(
        'insert into stack ("ownerId", "primaryAssetId") values ($1, $2) returning id', person.id, assets[0]
    )
    await target.database.execute('update asset set "stackId" = $1 where id = any($2::uuid[])', stack, assets)
    return stack


async def sidecars(target: Target, asset: UUID) -> list[Row]:
    return await target.database.fetch(
        """select path from asset_file where "assetId" = $1 and type = 'sidecar'""", asset
    )


async def with_sidecar(person: Person) -> UUID:
    answer = await person.send(upload_parts(picture(), sidecar=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"))
    assert answer.status == 201
    return UUID(answer.json["id"])


async def test_copy_gives_the_target_what_the_source_has(target: Target, person: Person) -> None:
    source, other, to = await with_sidecar(person), await person.asset(), await person.asset()
    await target.database.execute('update asset set "isFavorite" = true where id = $1', source)
    album = await album_with(target, person, source)
    link = await shared_link_with(target, person, source)
    stack = await stack_of(target, person, source, other)

    assert await person.copy(source, to) == Answer(204, "")

    row = await target.existing(to)
    assert row["isFavorite"]
    assert row["stackId"] == stack
    albums = await target.database.fetch('select "assetId" from album_asset where "albumId" = $1', album)
    assert {found["assetId"] for found in albums} == {source, to}
    links = await target.database.fetch('select "assetId" from shared_link_asset where "sharedLinkId" = $1', link)
    assert {found["assetId"] for found in links} == {source, to}
    assert len(await sidecars(target, to)) == 1
    assert (await sidecars(target, to))[0]["path"] != (await sidecars(target, source))[0]["path"]
    kept = await target.existing(source)
    assert (kept["status"], kept["isFavorite"], kept["stackId"]) == ("active", True, stack)


async def test_copy_again_changes_nothing_more(target: Target, person: Person) -> None:
    source, to = await person.asset(), await person.asset()
    album = await album_with(target, person, source)
    for _ in range(2):
        assert await person.copy(source, to) == Answer(204, "")
    assert await target.database.fetchval('select count(*) from album_asset where "albumId" = $1', album) == 2


async def test_copy_leaves_out_what_is_declined(target: Target, person: Person) -> None:
    source, to = await with_sidecar(person), await person.asset()
    await target.database.execute('update asset set "isFavorite" = true where id = $1', source)
    album = await album_with(target, person, source)
    answer = await person.copy(source, to, albums=False, favorite=False, sidecar=False, stack=False, sharedLinks=False)
    assert answer == Answer(204, "")
    assert not (await target.existing(to))["isFavorite"]
    assert not await sidecars(target, to)
    assert await target.database.fetchval('select count(*) from album_asset where "albumId" = $1', album) == 1


async def test_copy_works_from_the_trash_too(target: Target, person: Person) -> None:
    source, to = await person.asset(), await person.asset()
    await target.database.execute('update asset set "isFavorite" = true where id = $1', source)
    await person.delete(source)
    assert await person.copy(source, to) == Answer(204, "")
    assert (await target.existing(to))["isFavorite"]


async def test_copy_merges_the_stacks_of_both(target: Target, person: Person) -> None:
    first = [await person.asset() for _ in range(2)]
    second = [await person.asset() for _ in range(2)]
    old, kept = await stack_of(target, person, *first), await stack_of(target, person, *second)
    assert await person.copy(first[0], second[0]) == Answer(204, "")
    assert {(await target.existing(asset))["stackId"] for asset in (*first, *second)} == {kept}
    assert not await target.database.fetchval("select 1 from stack where id = $1", old)


@pytest.mark.parametrize("whose", ["another owner's", "unknown", "gone"])
async def test_copy_of_or_to_what_is_not_theirs_is_refused(target: Target, person: Person, whose: str) -> None:
    asset = await person.asset()
    match whose:
        case "another owner's":
            foreign = await (await target.person()).asset()
        case "gone":
            foreign = await person.destroyed()
        case _:
            foreign = uuid4()
    message = "Not found or no asset.copy access"
    target.assert_refused(await person.copy(asset, foreign), 400, message)
    target.assert_refused(await person.copy(foreign, asset), 400, message)


async def test_copy_to_itself_is_refused(target: Target, person: Person) -> None:
    asset = await person.asset()
    target.assert_refused(await person.copy(asset, asset), 400)


async def test_copy_without_ids_does_not_validate(target: Target, person: Person) -> None:
    target.assert_refused(await person.request("PUT", "/assets/copy", json={}), 400)


async def test_a_stack_of_two_is_dissolved_when_one_is_deleted_for_good(target: Target, person: Person) -> None:
    assets = [await person.asset() for _ in range(2)]
    stack = await stack_of(target, person, *assets)
    await person.delete(assets[0], force=True)
    await target.gone(assets[0])
    assert (await target.existing(assets[1]))["stackId"] is None
    assert not await target.database.fetchval("select 1 from stack where id = $1", stack)


async def test_a_stack_that_loses_its_first_gets_another(target: Target, person: Person) -> None:
    assets = [await person.asset() for _ in range(3)]
    stack = await stack_of(target, person, *assets)
    await person.delete(assets[0], force=True)
    await target.gone(assets[0])
    primary = await target.database.fetchval('select "primaryAssetId" from stack where id = $1', stack)
    assert primary in assets[1:]
    assert {(await target.existing(asset))["stackId"] for asset in assets[1:]} == {stack}
