"""What a network is for: the protocol and the tasks that come with the package."""

from paramdiff.tasks.catalogue import CONFIGS, KINDS, make_task

__all__ = ["CONFIGS", "KINDS", "make_task"]
