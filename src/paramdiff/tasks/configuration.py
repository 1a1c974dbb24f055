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
from paramdiff.tasks.task import TASKS, Task, register, require_scores


@runtime_checkable
class TaskSettings(Protocol):
    def make(self) -> Task: ...


@register("own", "a Task class or function of your own, or of an installed package")
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
        found = load_attribute(self.name) if own else load_entry_point(TASKS.group, self.name, [*TASKS.known])
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


def ready(data: str) -> ImageTask:
    """The task of a ready data set."""
    return ImageTask(data=data, batch_size=128, augment=NAMED_DATASETS[data].augment)


register("mnist", "handwritten digits")(ready("mnist"))
register("fashion_mnist", "pieces of clothing")(ready("fashion_mnist"))
register("cifar10", "small photographs of 10 kinds")(ready("cifar10"))
register("cifar100", "small photographs of 100 kinds")(ready("cifar100"))
register("svhn", "digits of house numbers")(ready("svhn"))
register("stl10", "photographs of 10 kinds, few of them labelled")(ready("stl10"))
register("flowers102", "flowers")(ready("flowers102"))
register("pets", "breeds of cats and dogs")(ready("pets"))
register("food101", "dishes")(ready("food101"))
register("imagenet1k", "photographs of 1,000 kinds")(ready("imagenet1k"))


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
    if known := short_name(name):
        return TASKS[known]
    return Images(name) if "/" in name and ":" not in name else OwnTask(name)
