"""Ways to make a zoo from a task: one training, many trainings, somebody else's checkpoints."""

from paramdiff.collect.base import Way
from paramdiff.collect.ensemble import Seeds
from paramdiff.collect.imported import Import
from paramdiff.collect.optimisation import TrainingConfig
from paramdiff.collect.trajectory import Subset

WAYS: dict[str, type[Way]] = {way.way: way for way in (Subset, Seeds, Import)}
"""Options of the configuration group ``zoo``."""

__all__ = ["WAYS", "Import", "Seeds", "Subset", "TrainingConfig", "Way"]
