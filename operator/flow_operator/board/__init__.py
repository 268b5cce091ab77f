"""What is told: the present status and the last events of each flow, for everybody to read."""

from flow_operator.board.board import Board, EventKeeper
from flow_operator.board.book import EVENTS, EVENTS_PER_FLOW
from flow_operator.board.changes import CHANGES, Change, Changes

__all__ = ["CHANGES", "EVENTS", "EVENTS_PER_FLOW", "Board", "Change", "Changes", "EventKeeper"]
