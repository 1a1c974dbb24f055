"""A zoo on disk: ``vectors.safetensors`` (V, memory-mapped when read), ``base.safetensors`` (a complete state dict of
the network: the frozen rest, and one member's values in the generated places) and ``manifest.json`` (the spec, a
record per member, where it came from, and a hash of each file).
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from torch import Tensor

from paramdiff.artefacts import ArtefactFolder, sha256
from paramdiff.atomic import settle
from paramdiff.errors import CheckpointError, ZooError
from paramdiff.files import about as header
from paramdiff.files import load_tensors, read_json, save_tensors, write_json
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.validation import typed
from paramdiff.zoo.records import Parts, Record

SCHEMA = 1

FILES = ("vectors", "base")
"""Names of a saved zoo's safetensors files."""

FOLDER = ArtefactFolder(
    "saved zoo", "manifest.json", ("schema", "spec", "records"), [f"{name}.safetensors" for name in FILES], ZooError,
    beside=["README.md"],
)  # fmt: skip
"""What saving a zoo may replace."""

AGAIN = "copy the zoo again from where it came from, or collect or import it again"


class Scores(TypedDict):
    """Scores of midpoints, beside those of the members between which they lie."""

    members: float | None
    midpoints: float | None
    barrier: float | None
    one_basin: bool | None


class Alignment(TypedDict):
    groups: int
    of: int
    before: Scores | None
    after: Scores | None


class About(TypedDict, total=False):
    """What is in ``Zoo.about`` under names of ours."""

    collector: str | None
    trajectory: bool | int | None
    notes: list[str]
    source: str | None
    aligned: Alignment | None


class Manifest(TypedDict):
    """``manifest.json`` of a saved zoo."""

    schema: int
    k: NotRequired[int]
    dim: NotRequired[int]
    spec: dict[str, Any]
    about: About
    records: list[Record]
    sha256: NotRequired[dict[str, str]]


def is_saved_zoo(folder: Path) -> bool:
    """Whether a folder is a saved zoo, even one whose manifest is lost or damaged: loading it says what to do."""
    if all((folder / part).is_file() for part in FOLDER.parts):
        return True
    manifest = folder / FOLDER.marker
    try:
        facts = read_json(manifest) if manifest.is_file() else None
    except CheckpointError:
        return any((folder / part).is_file() for part in FOLDER.parts)
    return isinstance(facts, dict) and "spec" in facts


def save_zoo(folder: Path | str, zoo: Parts) -> None:
    """Write a zoo as a folder, atomically; an older zoo there is replaced only at the end.

    Raises:
        ZooError: there is anything but a saved zoo.
        DiskError: the disk is full or not writable.
    """
    spec = zoo.spec.to_json()
    with FOLDER.writing(folder) as partial:
        rows = header(FOLDER.says("one row a member"), spec=spec)
        save_tensors(partial / "vectors.safetensors", {"vectors": zoo.vectors}, rows)
        save_tensors(partial / "base.safetensors", zoo.base, header(FOLDER.says("a complete state dict")))
        hashes = {name: sha256(partial / f"{name}.safetensors") for name in FILES}
        manifest = {
            "schema": SCHEMA, "k": len(zoo.vectors), "dim": zoo.spec.dim, "spec": spec,
            "about": _encodable(zoo.about), "records": [_to_json(record) for record in zoo.records],
        }  # fmt: skip
        hashes["manifest"] = _digest(manifest)
        write_json(partial / "manifest.json", manifest | {"sha256": hashes})


def load_zoo(folder: Path | str) -> Parts:
    """Read a saved zoo; the matrix stays on disk until it is used.

    Raises:
        CheckpointError: a file is missing, truncated or not what its name says.
        ZooError: the folder was written by another version, or its parts do not fit together.
    """
    folder = Path(folder)
    settle(folder.parent)
    manifest = _read_manifest(folder)
    spec = ParameterSpec.from_json(manifest["spec"], f"{folder / 'manifest.json'}: spec")
    vectors = load_tensors(folder / "vectors.safetensors").get("vectors")
    base = load_tensors(folder / "base.safetensors")
    if vectors is None or not vectors.is_floating_point():
        raise _damaged(folder, "vectors.safetensors holds no matrix of parameters")
    if vectors.ndim != 2 or vectors.shape[1] != spec.dim:
        raise _damaged(folder, f"a matrix of shape {list(vectors.shape)} for D = {spec.dim} parameters")
    if len(manifest["records"]) != len(vectors):
        raise _damaged(folder, f"{len(manifest['records'])} records of {len(vectors)} members")
    _require_complete(base, spec, folder)
    return Parts(vectors, spec, base, manifest["records"], manifest["about"])


def verify_zoo(folder: Path | str) -> None:
    """Check that a saved zoo is what was saved, bit by bit, its manifest included; reads all of it.

    Zoos that older versions saved have no hash of their manifest; their tensors are checked.

    Raises:
        CheckpointError: a file is missing, damaged or was exchanged; names it.
    """
    manifest = read_json(Path(folder) / "manifest.json")
    hashes = manifest.get("sha256") if isinstance(manifest, dict) else None
    hashes = hashes if isinstance(hashes, dict) else {}
    for name in FILES:
        file = Path(folder) / f"{name}.safetensors"
        if not file.is_file():
            raise CheckpointError(f"{file} does not exist", expected="a safetensors file")
        if sha256(file) != hashes.get(name):
            raise _exchanged(file)
    own = {key: value for key, value in manifest.items() if key != "sha256"}
    if "manifest" in hashes and hashes["manifest"] != _digest(own):
        raise _exchanged(Path(folder) / "manifest.json")


def _require_complete(base: Mapping[str, Tensor], spec: ParameterSpec, folder: Path) -> None:
    for tensor in spec.tensors:
        for key in (tensor.name, *tensor.aliases):
            if key not in base or base[key].shape != tensor.shape:
                raise _damaged(folder, f"base.safetensors has no {key} of shape {list(tensor.shape)}")


def _digest(manifest: Mapping[str, Any]) -> str:
    """Hash of what a manifest says, however it is laid out."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _exchanged(file: Path) -> CheckpointError:
    return CheckpointError(f"{file} is not the file that was saved", expected="the sha256 in manifest.json",
                           remedy=AGAIN)  # fmt: skip


def _damaged(folder: Path, why: str) -> ZooError:
    return ZooError(f"{folder} is a damaged zoo ({why})", remedy=AGAIN)


def _read_manifest(folder: Path) -> Manifest:
    """``manifest.json`` with the types of :class:`Manifest`; its spec is still a dictionary."""
    path = folder / "manifest.json"
    try:
        manifest = read_json(path)
    except CheckpointError as error:
        there = any((folder / part).exists() for part in FOLDER.parts)
        raise CheckpointError(error.came, expected=error.expected, remedy=AGAIN if there else "") from None
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema != SCHEMA:
        raise ZooError(f"{folder} has zoo schema {str(schema)[:20]}", expected=f"{SCHEMA}",
                       remedy="read it with the version of paramdiff that wrote it")  # fmt: skip
    try:
        return typed(_with_new_names(manifest), Manifest, "manifest.json")
    except CheckpointError as error:
        raise _damaged(folder, f"{error.came}, not {error.expected}") from None


def _with_new_names(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest whose facts have the present names: ``collector`` was called ``way``."""
    facts = manifest.get("about")
    if not isinstance(facts, dict) or "way" not in facts:
        return manifest
    renamed = {"collector" if name == "way" else name: value for name, value in facts.items()}
    return manifest | {"about": renamed}


def _to_json(record: Record) -> dict[str, Any]:
    """A record with its finite scores: a diverged member must not make the zoo unsaveable."""
    finite = {name: value for name, value in record.scores.items() if math.isfinite(value)}
    return _encodable(asdict(record) | {"scores": finite})


def _encodable(facts: Mapping[str, Any]) -> dict[str, Any]:
    """With a ``source`` that is valid text: names of files need not be."""
    source = facts.get("source")
    if not isinstance(source, str):
        return dict(facts)
    return {**facts, "source": source.encode("utf-8", "replace").decode()}
