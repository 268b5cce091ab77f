"""The API without the rest of the operator: a real store and board, and nobody who reconciles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from wsgi_client import Client

from flow_operator.api import Hosts, Services, create_app
from flow_operator.board import Board
from flow_operator.figures import Figures
from flow_operator.logs import Keeper
from flow_operator.metrics import Counted, Exposition, FlowCollector, Parts
from flow_operator.model.folder import no_folder
from flow_operator.reconciler import Reconciler
from flow_operator.runners.base import Capabilities
from flow_operator.settings import Layout
from flow_operator.sources import Summary
from flow_operator.store import DataLock, Desired, Memories, Store
from flow_operator.workqueue import WorkQueue
from scrapes import Scrape, make_status, make_step
from support import FakeClock, make_document

SUMMARY = Summary(
    files=4, faulty=1, flows=7, held=2, trouble=False, applied=5, looked_at=1_700_000_000.0
)


@dataclass
class FakeShim:
    """What a runner would tell of its shim."""

    connected: bool = True
    shims_replaced: int = 0


@dataclass
class Api:
    """The application, a client of it, and what it speaks of."""

    services: Services
    client: Client
    store: Store
    board: Board
    memories: Memories
    layout: Layout
    shim: FakeShim
    queue: WorkQueue

    def log(self, flow_id: str, step: str, text: str, replica: int = 0) -> Path:
        """Have a step have printed something."""
        path = Path(self.layout.log_file(flow_id, replica, step))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
        return path


@pytest.fixture(autouse=True)
def logged_events() -> Iterator[list[Any]]:
    """What the API has logged."""
    with structlog.testing.capture_logs() as events:
        yield events


@pytest.fixture
def make_api(root: Path) -> Iterator[Any]:
    """Builds the API as flowd does; one store for all that a test builds."""
    layout = Layout(root / "data")
    layout.root.mkdir()
    lock = DataLock(layout.lock)
    meter = Counted()
    clock = FakeClock()
    store = Store(layout, meter=meter)
    store.recover()
    board = Board(clock, meter=meter)
    queue = WorkQueue(clock, meter)
    shim = FakeShim()
    memories = Memories(layout)
    memories.recover()
    reconciler = Reconciler(
        store=store,
        memories=memories,
        runners={},
        board=board,
        prober=None,
        gauges=None,
        clock=clock,
        boot="boot",
        interrupt=None,
    )
    logs = Keeper(layout, clock, 0, lambda _flow_id, _count: None)

    def make(**changes: Any) -> Api:
        given: dict[str, Any] = {
            "store": store,
            "desired": Desired(store, reconciler.foresee),
            "board": board,
            "figures": Figures({}, clock, lambda _flow_id: {}),
            "logs": logs,
            "clock": clock,
            "runners": lambda: {"process": Capabilities(groups=True, limits=("memory",))},
            "ready": lambda: True,
            "folder": no_folder,
            "prune": lambda _meant: [],
            "hosts": Hosts(frozenset({"127.0.0.1"})),
            **changes,
        }
        parts = Parts(
            queue, store, logs, shim, given["ready"], lambda: 3, lambda: 5, lambda: SUMMARY
        )
        flows = FlowCollector(board, store, given["figures"], since="2020")
        given.setdefault("scrape", Exposition((parts, flows, meter)).scrape)
        services = Services(meter=meter, **given)
        client = Client(create_app(services))
        return Api(services, client, store, board, memories, layout, shim, queue)

    yield make
    logs.close()
    store.close()
    lock.release()


@pytest.fixture
def full_scrape(api: Api) -> Scrape:
    """A scrape in which every metric has a sample."""
    api.client.send("POST", "/flows", [make_document("a", "x", "y")]).close()
    api.board.publish(make_status("a", steps=(make_step(), make_step(name="s1"))))
    api.board.record("a", "Launching", "")
    return Scrape(api.client.get("/metrics").read().decode())


@pytest.fixture
def api(make_api: Any) -> Api:
    """The API with nothing in it."""
    made: Api = make_api()
    return made
