import asyncio
import base64
import hashlib
import os
from datetime import UTC, datetime
from uuid import UUID

import pytest

from tests.contract.target import Part, Person, Target, picture, upload_parts
from tests.waiting import until


async def test_new_bytes_are_created_active_with_their_sha1(target: Target, person: Person) -> None:
    data = picture()
    row = await target.existing(await person.asset(data))
    assert row["status"] == "active"
    assert row["deletedAt"] is None
    assert row["checksum"] == hashlib.sha1(data, usedforsecurity=False).digest()
    assert row["checksumAlgorithm"] == "sha1"
    assert row["ownerId"] == person.id
    assert row["libraryId"] is None
    assert row["visibility"] == "timeline"
    assert row["type"] == "IMAGE"
    size = await target.database.fetchval('select "fileSizeInByte" from asset_exif where "assetId" = $1', row["id"])
    assert size == len(data)


async def test_the_dates_sent_are_kept_until_metadata_says_otherwise(target: Target, person: Person) -> None:
    row = await target.existing(await person.asset())
    assert row["fileModifiedAt"] == datetime(2024, 5, 7, tzinfo=UTC)
    assert row["fileCreatedAt"] == datetime(2024, 5, 6, 5, 8, 9, 123000, tzinfo=UTC)


async def test_a_file_of_several_chunks_arrives_whole(target: Target, person: Person) -> None:
    data = os.urandom(3 * 1024 * 1024) + b"\r\n--not the end\r\n" + os.urandom(100_003)
    row = await target.existing(await person.asset(data, "big.jpg"))
    assert row["checksum"] == hashlib.sha1(data, usedforsecurity=False).digest()


async def test_parts_may_come_in_any_order(target: Target, person: Person) -> None:
    answer = await person.send(list(reversed(upload_parts(picture(), sidecar=b"<x/>"))))
    assert answer.status == 201
    assert (await target.existing(UUID(answer.json["id"])))["originalFileName"] == "a.png"


async def test_the_same_bytes_again_are_a_duplicate_of_the_first(target: Target, person: Person) -> None:
    data = picture()
    first = await person.asset(data)
    again = await person.upload(data, "other.png")
    assert again.status == 200
    assert again.json == {"id": str(first), "status": "duplicate"}
    assert await person.count() == 1
    assert (await target.existing(first))["originalFileName"] == "a.png"


async def test_the_same_bytes_at_the_same_time_are_created_once(person: Person) -> None:
    data = picture()
    answers = await asyncio.gather(*(person.upload(data) for _ in range(6)))
    assert sorted(answer.status for answer in answers) == [200] * 5 + [201]
    assert len({answer.json["id"] for answer in answers}) == 1
    assert await person.count() == 1


@pytest.mark.parametrize("spelling", ["hex", "base64"])
async def test_a_known_checksum_in_the_header_needs_no_body(person: Person, spelling: str) -> None:
    data = picture()
    first = await person.asset(data)
    digest = hashlib.sha1(data, usedforsecurity=False).digest()
    header = digest.hex() if spelling == "hex" else base64.b64encode(digest).decode()
    answer = await person.request("POST", "/assets", headers={"x-immich-checksum": header})
    assert answer.status == 200
    assert answer.json == {"id": str(first), "status": "duplicate"}
    assert await person.count() == 1


async def test_an_unknown_checksum_in_the_header_changes_nothing(target: Target, person: Person) -> None:
    data = picture()
    other = await target.person()
    await other.asset(data)
    digest = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    answer = await person.send(upload_parts(data), {"x-immich-checksum": digest})
    assert answer.status == 201


async def test_the_same_bytes_of_another_owner_are_created(target: Target, person: Person) -> None:
    data = picture()
    first = await person.asset(data)
    other = await target.person()
    assert await other.asset(data) != first
    assert (await person.count(), await other.count()) == (1, 1)


async def test_bytes_in_the_trash_are_a_duplicate_and_stay_there(target: Target, person: Person) -> None:
    data = picture()
    trashed = await person.trashed(data)
    answer = await person.upload(data)
    assert answer.status == 200
    assert answer.json == {"id": str(trashed), "status": "duplicate"}
    assert (await target.existing(trashed))["status"] == "trashed"


async def test_bytes_at_deleted_are_a_duplicate_and_stay_so(target: Target, person: Person) -> None:
    data = picture()
    leaving = await person.at_deleted(data)
    answer = await person.upload(data)
    assert answer.status == 200
    assert answer.json == {"id": str(leaving), "status": "duplicate"}
    assert (await target.existing(leaving))["status"] == "deleted"


async def test_bytes_whose_row_is_gone_are_created_anew(person: Person) -> None:
    data = picture()
    gone = await person.destroyed(data)
    assert await person.asset(data) != gone


async def test_a_sidecar_becomes_a_row_of_its_own(target: Target, person: Person) -> None:
    answer = await person.send(upload_parts(picture(), sidecar=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"))
    assert answer.status == 201
    kinds = await target.database.fetch(
        """select path from asset_file where "assetId" = $1 and type = 'sidecar'""", UUID(answer.json["id"])
    )
    assert len(kinds) == 1
    assert kinds[0]["path"].endswith(".xmp")


async def test_a_sidecar_of_another_type_is_refused(target: Target, person: Person) -> None:
    answer = await person.send([*upload_parts(picture()), Part("sidecarData", b"x", "a.txt")])
    target.assert_refused(answer, 400, "Unsupported file type a.txt")
    assert await person.count() == 0


@pytest.mark.parametrize("name", ["IMG_1.JPG", "Grüße aus Kōbe 🌸.jpg", "it's; a=b %41.jpg", "two.dots.jpg"])
async def test_file_names_are_kept_as_sent(target: Target, person: Person, name: str) -> None:
    row = await target.existing(await person.asset(picture(), name))
    assert row["originalFileName"] == name


async def test_bytes_that_are_no_picture_are_taken_by_their_name(target: Target, person: Person) -> None:
    row = await target.existing(await person.asset(os.urandom(40), "noise.jpg"))
    assert row["type"] == "IMAGE"


async def test_a_film_is_a_video_by_its_extension(target: Target, person: Person) -> None:
    row = await target.existing(await person.asset(os.urandom(40), "film.MP4"))
    assert row["type"] == "VIDEO"


async def test_every_path_is_another(target: Target, person: Person) -> None:
    rows = [await target.existing(await person.asset()) for _ in range(2)]
    assert rows[0]["originalPath"] != rows[1]["originalPath"]


async def test_an_empty_file_is_refused_by_3_and_taken_by_2(target: Target, person: Person) -> None:
    answer = await person.upload(b"")
    if target.is_2:
        assert answer.status == 201
        assert (await target.existing(UUID(answer.json["id"])))["checksum"].hex().startswith("da39a3ee5e6b")
    else:
        target.assert_refused(answer, 400, "File is empty")
        assert await person.count() == 0


async def test_an_unsupported_extension_is_refused(target: Target, person: Person) -> None:
    target.assert_refused(await person.upload(picture(), "a.txt"), 400, "Unsupported file type a.txt")
    assert await person.count() == 0


async def test_mpo_is_taken_by_3_alone(target: Target, person: Person) -> None:
    answer = await person.upload(picture(), "a.mpo")
    if target.is_2:
        target.assert_refused(answer, 400, "Unsupported file type a.mpo")
    else:
        assert answer.status == 201


async def test_over_quota_is_refused(target: Target) -> None:
    person = await target.person(quota=100)
    target.assert_refused(await person.upload(picture(b"x" * 200)), 400, "Quota has been exceeded!")
    assert await person.count() == 0
    assert await person.usage() == 0


async def test_usage_follows_uploads_and_deletions(target: Target) -> None:
    first, second = picture(b"1" * 1000), picture(b"2" * 1000)
    person = await target.person(quota=len(first) + 100)
    asset = await person.asset(first)

    async def used() -> bool:
        return await person.usage() == len(first)

    async def unused() -> bool:
        return await person.usage() == 0

    await until(used)
    target.assert_refused(await person.upload(second), 400, "Quota has been exceeded!")
    await person.delete(asset)
    assert await person.usage() == len(first)
    await person.delete(asset, force=True)
    await until(unused)
    await person.asset(second)


@pytest.mark.parametrize("missing", ["fileCreatedAt", "fileModifiedAt"])
async def test_a_missing_date_is_refused(target: Target, person: Person, missing: str) -> None:
    target.assert_invalid(await person.send(upload_parts(picture(), without=[missing])), missing)
    assert await person.count() == 0


async def test_both_dates_missing_are_both_named(target: Target, person: Person) -> None:
    answer = await person.send(upload_parts(picture(), without=["fileCreatedAt", "fileModifiedAt"]))
    target.assert_invalid(answer, "fileCreatedAt", "fileModifiedAt")


async def test_a_date_that_is_none_is_refused(target: Target, person: Person) -> None:
    target.assert_invalid(await person.upload(picture(), fileCreatedAt="yesterday"), "fileCreatedAt")


async def test_device_ids_are_wanted_by_2_and_ignored_by_3(target: Target, person: Person) -> None:
    answer = await person.send(upload_parts(picture(), without=["deviceAssetId", "deviceId"]))
    if target.is_2:
        target.assert_invalid(answer, "deviceAssetId", "deviceId")
        row = await target.existing(await person.asset())
        assert (row["deviceAssetId"], row["deviceId"]) == ("one", "contract")
    else:
        assert answer.status == 201


async def test_an_upload_without_a_file_is_refused(target: Target, person: Person) -> None:
    target.assert_refused(await person.send(upload_parts(b"", without=["assetData"])), 400)
    assert await person.count() == 0


async def test_the_field_filename_goes_before_the_files_own(target: Target, person: Person) -> None:
    answer = await person.send([Part("filename", b"other.png"), *upload_parts(picture(), "a.png")])
    assert answer.status == 201
    assert (await target.existing(UUID(answer.json["id"])))["originalFileName"] == "other.png"
