"""What stands between a decision and a removal, each with the change that takes it out.

A mutant replaces one piece of a module's source, which has to be there exactly once: a list that does not match the
code any more fails. ``tests`` is what has to notice, as arguments for pytest.
"""

from dataclasses import dataclass

_TABLE = ("tests/unit/test_reconcile.py",)


@dataclass(frozen=True)
class Mutant:
    """``module`` is below ``immich_dbsync``; ``guard`` says what is taken out."""

    module: str
    guard: str
    old: str
    new: str
    tests: tuple[str, ...] = _TABLE


def _service(name: str, *chosen: str) -> tuple[str, ...]:
    """The tests of one integration file that have all of these in their names, on one of Immich's versions."""
    return (f"tests/integration/{name}.py", "-k", " and ".join(chosen))


CORE = (
    Mutant("core.reconcile", "row 17: the owner is active", "if not view.owner_active:", "if False:"),
    # Rows 4 and 7: a file leaves the folder.
    Mutant(
        "core.presence",
        "a root that is not healthy loses no file",
        "if not self.view.healthy:\n            return Leave(self.path, Why.UNHEALTHY, evidence)",
        "pass",
    ),
    Mutant(
        "core.presence",
        "a policy of backup keeps the file",
        "if self.view.policies.of(self.path) is Policy.BACKUP:\n            known",
        "if False:\n            known",
    ),
    Mutant(
        "core.presence",
        "a hold goes with a renamed file",
        "if hold is not None and record is not None and record.path != self.path:",
        "if False:",
    ),
    Mutant(
        "core.presence",
        "a hold is of one content",
        "if self.own is not None and self.own.content == content else None",
        "",
    ),
    Mutant("core.presence", "a waiting hold keeps the file", "case Decision.WAITING:", "case 1:"),
    Mutant("core.presence", "a rejected hold keeps the file", "case Decision.REJECTED:", "case 1:"),
    Mutant(
        "core.presence",
        "changed settings remove nothing",
        "self.view.unfamiliar is Why.SETTINGS_CHANGED or (",
        "False or (",
    ),
    Mutant(
        "core.presence",
        "the first scan removes nothing",
        "self.view.unfamiliar is Why.FIRST_SIGHT and why is Why.TRASHED_BEFORE",
        "False",
    ),
    Mutant(
        "core.presence",
        "a trashed asset says since when",
        "case None if asset is not None and asset.status is Status.TRASHED and asset.deleted_ns is None:",
        "case None if False:",
    ),
    Mutant(
        "core.presence",
        "a missing row alone is no evidence",
        "if asset_id in self.view.deleted and content.sha1",
        "if content.sha1",
    ),
    Mutant(
        "core.presence",
        "the content has no other asset",
        "in self.view.deleted and content.sha1 not in self.facts.by_sha1:",
        "in self.view.deleted:",
    ),
    Mutant(
        "core.facts",
        "an asset that we trashed ourselves is no evidence",
        "if asset.id in self.view.trashed_by_us:\n            return True",
        "pass",
    ),
    Mutant(
        "core.presence",
        "a file that came after the deletion stays",
        "case Status.TRASHED if self.facts.came_after(self.file, asset, another=True):",
        "case Status.TRASHED if False:",
    ),
    Mutant(
        "core.presence",
        "another file at the path that came after stays",
        "another = record.path == self.path and record.stat.inode != self.file.stat.inode",
        "another = False",
    ),
    Mutant(
        "core.presence",
        "a video that came after its still's deletion stays",
        "if still.deleted_ns is not None and since > still.deleted_ns:",
        "if False:",
    ),
    Mutant(
        "core.presence",
        "a file whose asset another path brings back stays",
        "if not isinstance(action, Quarantine | PutOnHold) or action.asset_id not in restored:",
        "if True:",
    ),
    Mutant("core.presence", "an excluded file is left alone", "if self.path in self.view.excluded:", "if False:"),
    Mutant(
        "core.facts",
        "a video with an active still stays",
        "or any(still.status is Status.ACTIVE for still in stills)",
        "",
    ),
    # Row 9: the asset of an edited file is trashed.
    Mutant(
        "core.presence",
        "no edit counts in a root that is not healthy",
        "if not self.view.healthy:\n            return Leave(self.path, Why.UNHEALTHY, old.id)",
        "pass",
    ),
    Mutant(
        "core.presence",
        "damage is no edit",
        "if own is not None and own.damaged == content.xxh3 and own.content != content:",
        "if False:",
    ),
    Mutant(
        "core.presence",
        "the old content may yet be found elsewhere",
        "if record.stat.size in self.facts.unidentified and not elsewhere:",
        "if False:",
    ),
    Mutant(
        "core.facts",
        "what was deleted in Immich after an edit to it takes nobody's place",
        "not in view.files or self._left_by_an_edit(record)",
        "not in view.files",
    ),
    Mutant(
        "core.presence",
        "a path's old content is tied where it went before its record ends",
        "            yield Leave(action.path, Why.MOVING)",
        "            yield action",
    ),
    Mutant(
        "core.presence",
        "paths that changed places are tied together",
        "yield replace(action, behind=tie)",
        "yield action",
    ),
    Mutant("core.presence", "another path holds the old content", "needed = elsewhere or", "needed ="),
    Mutant(
        "core.presence",
        "another path is tied to the old asset",
        "or self.facts.tied_elsewhere(old.id, self.path) or",
        "or",
    ),
    Mutant("core.presence", "the old asset's file comes back", "or self.facts.comes_back(old.id)\n", "\n"),
    Mutant(
        "core.presence",
        "a policy of backup keeps the old asset",
        "keeps = self.view.policies.of(self.path) is Policy.BACKUP or",
        "keeps =",
    ),
    Mutant("core.presence", "the trash is on", "or not self.view.trash_enabled or old.hidden", "or old.hidden"),
    Mutant(
        "core.presence",
        "a motion part is not trashed",
        "or not self.view.trash_enabled or old.hidden",
        "or not self.view.trash_enabled",
    ),
    Mutant(
        "core.presence", "an undecided hold keeps the old asset", "and not keeps and not undecided", "and not keeps"
    ),
    Mutant("core.presence", "without copying the old asset stays", "trash_old = self.view.may_copy and", "trash_old ="),
    Mutant(
        "core.reconcile",
        "no file is put back over what is missing and not decided",
        "if entry is None or taken or facts.overwritten(entry.path, entry.content) is None:",
        "if True:",
    ),
    # Row 11: the asset of a missing file is trashed.
    Mutant(
        "core.absence",
        "what is missing from a root that is not healthy is not deleted",
        "if not self.view.healthy:\n            return Why.UNHEALTHY",
        "pass",
    ),
    Mutant("core.absence", "a missing file has its grace", "waiting = path in self.view.in_grace or", "waiting ="),
    Mutant(
        "core.absence",
        "a file of the same size waits to be identified",
        "in self.view.in_grace or record.stat.size in self.facts.unidentified",
        "in self.view.in_grace",
    ),
    Mutant(
        "core.absence",
        "the content is about to be there again",
        "if waiting or record.content in self.pending else",
        "if waiting else",
    ),
    Mutant("core.absence", "another path holds the content", "            elif held:", "            elif False:"),
    Mutant(
        "core.absence",
        "a record ends after the other path is tied",
        "if tied_now is not None:\n            return Drop(record.path, Why.MOVED, behind=tied_now)\n"
        "        return Leave(record.path, Why.MOVING)",
        "return Drop(record.path, Why.MOVED)",
    ),
    Mutant("core.absence", "another path of the asset is not decided yet", "        if others:", "        if False:"),
    Mutant("core.absence", "row 13: motion parts", "if asset.hidden:", "if False:"),
    Mutant(
        "core.absence",
        "row 13: the delete threshold",
        "if limit is not None and asset.created_ns <= limit:",
        "if False:",
    ),
    Mutant("core.absence", "row 13: protected assets", "if asset.protected:", "if False:"),
    Mutant(
        "core.absence",
        "row 13: the folder's policy",
        "if any(self.view.policies.of(path) is not Policy.MIRROR for path in paths):",
        "if False:",
    ),
    Mutant("core.absence", "row 13: a rejected hold", "if Decision.REJECTED in self._decisions(paths):", "if False:"),
    Mutant("core.absence", "a waiting hold keeps the asset", "if Decision.WAITING in decisions:", "if False:"),
    Mutant(
        "core.absence",
        "changed settings trash nothing",
        "elif self.view.unfamiliar is Why.SETTINGS_CHANGED:",
        "elif False:",
    ),
    Mutant("core.absence", "the trash is on", "elif not self.view.trash_enabled:", "elif False:"),
    Mutant(
        "core.absence",
        "what is excluded now was not deleted",
        "if path in view.excluded and view.healthy:",
        "if False:",
    ),
    # Rows 15 and 16: what is in quarantine.
    Mutant("core.quarantined", "nothing is done in a root that is not healthy", "if facts.view.healthy else ()", ""),
    Mutant("core.quarantined", "purged is what was deleted for good", "if entry.gone and view.purge", "if view.purge"),
    Mutant(
        "core.quarantined", "purged is what is there for long enough", " and entry.at_ns < view.purge_before_ns", ""
    ),
    Mutant(
        "core.quarantined",
        "without a retention nothing is purged",
        "entry.gone and view.purge_before_ns is not None and entry.at_ns < view.purge_before_ns",
        "entry.gone and entry.at_ns < (view.purge_before_ns or 1 << 80)",
    ),
    Mutant(
        "core.quarantined",
        "gone is what the evidence says is deleted",
        "elif not entry.gone and entry.asset_id in view.deleted:",
        "elif not entry.gone:",
    ),
    # How much is too much.
    Mutant(
        "core.guards",
        "more than the minimum",
        "return deletions > self.minimum and",
        "return",
        ("tests/unit/test_guards.py",),
    ),
    Mutant(
        "core.guards",
        "more than the fraction",
        " and deletions > self.fraction * synced",
        "",
        ("tests/unit/test_guards.py",),
    ),
    Mutant(
        "core.guards",
        "a large folder",
        "if count >= FOLDER_MIN",
        "if count > FOLDER_MIN",
        ("tests/unit/test_guards.py",),
    ),
)
"""Those of the decision table, which its unit tests notice within a second."""

SERVICE = (
    Mutant(
        "service.workers",
        "deletions are judged as a whole before they are asked for",
        "why = await sync.guard.judge(Direction.FOLDER, asked) if asked else None",
        "why = None",
        _service("test_holds", "3.1.0", "too_many or more_than or emptied or mass"),
    ),
    Mutant(
        "service.owner",
        "by hand is purged only what is known to be deleted for good",
        "if entry.id in ids and deleted_for_good(entry, view)",
        "if entry.id in ids",
        ("tests/integration/test_purge.py", "-k", "by_hand"),
    ),
    Mutant(
        "core.quarantined",
        "an asset that is there, in whatever state, is not deleted for good",
        "return entry.asset_id not in view.assets and (",
        "return (",
        ("tests/integration/test_purge.py", "-k", "by_hand"),
    ),
    Mutant(
        "service.owner",
        "by hand nothing is purged while the folder is not well",
        "            if not view.healthy:\n                return []",
        "            pass",
        ("tests/integration/test_purge.py", "-k", "by_hand"),
    ),
    Mutant(
        "service.owner",
        "by hand nothing comes back to a folder that is not well",
        "if await self.parts.observer.health() is not Health.OK:",
        "if False:",
        ("tests/integration/test_purge.py", "-k", "by_hand"),
    ),
    Mutant(
        "service.guard",
        "a lost library is judged as a whole",
        "if not lost or not await self._too_many(Direction.IMMICH, lost + len(this), this):",
        "if True:",
        _service("test_holds", "3.1.0", "immich"),
    ),
    Mutant(
        "service.owner",
        "what takes more than a page to tell of is judged together",
        "await self.guard.judge_lost(None, told=True)",
        "pass",
        _service("test_holds", "3.1.0", "page"),
    ),
    Mutant(
        "service.owner",
        "what comes after that was counted is judged again",
        "if self.guard.judged.issuperset(events):",
        "if self.guard.judged:",
        _service("test_holds", "3.1.0", "counted_once"),
    ),
    Mutant(
        "service.owner",
        "what one statement of Immich's deleted is judged together",
        "elif len(news) > 1 and not self.guard.few(Direction.IMMICH, len(news)):",
        "elif False:",
        _service("test_holds", "3.1.0", "in_hand"),
    ),
    Mutant(
        "service.owner",
        "what is brought back is not tied during a look",
        "        async with self._lock:\n            await self.dispatch.hands.tie(view, actions)",
        "        await self.dispatch.hands.tie(view, actions)",
        _service("test_meanwhile", "3.1.0", "look_that_began"),
    ),
    Mutant(
        "service.workers",
        "a copy may come while its asset is trashed",
        "await sync.look_after_trash(trashed | live)",
        "await sync.look_after_trash(live)",
        _service("test_meanwhile", "3.1.0", "while_its_asset"),
    ),
    Mutant(
        "service.uploads",
        "a copy of what was edited may come while its asset is trashed",
        "await sync.look_after_trash([now.old] if trashed else [])",
        "pass",
        _service("test_meanwhile", "3.1.0", "what_was_edited"),
    ),
    Mutant(
        "service.take_back",
        "a copy of what is taken back may come meanwhile",
        "await sync.look_after_trash(done)",
        "pass",
        _service("test_meanwhile", "3.1.0", "taken_back"),
    ),
    Mutant(
        "service.uploads",
        "an edit restores nothing that was deleted since it was planned",
        "if not _same(await sync.decide(edit.path), edit):",
        "if False:",
        _service("test_meanwhile", "3.1.0", "restores_nothing"),
    ),
    Mutant(
        "service.carry_out",
        "a hold of what is missing leaves its record as it is, whatever is at the path",
        "a.direction is Direction.IMMICH and a.path in view.files",
        "a.path in view.files",
        _service("test_meanwhile", "3.1.0", "trash_is_off"),
    ),
    Mutant(
        "service.rounds",
        "what was lost is judged before what a scan finds is looked at",
        "                    if prefix:\n                        judged.set()",
        "                    judged.set()\n                    if prefix:\n                        pass",
        _service("test_holds", "3.1.0", "scan_finds"),
    ),
    Mutant(
        "service.guard",
        "an emptied folder waits for a person",
        "return Why.EMPTIED if await",
        "return None if await",
        _service("test_holds", "3.1.0", "empt"),
    ),
    Mutant(
        "service.observe",
        "the root's marker is looked at",
        "self._health = await asyncio.to_thread(health, self.root, self.root_id, self.stfolders)",
        "self._health = Health.OK",
        _service("test_root_health", "3.1.0"),
    ),
    Mutant(
        "service.session",
        "a root with another's marker is not synced",
        "if marker != row.root_id:",
        "if False:",
        _service("test_instances", "3.1.0"),
    ),
    Mutant(
        "service.session",
        "one service for each owner",
        "mine = await self._listener.lock(owner)\n                if mine:",
        "mine = True\n                if mine:",
        _service("test_instances", "3.1.0"),
    ),
    Mutant(
        "disk.quarantine",
        "what can't be listed in quarantine is not gone",
        "if walk.errors:",
        "if False:",
        _service("test_quarantine_unread", "3.1.0"),
    ),
    Mutant(
        "disk.quarantine",
        "a link in quarantine may hide what is missing",
        "if _DAY.fullmatch(day.name) and not day.is_dir(follow_symlinks=False):",
        "if False:",
        _service("test_quarantine_unread", "3.1.0", "link"),
    ),
    Mutant(
        "disk.root",
        "what the folder's owner may not read is not read for them",
        "if not self.owner.may(READ, fd, status):",
        "if False:",
        ("tests/integration/test_disk_access.py",),
    ),
    Mutant(
        "disk.root",
        "what lies in a folder that its owner may not enter is not read for them",
        "if not self.owner.may(SEARCH, parent, os.fstat(parent)):",
        "if False:",
        ("tests/integration/test_disk_access.py", "-k", "enter"),
    ),
)
"""Those of the service; they need PostgreSQL and a folder."""
