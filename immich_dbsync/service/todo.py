"""When an owner's paths are looked at, and looked at again. Kept in memory only: a restart finds all of it anew."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from immich_dbsync.core.actions import Leave, Why
from immich_dbsync.core.agenda import Agenda
from immich_dbsync.core.backoff import Backoff
from immich_dbsync.core.settle import Glance, settled
from immich_dbsync.model import AssetId, Content, File, RelPath

RETRY = Backoff(first=1.0, most=300.0)
"""Between two tries of a path that failed while the server answers, in seconds."""

_SLOW_S = 30.0  # until a file is looked at again that waits for Immich, or for another file's request
_LONG_SCAN_S = 60.0  # until a missing file is looked at again while a scan goes on
_TWIN_S = 0.5  # until a missing file is looked at again that waits for another one to be hashed or tied


class Todo:
    """An owner's agenda, and the reasons for which a path is put on it again."""

    def __init__(self) -> None:
        self.agenda = Agenda()
        self.hinted = asyncio.Event()
        self._glances: dict[RelPath, Glance] = {}
        self._attempts: Counter[RelPath] = Counter()
        self._after_scan: set[RelPath] = set()  # missing, while a scan may yet find them elsewhere
        self._in_grace: set[RelPath] = set()  # missing, and nothing can be said of them yet
        # Another path of the same content is being sent, or one of the same size, whose content is not known yet.
        self._behind: dict[Content | int, set[RelPath]] = defaultdict(set)
        self._waiting_for: dict[AssetId, set[RelPath]] = defaultdict(set)

    def hint(self, paths: Iterable[RelPath], *, after: float = 0.0) -> None:
        """Have these paths looked at, ``after`` that many seconds."""
        self.agenda.add(paths, time.monotonic() + after)
        self.hinted.set()

    def retry(self, paths: Iterable[RelPath], *, at_least: float = 0.0) -> None:
        """Have these paths looked at again after a failure, later each time, and not before so many seconds."""
        for path in paths:
            self.hint([path], after=max(at_least, self.pause(self._attempts[path])))
            self._attempts[path] += 1

    def has_failed(self, path: RelPath) -> bool:
        """Whether the last try of this path failed."""
        return self._attempts[path] > 0

    @staticmethod
    def pause(attempt: int) -> float:
        """Seconds until another try, after so many failed."""
        return RETRY.wait(attempt, random.random())  # noqa: S311  # jitter, no secret

    def forget_failures(self, paths: Iterable[RelPath]) -> None:
        """The next failure of these paths counts as the first: they succeeded, or have changed since."""
        for path in paths:
            self._attempts.pop(path, None)

    def behind(self, *, within: float = 0.0) -> bool:
        """Whether paths are due, or will be within so many seconds, that have not been looked at."""
        due = self.agenda.next_due()
        return due is not None and due <= time.monotonic() + within

    def settling(self) -> bool:
        """Whether files wait that are still being written."""
        return bool(self._glances)

    def only_settling(self, *, within: float) -> bool:
        """Whether files wait that are still being written, and nothing else is due within so many seconds."""
        return self.settling() and all(path in self._glances for path in self.agenda.due(time.monotonic() + within))

    def unsettled_sizes(self) -> list[int]:
        """The sizes of the files that are still being written, as last seen."""
        return [glance.stat.size for glance in self._glances.values()]

    def waiting_in_grace(self) -> int:
        """How many missing files were not decided when they were last looked at, for they may turn up elsewhere."""
        return len(self._in_grace)

    def looked_at(self, paths: Iterable[RelPath]) -> None:
        """These paths are being decided anew."""
        self._in_grace.difference_update(paths)

    # --- why a path comes up again ---

    def scan_over(self) -> None:
        """No scan is under way or wanted: what is missing has not turned up elsewhere."""
        missing, self._after_scan = self._after_scan, set()
        self.hint(missing)

    def wait_behind(self, sent: Content | int, paths: Iterable[RelPath]) -> None:
        """These paths hold, or by their size may hold, what another path is uploading."""
        self._behind[sent].update(paths)

    def behind_a_move(self, path: RelPath) -> None:
        """What becomes of this path depends on what becomes of another, which a queue has in hand."""
        self.hint([path], after=_TWIN_S)

    def uploaded(self, sent: Content | int) -> None:
        """An upload has ended, one way or the other."""
        self.hint(self._behind.pop(sent, ()))

    def changed(self, assets: Iterable[AssetId]) -> None:
        """Something happened to these assets that paths may have waited for."""
        for asset in assets:
            self.hint(self._waiting_for.pop(asset, ()))

    def has_settled(self, file: File, now_ns: int, settle_ns: int) -> bool:
        """Whether the file may be read; when not, it is looked at again."""
        glance = self._glances.get(file.path)
        if settled(file.stat, now_ns, glance, settle_ns):
            self._glances.pop(file.path, None)
            return True
        if glance is None or glance.stat != file.stat:
            self._glances[file.path] = Glance(file.stat, now_ns)
        wait = settle_ns - (now_ns - file.stat.mtime_ns) if file.stat.mtime_ns <= now_ns else settle_ns
        self.hint([file.path], after=min(wait, settle_ns) / 1e9)
        return False

    def not_written(self, paths: Iterable[RelPath]) -> None:
        """These files are not being written, or not any more: they are gone, or known without being read."""
        for path in paths:
            self._glances.pop(path, None)

    def wait(self, leave: Leave, *, scanning: bool, over: Callable[[RelPath], float]) -> bool:
        """Put the path on the agenda for when the reason may be over; False where only news can change it.

        ``over`` says in how many seconds a missing path's grace ends; it may be in the past.
        """
        if leave.why is Why.GRACE:
            self._in_grace.add(leave.path)
        match leave.why:
            case Why.GRACE if scanning:
                self._after_scan.add(leave.path)
                self.hint([leave.path], after=_LONG_SCAN_S)
            case Why.GRACE:
                self.hint([leave.path], after=max(over(leave.path), 0) or _TWIN_S)
            case Why.MOVING:
                self.behind_a_move(leave.path)
            case Why.TWIN if leave.content is not None:
                self.wait_behind(leave.content, [leave.path])
                self.hint([leave.path], after=_SLOW_S)
            case Why.EDITED | Why.COUNTING:
                self.hint([leave.path], after=_SLOW_S)
            case Why.BEING_DELETED:
                if leave.asset_id is not None:
                    self._waiting_for[leave.asset_id].add(leave.path)
                self.hint([leave.path], after=_SLOW_S)
            case _:
                return False
        return True
