"""Desired state, durable: one YAML document per flow.

A write is in the page cache of nobody: it is on the disk before it is acknowledged. What was
acknowledged survives a power cut; what was not is there whole or not at all.
"""

from flow_operator.store.audit import AuditLimits
from flow_operator.store.desired import Desired, Edit, Foresee
from flow_operator.store.events import EventFile
from flow_operator.store.files import write_durably
from flow_operator.store.health import Health
from flow_operator.store.lock import DataLock
from flow_operator.store.memories import Memories
from flow_operator.store.records import Origin, StoredFlow, Tombstone
from flow_operator.store.store import Store
from flow_operator.store.transaction import Transaction

__all__ = [
    "AuditLimits",
    "DataLock",
    "Desired",
    "Edit",
    "EventFile",
    "Foresee",
    "Health",
    "Memories",
    "Origin",
    "Store",
    "StoredFlow",
    "Tombstone",
    "Transaction",
    "write_durably",
]
