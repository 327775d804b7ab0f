import base64
from uuid import uuid4

import pytest

from immich_dbsync.immich.media_types import IMAGE, ONLY_3, SIDECAR, VIDEO
from tests.contract.target import Answer, Person, Target, picture, upload_parts


async def test_ping_needs_no_key(target: Target) -> None:
    answer = await target.request("GET", "/server/ping")
    assert answer.status == 200
    assert answer.json == {"res": "pong"}


async def test_version_is_the_one_in_version_history(target: Target) -> None:
    answer = await target.request("GET", "/server/version")
    assert answer.status == 200
    told = ".".join(str(answer.json[part]) for part in ("major", "minor", "patch"))
    assert told == target.version


async def test_media_types_are_the_ones_we_know(target: Target) -> None:
    answer = await target.request("GET", "/server/media-types")
    assert answer.status == 200
    assert {kind: set(names) for kind, names in answer.json.items()} == {
        "image": IMAGE - ONLY_3 if target.is_2 else IMAGE,
        "video": VIDEO,
        "sidecar": SIDECAR,
    }


async def test_me_is_the_keys_user(target: Target, person: Person) -> None:
    answer = await person.request("GET", "/users/me")
    assert answer.status == 200
    assert answer.json["id"] == str(person.id)
    email = await target.database.fetchval('select email from "user" where id = $1', person.id)
    assert answer.json["email"] == email


async def test_an_asset_is_told_also_from_the_trash(target: Target, person: Person) -> None:
    asset = await person.asset()
    checksum = base64.b64encode((await target.existing(asset))["checksum"]).decode()
    for trashed in (False, True):
        if trashed:
            await person.delete(asset)
        answer = await person.request("GET", f"/assets/{asset}")
        assert answer.status == 200
        told = answer.json
        assert (told["id"], told["ownerId"], told["isTrashed"]) == (str(asset), str(person.id), trashed)
        assert (told["checksum"], told["originalFileName"], told["type"]) == (checksum, "a.png", "IMAGE")


@pytest.mark.parametrize("whose", ["another owner's", "unknown"])
async def test_an_asset_that_is_not_theirs_is_answered_with_400(target: Target, person: Person, whose: str) -> None:
    asset = await (await target.person()).asset() if whose == "another owner's" else uuid4()
    target.assert_refused(await person.request("GET", f"/assets/{asset}"), 400, "Not found or no asset.read access")


async def test_an_id_that_is_none_does_not_validate(target: Target, person: Person) -> None:
    target.assert_refused(await person.request("GET", "/assets/nonsense"), 400)


async def ask_all(target: Target, key: str | None) -> list[Answer]:
    asset = str(uuid4())
    return [
        await target.request("POST", "/assets", key=key),
        await target.request("DELETE", "/assets", key=key, json={"ids": [asset]}),
        await target.request("POST", "/trash/restore/assets", key=key, json={"ids": [asset]}),
        await target.request("POST", "/trash/restore", key=key),
        await target.request("POST", "/trash/empty", key=key),
        await target.request("PUT", "/assets/copy", key=key, json={"sourceId": asset, "targetId": asset}),
        await target.request("GET", f"/assets/{asset}", key=key),
        await target.request("GET", "/users/me", key=key),
    ]


async def test_a_bad_key_is_answered_with_401(target: Target) -> None:
    for answer in await ask_all(target, "nonsense"):
        target.assert_refused(answer, 401, "Invalid API key")


async def test_no_key_is_answered_with_401(target: Target) -> None:
    for answer in await ask_all(target, None):
        target.assert_refused(answer, 401, "Authentication required")


async def test_a_missing_permission_is_answered_with_403(target: Target) -> None:
    person = await target.person(permissions=["album.read"])
    wanted = ["asset.upload", *["asset.delete"] * 4, "asset.copy", "asset.read", "user.read"]
    for answer, permission in zip(await ask_all(target, person.key), wanted, strict=True):
        target.assert_refused(answer, 403, f"Missing required permission: {permission}")


async def test_the_key_is_looked_at_before_the_request(target: Target) -> None:
    person = await target.person(permissions=["album.read"])
    bad_parts = upload_parts(picture(), "a.txt", without=["fileCreatedAt"])
    target.assert_refused(await person.send(bad_parts), 403)
    target.assert_refused(await person.request("DELETE", "/assets", json={"ids": "nonsense"}), 403)
    person.key = "nonsense"
    target.assert_refused(await person.send(bad_parts), 401)
    target.assert_refused(await person.request("DELETE", "/assets", json={"ids": "nonsense"}), 401)


async def test_a_key_made_in_the_database_with_two_permissions_uploads_trashes_and_restores(target: Target) -> None:
    person = await target.person(permissions=["asset.upload", "asset.delete"])
    asset = await person.asset()
    assert await person.delete(asset) == Answer(204, "")
    assert (await target.existing(asset))["status"] == "trashed"
    assert (await person.restore(asset)).status == 200
    assert (await target.existing(asset))["status"] == "active"
    target.assert_refused(await person.copy(asset, asset), 403, "Missing required permission: asset.copy")


async def test_the_database_keeps_a_keys_sha256_only(target: Target, person: Person) -> None:
    found = await target.database.fetchval(
        "select count(*) from api_key where key = sha256(convert_to($1, 'UTF8'))", person.key
    )
    assert found == 1


async def test_a_key_of_a_user_who_is_being_deleted_works_no_longer(target: Target, person: Person) -> None:
    await target.database.execute('update "user" set "deletedAt" = now() where id = $1', person.id)
    target.assert_refused(await person.request("GET", "/users/me"), 401, "Invalid API key")
    await target.database.execute('update "user" set "deletedAt" = null where id = $1', person.id)
    assert (await person.request("GET", "/users/me")).status == 200


async def test_an_unknown_path_is_answered_with_404(target: Target, person: Person) -> None:
    target.assert_refused(await person.request("GET", "/nonsense"), 404, "Cannot GET /api/nonsense")
