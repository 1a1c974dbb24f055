"""Ways to make a zoo from a task: one training, many trainings, somebody else's checkpoints."""

from paramdiff.collectors.checkpoints import CheckpointCollector
from paramdiff.collectors.collector import Collector
from paramdiff.collectors.optimisation import TrainingConfig
from paramdiff.collectors.seeds import SeedCollector
from paramdiff.collectors.trajectory import TrajectoryCollector

COLLECTORS: dict[str, type[Collector]] = {
    way.way: way for way in (TrajectoryCollector, SeedCollector, CheckpointCollector)
}
"""Options of the configuration group ``zoo``."""

__all__ = [
    "COLLECTORS",
    "CheckpointCollector",
    "Collector",
    "SeedCollector",
    "TrainingConfig",
    "TrajectoryCollector",
]
