"""Other settings in a folder that holds a run: what they affect is redone, the rest is kept, and a message lists both.

Stages depend on each other through files (:mod:`paramdiff.runs.run_folder`), so what has to be redone follows from
them: a stage whose settings or files are not what they were, and every stage that needs a file of such a stage.
Settings that leave the zoo and the fit of the main generator as they are may change freely. Anything else is another
run, whose results would take the place of these: that needs ``force``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from paramdiff.errors import RunFolderError, few
from paramdiff.runs.manifest import Stage
from paramdiff.runs.run_folder import RunFolder

MAIN = ""
"""Owner of the stages that belong to no baseline."""

ALWAYS = ("results", "report")
"""Stages that take a moment, which no message lists."""

NAMED = 4
"""Keys and baselines that a message names."""


@dataclass(frozen=True)
class ChangedStages:
    """What other settings do to the stages that a folder has.

    Attributes:
        redone, kept: names of the stages that were done and are part of the run.
        new, gone: baselines that were no part of it, and that are no longer.
    """

    redone: list[str]
    kept: list[str]
    new: list[str]
    gone: list[str]

    @classmethod
    def of(cls, folder: RunFolder, stages: Sequence[Stage]) -> "ChangedStages":
        """From the stages of a run, in their order."""
        lost: set[str] = set()
        redone, kept = [], []
        for stage in stages:
            if stage.name not in folder.done:
                continue
            if lost.intersection(stage.needs) or not folder.is_current(stage):
                lost.update(stage.makes)
                redone.append(stage.name)
            else:
                kept.append(stage.name)
        was, now = _owners(folder.done), _owners(stage.name for stage in stages)
        compared = was != [MAIN]  # else every baseline would be new
        return cls(
            redone,
            kept,
            [o for o in now if o not in was] if compared else [],
            [o for o in was if o not in now],
        )

    def __str__(self) -> str:
        said = {"redone": _listed(self.redone), "kept": _listed(self.kept)}
        said |= {"new": few(self.new, NAMED), "left out": few(self.gone, NAMED)}
        return "; ".join(f"{what}: {text}" for what, text in said.items() if text)


def refusal(folder: Path, keys: Sequence[str], outlook: ChangedStages) -> RunFolderError:
    """The error for settings that make it another run."""
    what = f"redoes {_listed(outlook.redone) or 'nothing'} and keeps {_listed(outlook.kept) or 'nothing'}"
    return RunFolderError(
        f"{folder} was made by another configuration (it differs in {few(keys, NAMED)})",
        remedy=f"choose another run_dir; or add force=true, which {what}",
    )


def announcement(keys: Sequence[str], outlook: ChangedStages) -> str:
    """The message for settings that may change."""
    return f"  other settings than before ({few(keys, NAMED)}); {outlook}"


def _listed(names: Iterable[str]) -> str:
    """``sample, score; of gaussian, noised-0.3: sample, score``."""
    steps: dict[str, list[str]] = {}
    for name in names:
        owner, step = _place(name)
        if step not in ALWAYS:
            steps.setdefault(owner, []).append(step)
    own = ", ".join(dict.fromkeys(steps.pop(MAIN, [])))
    alike: dict[str, list[str]] = {}
    for owner, each in steps.items():
        alike.setdefault(", ".join(each), []).append(owner)
    return "; ".join(
        [*([own] if own else []), *(f"of {few(who, NAMED)}: {what}" for what, who in alike.items())]
    )


def _owners(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([MAIN, *(_place(name)[0] for name in names)]))


def _place(name: str) -> tuple[str, str]:
    """Owner and step of a stage: ``compare:gaussian:fit`` -> ``gaussian``, ``fit``."""
    group, _, rest = name.partition(":")
    if group == "compare" and rest != "latents:map":
        owner, _, step = rest.partition(":")
        return owner, step or "score"
    if rest.startswith("original"):
        return MAIN, "score of the originals"
    return MAIN, "map of latents" if group == "compare" else group
