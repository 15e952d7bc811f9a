"""An executable Amazon Aurora: the log is the database, six segments, a 4/6 write quorum."""

from aurora.cluster import Cluster, open_cluster
from aurora.commit_queue import Commit
from aurora.config import ClusterConfig, EngineConfig, RouterConfig
from aurora.engine import Engine, EngineStatistics, ReadView
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
    VolumeLocked,
    VolumeRolledBack,
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
    "SegmentStatus",
    "StorageFailed",
    "StorageForbidden",
    "StorageFull",
    "Unavailable",
    "VolumeLocked",
    "VolumeRolledBack",
    "WaitKind",
    "Waiting",
    "__version__",
    "open_cluster",
]
