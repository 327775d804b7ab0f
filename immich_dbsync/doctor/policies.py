"""Is there a folder for each policy? One with a mistyped name protects nothing."""

from collections.abc import Collection, Iterator
from pathlib import Path

from immich_dbsync.doctor.finding import Finding, note
from immich_dbsync.wording import did_you_mean


def policies(folders: Collection[str], roots: Collection[Path]) -> Iterator[Finding]:
    """Which folders that have a policy of their own no user has; nothing while a user's folder is not there."""
    try:
        if not roots or not all(root.is_dir() for root in roots):
            return
        missing = [folder for folder in folders if not any((root / folder).is_dir() for root in roots)]
    except PermissionError:  # which is found elsewhere
        return
    for folder in missing:
        near = did_you_mean(folder, {name for root in roots for name in _beside(root, folder)})
        yield note(
            "policies",
            f"no user has a folder {folder!r}, which a policy is for",
            "what is deleted in a folder with another name follows the policy of all others",
            f"Mend its name in policies, or make the folder.{near}",
        )


def _beside(root: Path, folder: str) -> Iterator[str]:
    """The folders that are where this one would be, and those at the top."""
    for above in {root, (root / folder).parent}:
        try:
            yield from (
                str(each.relative_to(root))
                for each in above.iterdir()
                if each.is_dir() and not each.name.startswith(".")
            )
        except OSError:
            continue
