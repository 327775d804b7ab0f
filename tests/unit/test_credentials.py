"""A URL is shown without its passwords, or not at all."""

import pytest

from immich_dbsync.credentials import MASK, masked_url, url_of_role

SHOWN = {
    "postgresql://h/x": "postgresql://h/x",
    "postgresql://me@h:1/x": "postgresql://me@h:1/x",
    "postgresql://me:s3cr3t@h:1/x": "postgresql://me:***@h:1/x",
    "postgresql://me:@h/x": "postgresql://me:***@h/x",
    "postgresql://me:s3cr3t@/x?host=/run/pg&port=1": "postgresql://me:***@/x?host=/run/pg&port=1",
    "postgresql://h/x?password=s3cr3t&sslpassword=s3cr3t": "postgresql://h/x?password=***&sslpassword=***",
    "postgresql://h/x?access_token=s3cr3t&sslkey=s3cr3t": "postgresql://h/x?access_token=***&sslkey=***",
    "http://me:s3cr3t@h/": "http://me:***@h/",
    "postgresql://me:s3cr3t@1@h/x": MASK,
    "postgresql://me:s3/cr3t@h/x": MASK,
    "postgresql://me:12/cr3t@h/x": MASK,
    "postgresql://me:12?cr3t@h/x": MASK,
    "postgresql://me:s3#cr3t@h/x": MASK,
    "postgresql://me:s3?cr3t@h/x": MASK,
    "postgresql://me:s3\ncr3t@h/x": MASK,
    "postgresql:/me:s3cr3t@h/x": MASK,
    "htp:/me:s3cr3t": MASK,
    "me:s3cr3t@h/x": MASK,
    "s3cr3t": MASK,
    "": MASK,
}


@pytest.mark.parametrize("url", SHOWN)
def test_no_password_is_shown(url: str) -> None:
    assert masked_url(url) == SHOWN[url]
    assert "cr3t" not in masked_url(url)


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("postgresql://me:s3cr3t@h:1/x", "postgresql://the%20owner@h:1/x"),
        ("postgresql://h/x?user=me&password=s3cr3t&sslmode=require", "postgresql://the%20owner@h/x?sslmode=require"),
        ("postgresql://me@/x?host=/run/pg&port=1", "postgresql://the%20owner@/x?host=/run/pg&port=1"),
    ],
)
def test_the_url_of_another_role_has_no_password(url: str, other: str) -> None:
    assert url_of_role(url, "the owner") == other
