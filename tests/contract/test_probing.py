"""Questions that change nothing: which server it is, and what a key may do."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from immich_dbsync.immich.api import KeyRejected
from immich_dbsync.immich.keys import PERMISSIONS, Keys
from immich_dbsync.immich.probe import Probe
from immich_dbsync.model import OwnerId
from tests.contract.target import Target, picture, upload_parts


async def everything(target: Target, person: Any) -> list[tuple[object, ...]]:
    """What a request might change; jobs change more."""
    rows = await target.database.fetch(
        'select id, checksum, status, "deletedAt" from asset where "ownerId" = $1 order by id', person.id
    )
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("has", [(), ("asset.upload",), ("asset.delete", "asset.copy"), PERMISSIONS, ("all",)])
async def test_what_a_key_lacks_is_told_without_changing_anything(target: Target, has: tuple[str, ...]) -> None:
    full = await target.person()
    assert (await full.send(upload_parts(picture()))).status == 201
    key = await target.person(permissions=has or ("asset.read",))
    before = await everything(target, full), await everything(target, key)
    async with Probe(target.url) as probe:
        lacking = await probe.lacking(key.key)
        assert await probe.lacking(full.key) == ()
    assert lacking == tuple(each for each in PERMISSIONS if each not in has and "all" not in has)
    assert (await everything(target, full), await everything(target, key)) == before


async def test_a_key_that_nobody_has_is_refused_each_time(target: Target) -> None:
    async with Probe(target.url) as probe:
        with pytest.raises(KeyRejected):
            await probe.lacking("no-such-key")
        with pytest.raises(KeyRejected):
            await probe.whose("no-such-key")


async def test_the_server_tells_its_version_and_whose_a_key_is(target: Target) -> None:
    person = await target.person()
    ours = await target.person(permissions=PERMISSIONS)
    async with Probe(target.url) as probe:
        assert await probe.version() == target.version
        assert await probe.whose(person.key) == person.id
        assert await probe.whose(ours.key) is None


async def test_a_key_that_we_make_works_at_once_and_is_gone_when_we_delete_it(target: Target) -> None:
    person = await target.person()
    owner, keys, secret = OwnerId(person.id), Keys(target.database), uuid4().hex
    made = await keys.create(owner, secret)
    assert isinstance(made, UUID)
    async with Probe(target.url) as probe:
        assert await probe.lacking(secret) == ()
    assert (await keys.count(owner), owner in await keys.owners()) == (1, True)
    permissions = await target.database.fetchval("select permissions from api_key where id = $1", made)
    assert tuple(permissions) == PERMISSIONS
    assert await keys.delete(owner) == 1
    async with Probe(target.url) as probe:
        with pytest.raises(KeyRejected):
            await probe.lacking(secret)
        assert await probe.whose(person.key) == person.id  # that one was not ours
