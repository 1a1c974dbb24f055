"""Make a task from its settings or its name.

Built-in data sets, ``package.module:attr`` for a user's own, and tasks that installed packages offer
under the entry point group ``paramdiff.tasks``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from paramdiff.errors import TaskError
from paramdiff.tasks.classification import Images, ImageTask
from paramdiff.tasks.named_datasets import NAMED_DATASETS, short_name
from paramdiff.tasks.plugins import load_attribute, load_entry_point, made
from paramdiff.tasks.task import Task, require_scores

GROUP = "paramdiff.tasks"
"""Entry point group in which other packages offer tasks."""


@runtime_checkable
class TaskSettings(Protocol):
    def make(self) -> Task: ...


@dataclass
class OwnTask:
    """Settings of a user's own task.

    Attributes:
        name: ``package.module:attr`` (a Task class, an instance, or a function that returns one) or
            the name of an entry point.
        options: keyword arguments for the class or function.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def make(self) -> Task:
        """The task.

        Raises:
            TaskError: it cannot be found or made, or is not a Task.
        """
        own = ":" in self.name
        found = load_attribute(self.name) if own else load_entry_point(GROUP, self.name, [*CONFIGS])
        if isinstance(found, Task) and not self.options:
            return found
        task = _call(self.name, found, self.options)
        if task.name == Task.name:  # it does not say how it is called
            task.name = self.name.rpartition(":")[2]
        return task


def _call(name: str, build: Any, options: Mapping[str, Any]) -> Task:
    if not callable(build):
        without = f", called with the options {dict(options)}" if options else ""
        raise TaskError(
            f"{name!r} is a {type(build).__name__}{without}",
            expected="a paramdiff Task class, a function that returns a Task, or an instance without options",
        )
    remedy = "set task.options to what it takes and implement every abstract method of Task"
    task = made(repr(name), build, options, remedy)
    if not isinstance(task, Task):
        raise TaskError(f"{name!r} returned a {type(task).__name__}", expected="a paramdiff Task")
    require_scores(task)
    return task


CONFIGS: dict[str, Any] = {
    "digits": ImageTask,
    **{
        name: ImageTask(data=name, batch_size=128, augment=entry.augment)
        for name, entry in NAMED_DATASETS.items()
    },
    "images": Images,
    "own": OwnTask,
}
"""Options of the configuration group ``task``: a class of settings, or settings."""


def make_task(task: str | TaskSettings) -> Task:
    """The task behind settings or a name.

    A name is a named data set, a folder or an id on the Hub (with a slash), ``package.module:attr``, or an entry
    point.

    Raises:
        TaskError: it cannot be found or made, or is not a Task.
    """
    if isinstance(task, str):
        task = _settings(task)
    return task.make()


def _settings(name: str) -> TaskSettings:
    if name == "digits":
        return ImageTask()
    if short := short_name(name):
        return CONFIGS[short]
    return Images(name) if "/" in name and ":" not in name else OwnTask(name)
