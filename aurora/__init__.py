"""An executable Amazon Aurora: the log is the database, six segments, a 4/6 write quorum."""

from aurora.cloning import Clone
from aurora.cluster import Cluster, open_cluster
from aurora.commit_queue import Commit
from aurora.config import ClusterConfig, EngineConfig, RouterConfig
from aurora.engine import Engine, EngineStatistics, ReadView
from aurora.floor import FloorHold, FloorHolder
from aurora.health import (
    Going,
    GroupHealth,
    HealthReport,
    SegmentHealth,
    SegmentStatus,
    Waiting,
    WaitKind,
)
from aurora.mtr import MiniTransaction
from aurora.volume_statistics import VolumeStatistics
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
    LsnsExhausted,
    NotFound,
    NotOpened,
    NotShareable,
    OtherFormat,
    OutsideTrio,
    PageNotFound,
    ReadOnly,
    ReadPointAboveVdl,
    ReadPointBelowFloor,
    SegmentLost,
    StorageFailed,
    StorageForbidden,
    StorageFull,
    Unavailable,
    VolumeFull,
    VolumeLocked,
    VolumeRolledBack,
)
from segments.protocol.record import PAGE_SIZE
from segments.statistics import CacheStatistics, SegmentStatistics, TierStatistics

__version__ = "0.1.0"
"""The version of the whole project; packaging reads it here."""

__all__ = [
    "PAGE_SIZE",
    "AuroraError",
    "CacheStatistics",
    "Clone",
    "Closed",
    "Cluster",
    "ClusterConfig",
    "Commit",
    "Corrupt",
    "Engine",
    "EngineConfig",
    "EngineStatistics",
    "Fenced",
    "FloorHold",
    "FloorHolder",
    "Going",
    "GroupHealth",
    "HealthReport",
    "Invalid",
    "InvalidConfig",
    "InvalidLsn",
    "InvalidPage",
    "InvalidTarget",
    "InvalidWrite",
    "LsnsExhausted",
    "MiniTransaction",
    "NotFound",
    "NotOpened",
    "NotShareable",
    "OtherFormat",
    "OutsideTrio",
    "PageNotFound",
    "ReadOnly",
    "ReadPointAboveVdl",
    "ReadPointBelowFloor",
    "ReadView",
    "RouterConfig",
    "SegmentConfig",
    "SegmentHealth",
    "SegmentLost",
    "SegmentStatistics",
    "SegmentStatus",
    "StorageFailed",
    "StorageForbidden",
    "StorageFull",
    "TierStatistics",
    "Unavailable",
    "VolumeFull",
    "VolumeLocked",
    "VolumeRolledBack",
    "VolumeStatistics",
    "WaitKind",
    "Waiting",
    "__version__",
    "open_cluster",
]
