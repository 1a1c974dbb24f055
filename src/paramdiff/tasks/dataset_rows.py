"""From the name of a data set to its rows: a folder under ``PARAMDIFF_DATA``, any folder, or the Hub.

A folder holds parquet shards, as the Hugging Face Hub does, or an image folder (``train/CLASS/*.jpg``,
``test/CLASS/*.jpg``). Both, and the Hub, are read by the ``datasets`` library.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from paramdiff.errors import ConfigError, TaskError, near
from paramdiff.files import require_file
from paramdiff.progress import moving
from paramdiff.settings import SHARE, Ranges, check_ranges
from paramdiff.tasks.image_folders import split_folders
from paramdiff.tasks.named_datasets import NAMED_DATASETS, NAMES, short_name

HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
SECONDS_TO_REACH = 5.0
"""Seconds after which the Hub counts as unreachable."""


@dataclass
class Reading:
    """How a data set is read, where its own names do not say it.

    Attributes:
        config: configuration of the data set, where it has several.
        revision: git revision on the Hub; by default the newest when the set is first read.
        train: split of the training data, or a folder of images; by default ``train``, ``Train_png`` and the like.
        test: split of the test data; by default the first of ``test``, ``validation``, ``valid``, ``val``.
        holdout: share of each class of the training split that is set aside as the test data instead.
        image: column of the images; by default the one of that type.
        label: column of the labels; by default the one of class labels, or of integers.
        squash: resize images that are not square to a square as they are, instead of its centre.
    """

    RANGES: ClassVar[Ranges] = {"holdout": SHARE}

    config: str | None = None
    revision: str | None = None
    train: str | None = None
    test: str | None = None
    holdout: float = 0.0
    image: str | None = None
    label: str | None = None
    squash: bool = False

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.holdout and self.test:
            raise ConfigError(
                "holdout", f"{self.holdout:g} as well as test={self.test}", expected="one of them"
            )


@dataclass(frozen=True)
class DatasetLocation:
    """Where a data set is.

    Attributes:
        name: the name by which it was requested.
        short_name: its key in :data:`paramdiff.tasks.named_datasets.NAMED_DATASETS`, if it has one.
        path: a folder, or an id on the Hub.
        tried: folders that do not exist.
    """

    name: str
    short_name: str | None
    path: str
    tried: tuple[str, ...] = ()

    @property
    def local(self) -> bool:
        return Path(self.path).is_absolute()

    def roots(self) -> tuple[Path, ...]:
        """Folders that hold its images: its own, and where the library keeps what it has downloaded or unpacked."""
        import datasets
        import huggingface_hub

        config, hub = datasets.config, huggingface_hub.constants
        kept = (config.DOWNLOADED_DATASETS_PATH, config.EXTRACTED_DATASETS_PATH, hub.HF_HUB_CACHE)
        own = [self.path] if self.local else []
        return tuple(Path(folder).expanduser().absolute() for folder in (*own, *kept))

    def stamp(self) -> str:
        """A hash that changes when a file of the folder does. The Hub is not contacted: a data set there is
        identified by its id."""
        lines = [self.path]
        if self.local:
            files = sorted(p for p in Path(self.path).rglob("*") if p.is_file())
            states = [(file.relative_to(self.path).as_posix(), file.stat()) for file in files]
            lines += [f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def locate(name: str) -> DatasetLocation:
    """Where the data set called ``name`` lies: under ``PARAMDIFF_DATA``, in a folder, or on the Hub.

    The Hub is not reached for here.

    Raises:
        TaskError: it is neither a named data set, nor a folder, nor what an id on the Hub looks like.
    """
    short = short_name(name)
    folders = _folders(name, short)
    for folder in folders:
        if folder.is_dir():
            return DatasetLocation(name, short, str(folder.resolve()))
    tried = tuple(str(folder) for folder in folders)
    hub = NAMED_DATASETS[short].hub if short else name
    if not HUB_ID.fullmatch(hub):
        raise TaskError(
            f"there is no data set {name!r}{_looked(tried)}",
            expected=f"a folder, an id on the Hugging Face Hub (user/name), or one of {', '.join(NAMES)}",
            remedy=_close(name),
        )
    return DatasetLocation(name, short, hub, tried)


def _folders(name: str, short: str | None) -> list[Path]:
    """Where a folder of this name may be, in order. A named data set is not taken from the current folder."""
    ids = [name, short, NAMED_DATASETS[short].hub] if short else [name]
    names = [part for one in ids for part in (one, one.rsplit("/", 1)[-1])]
    root = os.environ.get("PARAMDIFF_DATA")
    if not root or name.startswith(("/", ".", "~")):
        names = []
    found = [Path(root or "").expanduser() / one for one in dict.fromkeys(names)]
    return found if short else [*found, Path(name).expanduser()]


def _looked(tried: tuple[str, ...]) -> str:
    return f" (looked for {', '.join(tried)})" if tried else ""


def _close(name: str) -> str:
    close = near(name, NAMES)
    return close if close.startswith("did you mean") else ""


def read_rows(place: DatasetLocation, reading: Reading, cache: Path) -> Any:
    """All splits as a ``datasets.DatasetDict``; a folder's are prepared once, under ``cache``.

    Raises:
        TaskError: ``datasets`` is not installed, the Hub cannot be reached or has no such set, or a file is
            damaged.
    """
    try:
        import datasets
    except ImportError:
        raise TaskError(
            f"reading the data set {place.name!r} needs the datasets library",
            remedy="pip install 'paramdiff[vision]'",
        ) from None
    with _quietly(datasets):
        return _read_folder(datasets, place, reading, cache) if place.local else _read_hub(place, reading)


@contextmanager
def _quietly(datasets: Any) -> Iterator[None]:
    """Inside, the library logs nothing, as errors are reported here, and shows progress bars only on a terminal."""
    hidden, level = (
        not moving() and not datasets.are_progress_bars_disabled(),
        datasets.logging.get_verbosity(),
    )
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    if hidden:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if hidden:
            datasets.enable_progress_bars()


def _read_folder(datasets: Any, place: DatasetLocation, reading: Reading, cache: Path) -> Any:
    config = reading.config
    splits = (
        None if config or place.short_name else split_folders(Path(place.path), reading.train, reading.test)
    )
    try:
        if splits:
            found = datasets.load_dataset("imagefolder", data_files=splits, cache_dir=str(cache))
            return _named_as_requested(found, reading)
        if config is None and place.short_name and NAMED_DATASETS[place.short_name].config:
            names = datasets.get_dataset_config_names(place.path)
            config = (
                NAMED_DATASETS[place.short_name].config
                if NAMED_DATASETS[place.short_name].config in names
                else None
            )
        return datasets.load_dataset(place.path, config, cache_dir=str(cache))
    except Exception as error:  # the library raises whatever its readers raise
        _find_damaged(Path(place.path))
        raise TaskError(
            f"the folder {place.path} cannot be read as a data set ({_reason(error)})",
            expected="parquet files, or an image folder such as train/CLASS/1.png and test/CLASS/2.png",
        ) from error


def _named_as_requested(found: Any, reading: Reading) -> Any:
    """Splits under the names of the folders that the user gave for them."""
    for use, asked in (("train", reading.train), ("test", reading.test)):
        if asked is not None and asked not in found and use in found:
            found[asked] = found.pop(use)
    return found


def _find_damaged(folder: Path) -> None:
    """Raise a :class:`TaskError` that names the first parquet file that cannot be read, if there is one."""
    import pyarrow
    from pyarrow import parquet

    for path in sorted(folder.rglob("*.parquet")):
        require_file(path, TaskError, "a parquet file")
        try:
            with parquet.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    file.read_row_group(group)
        except (pyarrow.ArrowException, OSError) as error:
            raise TaskError(
                f"{path} is damaged ({_reason(error)})", expected="a complete parquet file",
                remedy="copy or download it again",
            ) from None  # fmt: skip


def _read_hub(place: DatasetLocation, reading: Reading) -> Any:
    import datasets

    config = reading.config or (NAMED_DATASETS[place.short_name].config if place.short_name else None)
    reachable = _hub_reachable()
    try:
        with _offline(datasets, not reachable):
            return datasets.load_dataset(place.path, config, revision=reading.revision)
    except datasets.exceptions.DatasetNotFoundError as error:
        gated = "gated" in str(error)
        raise TaskError(
            f"the Hugging Face Hub does not give {place.path!r} ({_reason(error)})",
            remedy="ask for access on its page there and run `hf auth login`"
            if gated
            else _close(place.name),
        ) from None
    except Exception as error:
        if reachable:
            raise TaskError(
                f"the data set {place.path!r} of the Hugging Face Hub cannot be read ({_reason(error)})",
                remedy="set task.reading.config if it has several configurations, or try again",
            ) from error
        raise TaskError(
            f"the data set {place.name!r} is not on this machine{_looked(place.tried)} "
            f"and the Hugging Face Hub, where it is {place.path}, cannot be reached",
            remedy="go online, or get a copy (parquet files or an image folder) and set task.data to its path, "
            "or PARAMDIFF_DATA to the folder around it",
        ) from None


def _hub_reachable() -> bool:
    """One request without retries: the library itself would try for half a minute."""
    import huggingface_hub
    from huggingface_hub.utils import get_session

    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(huggingface_hub.constants.ENDPOINT, timeout=SECONDS_TO_REACH)
    except Exception:  # httpx or requests, as huggingface_hub has it; any of theirs means no
        return False
    return True


@contextmanager
def _offline(datasets: Any, offline: bool) -> Iterator[None]:
    """Inside, the library takes what it has downloaded before and does not try to reach the Hub."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or offline
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _reason(error: BaseException) -> str:
    """The first line of the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
