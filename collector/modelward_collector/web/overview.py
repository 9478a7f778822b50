"""What the page shows beside the list: totals, hosts of note, recent models and rule problems."""

from __future__ import annotations

import asyncio
from typing import Any

from modelward_collector.settings import CollectorSettings
from modelward_collector.web.filters import now
from modelward_collector.web.outputs_status import states
from modelward_collector.web.queries import listing
from modelward_collector.web.rules_status import RulesStatus
from modelward_collector.web.store import Store
from modelward_collector.web.store_status import store_status

_TOTALS = """
SELECT count() AS hosts, countIf(h.connected) AS connected, countIf(h.silent) AS silent,
countIf(h.lost > 0) AS lossy, sum(h.seen) AS seen, sum(h.stored) AS stored, sum(h.lost) AS lost,
arraySort(groupUniqArrayArray(200)(h.labels)) AS labels FROM hosts AS h"""

_HOSTS = """
SELECT host_name, agent_version, kernel_release, first_seen, last_seen, connected, silent, seen, stored, lost,
problems, tracked_processes, spool_bytes, spool_limit_bytes, labels, mode, mode_reason FROM hosts
ORDER BY silent DESC, mode IN ('paused', 'degraded') DESC, lost > 0 DESC, notEmpty(problems) DESC, connected, host_name
LIMIT 60"""

_MODELS = "SELECT uniqExact(model_id, model_digest) AS models FROM bindings"


class Overview:
    """Asks the store for it."""

    def __init__(self, store: Store, rules: RulesStatus, settings: CollectorSettings) -> None:
        self._store = store
        self._rules = rules
        self._settings = settings

    async def now(self) -> dict[str, Any]:
        """The overview as a JSON object.

        Raises:
            StoreError: the store is away.
        """
        models_sql, parameters, limit = listing("models", {"limit": "30"})
        select = self._store.select
        totals, hosts, model_total, models, outputs, sizes = await asyncio.gather(
            select(_TOTALS),
            select(_HOSTS),
            select(_MODELS),
            select(models_sql, parameters, max_rows=limit),
            states(self._settings),
            store_status(self._store, self._settings),
        )
        rules, problems = self._rules.now()
        return {
            "now": now(),
            "agents": self._settings.listen,
            "totals": {**totals.rows[0], **model_total.rows[0], "rules": len(rules)},
            "hosts": hosts.rows,
            "models": models.rows,
            "problems": problems,
            "store": sizes,
            "outputs": [{name: state[name] for name in ("output", "address", "problem")} for state in outputs],
        }
