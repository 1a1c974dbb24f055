"""A zoo on the Hugging Face Hub: a data set of the files that :meth:`paramdiff.zoo.zoo.Zoo.save` writes, and a card.

What is meaningful only on the author's machine, such as the folder that checkpoints were read from, is left out.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from paramdiff.files import write_text
from paramdiff.hub.cards import CardOptions, ZooInfo, zoo_card
from paramdiff.zoo.records import Parts, Record
from paramdiff.zoo.storage import FILES, FOLDER, save_zoo

CARD = "README.md"
NEEDED, OPTIONAL = ("manifest.json", *(f"{name}.safetensors" for name in FILES)), (CARD,)
"""Files of a zoo on the Hub."""


def write(folder: Path | str, zoo: Parts, options: CardOptions, card: str | None = None) -> None:
    """Write a zoo and its card, atomically.

    Args:
        folder: new, empty, or of a saved zoo.
        zoo: K members.
        options: for the card.
        card: one to take as it is.

    Raises:
        ZooError: there is anything but a saved zoo.
        DiskError: the disk is full or not writable.
    """
    with FOLDER.writing(folder) as partial:
        save_zoo(partial, shareable(zoo))
        write_text(partial / CARD, card if card is not None else zoo_card(_facts(zoo), options))


def shareable(zoo: Parts) -> Parts:
    """The zoo without paths of this machine: of those in its facts the last name stays."""
    records = [replace(record, path=None) for record in zoo.records]
    return zoo._replace(records=records, about=_without_paths(zoo.about))


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_paths(item) for item in value]
    return PurePath(value).name if isinstance(value, str) and value.startswith(("/", "~")) else value


def _facts(zoo: Parts) -> ZooInfo:
    """The facts for its card."""
    size = sum(tensor.numel() for tensor in zoo.base.values())
    return ZooInfo(
        len(zoo.vectors),
        zoo.spec.dim,
        zoo.spec.names,
        str(zoo.spec.select),
        size,
        _origin(shareable(zoo)),
        _scores(zoo.records),
    )


def _origin(zoo: Parts) -> list[tuple[str, str]]:
    """Where it comes from, as (what, in words)."""
    about = zoo.about
    task = about.get("task")
    named = {
        "collector": about.get("collector"),
        "task": task.get("name") or task.get("data") or task.get("kind") if isinstance(task, dict) else task,
        "source": about.get("source"),
        "order": "consecutive steps of one training"
        if about.get("trajectory")
        else "members of no particular order",
    }
    notes = about.get("notes") or []
    return [(what, str(text)) for what, text in named.items() if text] + [
        ("note", str(note)) for note in notes
    ]


def _scores(records: Sequence[Record]) -> dict[str, list[float]]:
    names = dict.fromkeys(name for record in records for name in record.scores)
    return {name: [record.scores[name] for record in records if name in record.scores] for name in names}
