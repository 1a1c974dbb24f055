"""A fitted generator on disk, with or without the network it was fitted for.

A folder holds ``config.json`` (which generator it is, by its registered name, its settings and what it noted while
fitting) and ``model.safetensors`` (the normaliser, what was learnt, the losses and, where it is to be used without the
zoo, the network: the spec and the frozen rest). A model card, ``README.md``, may lie beside them. Run folders hold
generators without their network, as it is in ``zoo/`` already.

The version before wrote ``generator.json`` and ``state.safetensors``, and called the note ``reconstruction_check``
``gate``; both are still read.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from paramdiff import __version__
from paramdiff.artefacts import ArtefactFolder
from paramdiff.atomic import settle
from paramdiff.errors import CheckpointError, ConfigError, GeneratorError, near
from paramdiff.files import load_metadata, load_state, read_json, save_state, write_json, write_text
from paramdiff.hub.cards import CardOptions, GeneratorInfo, generator_card
from paramdiff.parameters.network import Network
from paramdiff.parameters.normaliser import Normaliser
from paramdiff.registry import Registry
from paramdiff.settings import make_parts
from paramdiff.validation import typed

LIBRARY = "paramdiff"
FORMAT = 2
"""Of ``config.json``; 1 is what the version before wrote."""

CONFIG, MODEL, CARD = "config.json", "model.safetensors", "README.md"
CONFIG_BEFORE, STATE_BEFORE = "generator.json", "state.safetensors"
NOTES_BEFORE = {"gate": "reconstruction_check"}
"""Names of notes that were renamed, and their present ones."""

NEEDED, OPTIONAL = (CONFIG, MODEL), (CARD,)
"""Files of a generator on the Hub."""

FOLDER = ArtefactFolder(
    "saved generator", CONFIG, ("library_name", "generator", "settings"), [MODEL, STATE_BEFORE], GeneratorError,
    beside=[CARD], older={CONFIG_BEFORE: ("generator", "settings")},
)  # fmt: skip
"""What :func:`write` may replace."""


class Config(TypedDict):
    """``config.json``."""

    library_name: NotRequired[str]
    version: NotRequired[str]
    format: NotRequired[int]
    generator: str
    settings: dict[str, Any]
    notes: dict[str, Any]


class State(TypedDict):
    """What ``model.safetensors`` holds; what is learnt, each generator knows itself."""

    normaliser: dict[str, Any]
    learnt: dict[str, Any]
    losses: dict[str, list[float]]
    network: NotRequired[dict[str, Any] | None]


DAMAGE = (CheckpointError, KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError)
"""Errors of a state that does not belong to the settings: tensors missing, or of other shapes or types."""


@dataclass(frozen=True)
class Saved:
    """A fitted generator as plain values.

    Attributes:
        name: under which its class is registered.
        settings: its hyper-parameters.
        notes: what it found out while fitting.
        learnt: nested dictionaries of tensors and JSON values.
        losses: of its trainings, by name.
        network: None if it was saved without.
    """

    name: str
    settings: Mapping[str, Any]
    notes: dict[str, Any]
    normaliser: Normaliser
    learnt: Mapping[str, Any]
    losses: dict[str, list[float]]
    network: Network | None


def saved(generator: Any) -> Saved:
    """All that is kept of a :class:`~paramdiff.generators.generator.Generator`.

    Raises:
        GeneratorError: not fitted.
    """
    if generator.normaliser is None:
        raise GeneratorError(f"{generator.name} is not fitted", remedy="call fit(zoo) before save")
    return Saved(
        generator.name, asdict(generator), generator.notes, generator.normaliser, generator._state(),
        generator.losses, generator.network,
    )  # fmt: skip


def require_network(name: str, network: Network | None) -> Network:
    """The network of a generator of that name; raises :class:`GeneratorError` if it was loaded without."""
    if network is None:
        raise GeneratorError(f"this {name} was loaded without its network",
                             remedy="load it with the zoo it was fitted to: Generator.load(folder, zoo)")  # fmt: skip
    return network


def without_network(generator: Any) -> Saved:
    """The same for a folder that lies beside the zoo."""
    return replace(saved(generator), network=None)


def write_with_card(
    generator: Any, folder: Path | str, options: CardOptions, card: str | None,
    results: Mapping[str, Any] | None, row: str | None,
) -> None:  # fmt: skip
    """Write a generator with its network and a model card, made of ``results`` if there is none.

    Raises:
        GeneratorError: as :func:`write`, or it is not fitted or without its network.
        DiskError: as :func:`write`.
    """
    whole = saved(generator)
    network = require_network(whole.name, whole.network)
    facts = GeneratorInfo(
        whole.name, generator.label, network.spec.dim, network.spec.names, network.size, generator.asks, row
    )
    write(folder, whole, card if card is not None else generator_card(facts, options, results))


def write(folder: Path | str, saved: Saved, card: str | None = None) -> None:
    """Write a generator's folder, atomically, with a model card if there is one.

    Raises:
        GeneratorError: there is anything but a saved generator.
        DiskError: the disk is full or not writable.
    """
    with FOLDER.writing(folder) as partial:
        about = {"library_name": LIBRARY, "version": __version__, "format": FORMAT}
        settings = {"generator": saved.name, "settings": saved.settings, "notes": saved.notes}
        write_json(partial / CONFIG, about | settings)
        state = {
            "normaliser": saved.normaliser.state_dict(), "learnt": saved.learnt, "losses": saved.losses,
            "network": saved.network.stored() if saved.network else None,
        }  # fmt: skip
        save_state(partial / MODEL, state, FOLDER.says("what it learnt"))
        if card is not None:
            write_text(partial / CARD, card)


def read(folder: Path | str) -> Saved:
    """Inverse of :func:`write`.

    Raises:
        GeneratorError: it is damaged, or of another version or another library.
        CheckpointError: a file is missing or truncated.
    """
    folder = Path(folder)
    settle(folder.parent)
    before = not (folder / CONFIG).exists() and (folder / CONFIG_BEFORE).exists()
    config_name, state_name = (CONFIG_BEFORE, STATE_BEFORE) if before else (CONFIG, MODEL)
    config = read_json(folder / config_name)
    if not before:
        _require_ours(config, folder)
    load_metadata(folder / state_name)  # complete at least
    with damage_named(folder):
        known = typed(config, Config, config_name)
        return _saved(known, typed(load_state(folder / state_name), State, state_name))


def load(folder: Path | str, known: Registry[Any]) -> Any:
    """The generator that was saved, as it was learnt.

    Args:
        known: classes by name.

    Raises:
        GeneratorError, CheckpointError: as :func:`read`, or it is of no known class.
        ConfigError: settings this version does not know.
    """
    found = read(folder)
    with damage_named(folder):
        kind = _kind(found.name[:40], known, folder)
        settings = kind.upgraded(found.settings)
        generator = kind(**make_parts(kind, settings))
        if is_dataclass(generator):
            typed(settings, kind, "settings")
        generator.losses, generator.notes, generator._network = found.losses, found.notes, found.network
        generator._restore(found.learnt)
        generator.normaliser = found.normaliser
    return generator


def _kind(name: str, known: Registry[Any], folder: Path | str) -> Any:
    try:
        return known[name]
    except ConfigError:
        raise GeneratorError(f"{folder} holds a generator {name!r}", remedy=near(name, known.all())) from None


@contextmanager
def damage_named(folder: Path | str) -> Iterator[None]:
    """What does not fit together inside becomes one :class:`GeneratorError` that names the folder."""
    try:
        yield
    except DAMAGE as error:
        raise GeneratorError(f"{folder} is a damaged generator ({type(error).__name__}: {error})",
                             remedy="fit it again") from None  # fmt: skip


def _require_ours(config: Any, folder: Path) -> None:
    library = config.get("library_name") if isinstance(config, dict) else None
    if library != LIBRARY:
        raise GeneratorError(f"{folder / CONFIG} names the library {str(library)[:40]!r}",
                             expected="a generator that paramdiff saved")  # fmt: skip
    if (found := config.get("format")) != FORMAT:
        raise GeneratorError(f"{folder} is a generator of format {str(found)[:20]}", expected=f"{FORMAT}",
                             remedy="read it with the version of paramdiff that wrote it")  # fmt: skip


def _saved(config: Config, state: State) -> Saved:
    network, normaliser = state.get("network"), Normaliser.from_state(state["normaliser"])
    whole = None if network is None else Network.restored(network, f"{MODEL}: network")
    if whole and any(len(part) != whole.spec.dim for part in normaliser.state_dict().values()):
        raise CheckpointError(f"{MODEL} has statistics of {len(normaliser.mean)} parameters",
                              expected=f"D = {whole.spec.dim}")  # fmt: skip
    notes = {NOTES_BEFORE.get(name, name): note for name, note in config["notes"].items()}
    return Saved(config["generator"], config["settings"], notes, normaliser, state["learnt"], state["losses"],
                 whole)  # fmt: skip
