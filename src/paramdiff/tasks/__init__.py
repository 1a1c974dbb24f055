"""Tasks: the protocol, and those that come with the package."""

from paramdiff.tasks.configuration import CONFIGS, make_task

__all__ = ["CONFIGS", "make_task"]
