"""Ways to make a zoo from a task: one training, many trainings, somebody else's checkpoints."""

from paramdiff.collectors.checkpoints import CheckpointCollector
from paramdiff.collectors.collector import COLLECTORS, Collector
from paramdiff.collectors.optimisation import TrainingConfig
from paramdiff.collectors.seeds import SeedCollector
from paramdiff.collectors.trajectory import TrajectoryCollector

__all__ = [
    "COLLECTORS",
    "CheckpointCollector",
    "Collector",
    "SeedCollector",
    "TrainingConfig",
    "TrajectoryCollector",
]
