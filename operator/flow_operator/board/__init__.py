"""What is told: the present status and the last events of each flow, for everybody to read."""

from flow_operator.board.board import Board, EventKeeper
from flow_operator.board.book import EVENTS, EVENTS_PER_FLOW

__all__ = ["EVENTS", "EVENTS_PER_FLOW", "Board", "EventKeeper"]
