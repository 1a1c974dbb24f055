"""Collectors make a zoo from a task: by one training, by many trainings, or from checkpoints that are there."""

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
