"""Tasks: the protocol, and those that come with the package."""

from paramdiff.tasks.configuration import make_task
from paramdiff.tasks.task import TASKS

__all__ = ["TASKS", "make_task"]
