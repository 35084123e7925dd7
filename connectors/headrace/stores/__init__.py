"""The stores of a worker: desired state, statuses, offsets, conditions; each is an interface to a compacted log."""

from headrace.stores.conditions import ConditionStore
from headrace.stores.config_fold import DesiredState
from headrace.stores.configs import ConfigStore
from headrace.stores.log import CompactedLog, FileLog, MemoryLog
from headrace.stores.offsets import ConnectorOffsets, OffsetStore
from headrace.stores.statuses import StatusStore

__all__ = [
    "CompactedLog",
    "ConditionStore",
    "ConfigStore",
    "ConnectorOffsets",
    "DesiredState",
    "FileLog",
    "MemoryLog",
    "OffsetStore",
    "StatusStore",
]
