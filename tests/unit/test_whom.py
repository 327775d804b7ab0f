"""Users are found by address, id or name, and a mistyped one gets the nearest suggested."""

from pathlib import Path
from uuid import UUID

import pytest

from immich_dbsync.errors import NoSuchFile, NoSuchUser
from immich_dbsync.immich.library import Owner
from immich_dbsync.model import OwnerId
from immich_dbsync.service.accounts import Account
from immich_dbsync.service.whom import chosen, find_owner, nearest, within


def owner(number: int, email: str, name: str) -> Owner:
    return Owner(OwnerId(UUID(int=number)), email, name, active=True)


ADA = owner(1, "Ada@example.org", "Ada Lovelace")
BOB = owner(2, "bob@example.org", "Bob")
BOBBY = owner(3, "robert@example.org", "bob")
EVERYBODY = [ADA, BOB, BOBBY]


@pytest.mark.parametrize("user", ["ada@example.org", "ADA@EXAMPLE.ORG", str(ADA.id), "ada lovelace"])
def test_a_user_has_three_names_in_any_case(user: str) -> None:
    assert find_owner(EVERYBODY, user) is ADA


def test_an_address_goes_before_a_name() -> None:
    called_like_another = owner(4, "eve@example.org", "bob@example.org")
    assert find_owner([called_like_another, BOB], "bob@example.org") is BOB


def test_a_name_that_two_have_is_no_answer() -> None:
    with pytest.raises(NoSuchUser) as error:
        find_owner(EVERYBODY, "Bob")
    assert str(error.value) == (
        "Several users are called 'Bob': name one by address: bob@example.org, robert@example.org."
    )


@pytest.mark.parametrize(
    "user", ["adda@example.org", "ada@exmaple.org", "ada lovelase", "00000000-0000-0000-0000-000000000011"]
)
def test_the_nearest_is_suggested_by_its_address(user: str) -> None:
    with pytest.raises(NoSuchUser, match=r"Did you mean Ada@example\.org\?"):
        find_owner([ADA, BOB], user)


def test_nothing_is_suggested_that_is_not_near() -> None:
    with pytest.raises(NoSuchUser) as error:
        find_owner([ADA, BOB], "xyz")
    assert str(error.value) == "Immich has no user 'xyz'. There are: Ada@example.org, bob@example.org."


def test_an_empty_name_is_nobodys() -> None:
    with pytest.raises(NoSuchUser):
        find_owner([owner(5, "nameless@example.org", ""), BOB], "")


def test_of_many_users_some_are_named() -> None:
    many = [owner(number, f"{number}@example.org", "") for number in range(12)]
    with pytest.raises(NoSuchUser, match=r"9@example\.org and 2 more\.$"):
        find_owner(many, "xyz")


def test_a_server_without_users_is_said_to_be() -> None:
    with pytest.raises(NoSuchUser, match="It has no users"):
        find_owner([], "ada@example.org")


def test_of_the_accounts_one_is_chosen_or_all() -> None:
    found = [Account(ADA, "k1"), Account(BOB, "k2")]
    assert chosen(found, "") == found
    assert chosen(found, "BOB") == found[1:]
    with pytest.raises(NoSuchUser, match=r"Did you mean bob@example\.org\? There are keys of: Ada@example"):
        chosen(found, "bop@example.org")


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        (f"/srv/photos/snyc/{ADA.id}/Camera", f"/srv/photos/sync/{ADA.id}/Camera"),
        ("/srv/photos/snyc/foo", "/srv/photos/sync"),
        ("/srv/photos/snyc", "/srv/photos/sync"),
        ("/srv/photos/sync/ada@example.org/Camera", f"/srv/photos/sync/{ADA.id}/Camera"),
        (f"/srv/photos/sync/{str(BOB.id)[1:]}/Camera", f"/srv/photos/sync/{BOB.id}/Camera"),
        ("/srv/photos/other/foo", None),
        ("/srv/photos/sync", None),
        ("/etc", None),
    ],
)
def test_a_path_in_nobodys_folder_gets_the_nearest_that_is_somebodys(path: str, meant: str | None) -> None:
    owners = [BOB] if "2/" in path else [ADA, BOB]
    with pytest.raises(NoSuchFile) as error:
        within(owners, Path("/srv/photos/sync"), path)
    said = str(error.value).partition("they are below '/srv/photos/sync'.")[2]
    assert said == ("" if meant is None else f" Did you mean {meant}?")


def test_the_nearest_path_is_written_as_the_one_that_was_typed() -> None:
    known = [(ADA, "Camera/a.png"), (BOB, "Camera/b.png")]
    root = Path("/srv/sync")
    assert nearest(root, "Camra/a.png", known) == " Did you mean Camera/a.png?"
    assert nearest(root, f"/srv/sync/{ADA.id}/Camra/a.png", known) == f" Did you mean /srv/sync/{ADA.id}/Camera/a.png?"
    assert nearest(root, f"/srv/sync/{ADA.id}/something else", known) == ""
