"""Whatever the program complains of is found on the page of troubleshooting, in its own words."""

import re
from pathlib import Path

import pytest

from immich_dbsync import errors
from immich_dbsync.core.actions import Why
from immich_dbsync.core.names import LeftAlone
from immich_dbsync.disk.marker import Health
from tests.docs import said

PAGE = Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md"
ERRORS = [
    error.__name__
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, errors.DbsyncError) and error is not errors.DbsyncError
]
# Why something was done, or left as a person or a policy wants it: the history tells these, `status` does not.
DONE = {
    *(Why.TRASHED, Why.DELETED, Why.TRASHED_BEFORE, Why.STILL_GONE, Why.MOVED, Why.ASSET_GONE, Why.RELEASED),
    *(Why.PROTECTED, Why.KEPT_BY_POLICY, Why.REJECTED, Why.MOTION_PART, Why.NEVER_TIED, Why.EXCLUDED),
}


def text() -> str:
    return " ".join(re.sub(r"[`*]", "", PAGE.read_text(encoding="utf-8")).split())


def test_it_has_what_the_program_says() -> None:
    assert len(said.findings()) > 30
    assert len(said.problems()) > 12
    assert not {phrase for phrase in said.findings() | said.problems() if phrase.replace("`", "") not in text()}


@pytest.mark.parametrize("error", ERRORS)
def test_it_has_every_error(error: str) -> None:
    assert f"| `{error}` |" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("why", [why for why in Why if why not in DONE])
def test_it_has_every_reason_for_which_something_waits(why: Why) -> None:
    assert why.value.split(":")[0] in text()


@pytest.mark.parametrize("why", LeftAlone)
def test_it_has_every_reason_for_which_a_file_is_left_alone(why: LeftAlone) -> None:
    assert f"| `{why.value}` |" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("health", [Health.MISSING, Health.UNREADABLE, Health.REPLACED])
def test_it_has_what_a_folder_may_be(health: Health) -> None:
    assert health.value in text()
