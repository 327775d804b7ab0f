"""What a command asks of the service, or does itself where none runs: a comparison, decided holds, the quarantine."""

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from immich_dbsync.core.names import valid_path
from immich_dbsync.service.logs import printable
from immich_dbsync.service.owner import OwnerSync
from immich_dbsync.service.rehash import read_again, reread
from immich_dbsync.service.rounds import Rounds
from immich_dbsync.store.holds import BRING_BACK, PURGE, RESYNC
from immich_dbsync.store.records import Deed
from immich_dbsync.wording import counted

log = structlog.get_logger()

_LOOK_S = 0.1  # between two looks whether a resync is done
_WRITTEN_S = 60.0  # for which a resync waits for files that are still being written: a recording may take hours
_STILL_WRITTEN = "the file was still being written"
_DAMAGED_TOLD = 1000  # damaged files named in an answer; all are counted, and `status` names them too
_PAGE = 500


class Answers:
    """Answers what is asked about one owner, one after the other."""

    def __init__(self, sync: OwnerSync, rounds: Rounds, hashers: ThreadPoolExecutor) -> None:
        self._sync, self._rounds, self._hashers = sync, rounds, hashers
        self._read = Counter[str]()  # files and bytes that the last comparison has read again

    def progress(self) -> str:
        """How far what is being answered is, in a few words."""
        said = [read_again(self._read["files"], self._read["bytes"])] if self._read else []
        if looked_at := sum(tally.files for tally in self._rounds.tallies.values()):
            said.append(f"{counted(looked_at, 'file')} looked at")
        if backlog := self._sync.queues.backlog():
            said.append(f"{backlog} to read or send")
        return ", ".join(said)

    async def answer_forever(self) -> None:
        """Answer whatever is asked, and what was asked before this service began."""
        sync = self._sync
        while True:
            await sync.asked.wait()
            sync.asked.clear()
            for ask in await sync.parts.holds.asks(sync.owner):
                await sync.parts.holds.answer(ask.id, await self.answer(ask.kind, ask.arguments))

    async def answer(self, kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked, and say what was done."""
        if kind == RESYNC:
            return await self.resync(bytes.fromhex(arguments["prefix"]), rehash=bool(arguments["rehash"]))
        if kind == BRING_BACK:
            back = await self._sync.bring_back(arguments["ids"])
            await self._all_done()
            return {"done": {str(entry.id): printable(path) for entry, path in back}}
        if kind == PURGE:
            return {
                "done": {str(entry.id): printable(entry.path) for entry in await self._sync.purge(arguments["ids"])}
            }
        return await self.carry_out_decisions()

    async def resync(self, prefix: bytes = b"", *, rehash: bool = False) -> dict[str, Any]:
        """Compare all at and below ``prefix`` and return when what follows is done; what was done, counted.

        ``waiting`` in the result says why something could not be done, when Immich's server does not answer. Files that
        are still being written after a minute are not waited for; ``left`` counts them.
        """
        sync = self._sync
        since = await sync.store.now()
        # Whoever asks may have mended what was in the way: the key, the quota, a proxy's limit.
        sync.queues.key_refused.end()
        sync.queues.quota_used_up.end()
        await sync.store.forget_refusals(sync.owner, prefix)
        damaged = await self._reread(prefix) if rehash else []
        sync.scan(prefix)
        if prefix:
            sync.hint([valid_path(prefix)])
        written_until = time.monotonic() + _WRITTEN_S
        while not (sync.idle() and self._rounds.reported()):
            if sync.parts.gate.reason is not None and sync.identified() and not sync.known.scanning:
                break
            if time.monotonic() >= written_until and sync.only_settling():
                break
            await asyncio.sleep(_LOOK_S)
        tally = self._rounds.tallies.get(prefix)
        left = Counter(why.value for why in sync.dispatch.left.values())
        if written := len(sync.todo.unsettled_sizes()):
            left[_STILL_WRITTEN] = written
        return {
            "files": tally.files if tally is not None else 0,
            "done": await sync.parts.holds.done_since(sync.owner, since),
            "left": left,
            "damaged": damaged[:_DAMAGED_TOLD],
            "damaged_count": len(damaged),
            "waiting": sync.parts.gate.reason,
        }

    async def carry_out_decisions(self) -> dict[str, Any]:
        """Have everything looked at whose hold was decided, and end the holds to which nothing belongs any more."""
        sync, count, after = self._sync, 0, b""
        while paths := await sync.parts.holds.decided(sync.owner, after, _PAGE):
            sync.hint(paths)
            count, after = count + len(paths), paths[-1]
        await self._all_done()
        closed = await sync.close_holds()
        for hold in closed:
            log.info("hold.closed", owner=str(sync.owner), hold=hold)
        return {"files": count, "closed": closed, "waiting": sync.parts.gate.reason}

    async def _all_done(self) -> None:
        """Return when nothing is left to be done, or Immich's server does not answer."""
        # An event for each of the counters behind idle() would cost more than looking at them.
        while not self._sync.idle() and self._sync.parts.gate.reason is None:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)

    async def _reread(self, prefix: bytes) -> list[str]:
        """Find damaged files, and note them; their paths as text, undecodable bytes escaped."""
        sync, damaged = self._sync, []
        self._read = Counter()
        async for file in reread(sync.root, sync.store, sync.owner, self._hashers, prefix):
            self._read += Counter(files=1, bytes=file.size)
            if file.news:
                await sync.store.set_damage(sync.owner, file.path, file.found if file.damaged else None)
                cause = "its bytes changed without a trace" if file.damaged else "its bytes are as recorded again"
                await sync.store.remember(
                    sync.owner, [Deed("damaged" if file.damaged else "repaired", cause, file.path)]
                )
            if file.damaged:
                damaged.append(printable(file.path))
                log.error("file.damaged", owner=str(sync.owner), path=file.path)
        return damaged
