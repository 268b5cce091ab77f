"""What steps print: kept within limits, without touching those who write, and read across files.

A step writes straight into ``STEP.log``. What is older stands in ``STEP.log.OFFSET`` beside it,
named by the position of its first byte in all that the step has ever printed: the files in the
order of their names, and ``STEP.log`` after them, are the exact stream.
"""

from flow_operator.logs.keeper import Keeper, Limits
from flow_operator.logs.stream import Part, Stream

__all__ = ["Keeper", "Limits", "Part", "Stream"]
