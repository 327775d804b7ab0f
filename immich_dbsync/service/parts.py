"""What an owner's sync works with."""

from dataclasses import dataclass

from immich_dbsync.disk.root import Root
from immich_dbsync.immich.api import Server
from immich_dbsync.immich.library import Library
from immich_dbsync.model import OwnerId
from immich_dbsync.service.gate import Gate
from immich_dbsync.service.observe import Known, Observer
from immich_dbsync.service.rules import Rules
from immich_dbsync.store.holds import Holds
from immich_dbsync.store.records import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """One owner's folder, database, server and rules."""

    owner: OwnerId
    key: str
    root: Root
    observer: Observer
    known: Known
    rules: Rules
    store: Store
    holds: Holds
    library: Library
    server: Server
    gate: Gate
