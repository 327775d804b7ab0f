"""docs/monitoring.md has every metric that there is and no other, with its labels."""

import re
from pathlib import Path
from typing import Any

from immich_dbsync.metrics import REGISTRY
from immich_dbsync.service.exposition import State, _Gauges

ROOT = Path(__file__).resolve().parents[2]
_ROW = re.compile(r"^\| `(immich_dbsync_\w+)` \| (.*?) ?\| .+ \|$", re.MULTILINE)
_LABELS = {  # of what is read off the service when somebody asks
    "immich_dbsync_queue_files": {"owner", "queue"},
    "immich_dbsync_holds": {"owner"},
    "immich_dbsync_root_healthy": {"owner"},
    "immich_dbsync_owner_problems": {"owner"},
}
_SUFFIX = {"counter": "_total", "info": "_info"}


def test_every_metric_is_there_with_its_labels() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    said = {name: {*re.findall(r"`(\w+)`", labels)} for name, labels in _ROW.findall(text)}
    collectors: set[Any] = {
        collector for collector in REGISTRY._collector_to_names if hasattr(collector, "_labelnames")
    }
    counted = {
        f"{collector._name}{_SUFFIX.get(collector._type, '')}": {*collector._labelnames} for collector in collectors
    }
    counted["immich_dbsync_build_info"] = {"version"}
    gauges = {family.name: _LABELS.get(family.name, set()) for family in _Gauges(State()).collect()}
    assert said == counted | gauges
