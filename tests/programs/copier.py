"""An operator that does nothing but copy the log of a container, until all of it is copied."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import docker

from flow_operator.clock import SystemClock
from flow_operator.logs import Keeper
from flow_operator.runners.container_logs import ContainerLogs, LogKey
from flow_operator.settings import Layout

url, data, container = sys.argv[1:]
whole = threading.Event()
api = docker.APIClient(base_url=url)
keeper = Keeper(Layout(Path(data)), SystemClock(), 0, lambda _flow_id, _count: None)
keeper.start()
logs = ContainerLogs(keeper, api, SystemClock(), lambda _key: whole.set())
logs.follow(LogKey("r1", "demo", 0, "s0", 1), container)
whole.wait()
logs.close()
keeper.close()
api.close()
