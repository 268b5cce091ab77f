"""All metrics as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.exposition import ALLOWUTF8
from prometheus_client.registry import Collector


class Exposition:
    """Tells what collectors tell, and of the operator's own process.

    Args:
        collectors: what is told; asked anew for each scrape.
    """

    def __init__(self, collectors: Iterable[Collector]) -> None:
        self._registry = CollectorRegistry()
        for collector in collectors:
            self._registry.register(collector)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def scrape(self, accept: str) -> tuple[bytes, str]:
        """Everything as it is now.

        Args:
            accept: the Accept header of the request, or nothing.

        Returns:
            The text, and its content type: OpenMetrics where it is asked for.
        """
        encode, kind = _encoder(accept)
        return encode(self._registry), kind


def _encoder(accept: str) -> tuple[Callable[..., bytes], str]:
    # The content type repeats parts of what is asked for, and a version may be any text.
    if not (accept.isascii() and accept.isprintable()):
        accept = ""
    try:
        chosen: tuple[Callable[..., bytes], str] = choose_encoder(accept)
    except (TypeError, ValueError):
        return choose_encoder("")
    encode, kind = chosen
    if kind.endswith("escaping=underscores"):
        # No name of ours needs it, and to look at each of their letters takes nearly half the time.
        return partial(encode, escaping=ALLOWUTF8), kind
    return encode, kind
