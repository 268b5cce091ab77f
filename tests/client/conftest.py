from __future__ import annotations

from collections.abc import Iterator

import pytest
from flavours import FLAVOURS, Async, Sync


@pytest.fixture(params=FLAVOURS, ids=lambda kind: kind.name)
def flavour(request: pytest.FixtureRequest) -> Iterator[Sync | Async]:
    """Either client."""
    made = request.param()
    yield made
    made.close()
