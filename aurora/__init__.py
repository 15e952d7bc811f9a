"""An executable Amazon Aurora: the log is the database, six segments, a 4/6 write quorum."""

from aurora.cluster import Cluster, open_cluster
from aurora.commit_queue import Commit
from aurora.config import ClusterConfig, EngineConfig
from aurora.engine import Engine, EngineStatistics, ReadView
from aurora.mtr import MiniTransaction
from segments.config import SegmentConfig
from segments.protocol.errors import (
    AuroraError,
    Closed,
    Corrupt,
    Fenced,
    Invalid,
    InvalidConfig,
    InvalidLsn,
    InvalidPage,
    InvalidTarget,
    InvalidWrite,
    NotFound,
    OutsideTrio,
    PageNotFound,
    ReadPointAboveVdl,
    ReadPointBelowFloor,
    SegmentLost,
    Unavailable,
    VolumeLocked,
)
from segments.protocol.record import PAGE_SIZE

__version__ = "0.1.0"
"""The version of the whole project; packaging reads it here."""

__all__ = [
    "PAGE_SIZE",
    "AuroraError",
    "Closed",
    "Cluster",
    "ClusterConfig",
    "Commit",
    "Corrupt",
    "Engine",
    "EngineConfig",
    "EngineStatistics",
    "Fenced",
    "Invalid",
    "InvalidConfig",
    "InvalidLsn",
    "InvalidPage",
    "InvalidTarget",
    "InvalidWrite",
    "MiniTransaction",
    "NotFound",
    "OutsideTrio",
    "PageNotFound",
    "ReadPointAboveVdl",
    "ReadPointBelowFloor",
    "ReadView",
    "SegmentConfig",
    "SegmentLost",
    "Unavailable",
    "VolumeLocked",
    "__version__",
    "open_cluster",
]
