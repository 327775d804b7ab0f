"""Which policy a file falls under."""

from dataclasses import dataclass

from immich_dbsync.model import Policy, RelPath


@dataclass(frozen=True, slots=True)
class Policies:
    """The policy of each folder: that of the longest folder listed at or above it, else the default.

    ``folders`` are paths below the root without a slash at either end.
    """

    default: Policy = Policy.MIRROR
    folders: tuple[tuple[bytes, Policy], ...] = ()

    def of(self, path: RelPath) -> Policy:
        """The policy for the file at this path."""
        above = [(len(folder), policy) for folder, policy in self.folders if path.startswith(folder + b"/")]
        return max(above)[1] if above else self.default
