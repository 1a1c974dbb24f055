"""Which folders a run folder may replace: nothing that is not ours is ever removed."""

from pathlib import Path

from paramdiff.artefacts import LITTER
from paramdiff.atomic import LEFT
from paramdiff.errors import RunFolderError
from paramdiff.reports.schema import read_manifest

HOLDS = {
    "manifest.json", "config.yaml", "zoo", "generator", "samples", "baselines", "scores", "evaluation", "study",
    "stats.jsonl", "results.json", "report.html", "figures", "sweep", "sweep.json", "bill", ".lock", ".state", *LITTER,
}  # fmt: skip
"""All that a run folder may hold; ``study`` is what the version before called ``evaluation``."""


def require_replaceable(folder: Path) -> None:
    """Raise unless ``folder`` is new, empty, or a run folder with nothing else in it.

    Raises:
        RunFolderError: it is a file, or holds something that is not ours.
        CheckpointError: it is a run folder whose manifest is damaged.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise _irreplaceable(f"{folder} is a file")
    names = sorted(path.name for path in folder.iterdir() if not LEFT.fullmatch(path.name))
    strange = [name for name in names if name not in HOLDS]
    if strange:
        raise _irreplaceable(f"{folder} holds {strange[0]}, and saving would remove it")
    if set(names) - set(LITTER):
        _require_run_folder(folder)


def _require_run_folder(folder: Path) -> None:
    if not (folder / "manifest.json").is_file():
        raise _irreplaceable(f"{folder} is not empty and no run folder")
    read_manifest(folder / "manifest.json")


def _irreplaceable(came: str) -> RunFolderError:
    return RunFolderError(
        came, expected="a new or empty folder, or a run folder to replace", remedy="choose another folder"
    )
