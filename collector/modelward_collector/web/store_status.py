"""How full the store is, and how long it keeps what: beside the hosts on the page."""

from __future__ import annotations

import shutil
from typing import Any

from modelward_collector.settings import CollectorSettings
from modelward_collector.web.store import Store

_SIZES = """
SELECT sumIf(rows, table = 'events_raw') AS events, sumIf(rows, table = 'detections_raw') AS detections,
sum(bytes_on_disk) AS bytes, uniqExactIf(partition, table = 'events_raw') AS days,
if(days = 0, '', minIf(partition, table = 'events_raw')) AS oldest_day
FROM system.parts WHERE database = 'modelward' AND active"""


async def store_status(store: Store, settings: CollectorSettings) -> dict[str, Any]:
    """Rows, days and bytes that are kept, and the limits of each.

    Raises:
        StoreError: the store is away.
    """
    [sizes] = (await store.select(_SIZES)).rows
    free = shutil.disk_usage(settings.data).free
    full = free < settings.min_free_bytes
    return {
        **sizes,
        "problem": f"The disk of the store is nearly full ({free >> 20} MiB free): agents keep their events." if full else "",
        "free_bytes": str(free),
        "max_bytes": str(settings.max_store_bytes),
        "retention_days": settings.retention_days,
        "detection_retention_days": settings.detection_retention_days,
    }
