"""The servers of ``make phases`` that run from the project's own environment: every event is tagged as the server says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.phases import report
from tests.phases.run import run_server
from tests.phases.score import score
from tests.phases.server import Server
from tests.phases.servers import all_servers
from tests.stack import Whole, running

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def whole() -> Iterator[Whole]:
    with running() as everything:
        yield everything


@pytest.mark.parametrize("server", [s for s in all_servers() if s.short], ids=lambda server: server.name)
def test_every_event_has_the_phase_model_and_origin_that_the_server_names(whole: Whole, server: Server) -> None:
    result = score(run_server(whole, server))
    total = result.all
    right = report.share(total.phase, total.events) >= report.EACH and total.model == total.origin == total.events
    assert right and not result.failed, "\n".join(result.wrong)  # noqa: PT018
