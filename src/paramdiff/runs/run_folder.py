"""The run folder: what is finished, from which inputs, and whether it may go on.

``manifest.json`` records for every stage a fingerprint of its settings and of the files it was made
from, with the hashes of the files it made. A stage whose fingerprint is unchanged and whose files are
there is skipped; anything else is done again. Stages write atomically, so a kill leaves either all of
a stage's files or none, and its resumable state.

Runs of one sweep share what they have in common: a stage that an earlier run of it did with the same
fingerprint is copied (linked where the file system can), with the time it took there.

Of several ranks (:mod:`paramdiff.distributed`) the first decides what is to be done, writes the folder and keeps its
manifest; the others take part in the work of stages that are shared, and do stages that need nothing of each other.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from paramdiff import tracking
from paramdiff.artefacts import copy, sha256
from paramdiff.atomic import disk_error
from paramdiff.distributed import (
    all_gather,
    broadcast,
    is_main_process,
    launched_rank,
    local_items,
    on_main_process,
    this_process_only,
)
from paramdiff.errors import CheckpointError, RunFolderError
from paramdiff.files import read_json, write_json, write_text
from paramdiff.generators.saving import FOLDER as GENERATOR
from paramdiff.progress import say
from paramdiff.reports.schema import adopt, place, read_file, read_manifest
from paramdiff.runs.environment import environment, peak_rss_bytes
from paramdiff.runs.manifest import KEPT, Stage, begun_or_new, differing_keys, locked, resumable
from paramdiff.zoo.storage import FOLDER as ZOO

ASIDE = "manifest-"


class RunFolder:
    """One run on disk.

    Args:
        path: the folder; made if it does not exist.
        settings: the whole configuration, JSON-able. Others than the folder was made with are for the caller to
            judge (:attr:`changed`, :mod:`paramdiff.runs.setting_changes`).
        siblings: folders of earlier runs whose stages may be copied: made by the same code with the same data.

    Raises:
        RunFolderError: the path is a file, or a folder of something else.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], siblings: Sequence[Path] = ()) -> None:
        self.path, self.settings, self.siblings = Path(path), dict(settings), list(siblings)
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(
                f"run_dir {path} is a file", expected="a folder", remedy="choose another run_dir"
            )
        self._hashes: dict[str, str] = {}
        self.manifest = begun_or_new(self.path)

    @property
    def changed(self) -> list[str]:
        """Dotted keys in which the settings differ from those the folder was made with.

        A run that failed before it kept anything, say at a misspelt selection, leaves the settings free.
        """
        begun = self.manifest["stages"] or (self.path / ".state").exists()
        return differing_keys(self.manifest.get("settings", {}), self.settings) if begun else []

    @property
    def done(self) -> list[str]:
        """Names of the stages that were done here, with these settings or others."""
        return list(self.manifest["stages"])

    @contextmanager
    def opened(self) -> Iterator["RunFolder"]:
        """Hold the folder for this process and record what is about to run in it.

        Raises:
            RunFolderError: another process holds it.
            DiskError: it cannot be made or written.
        """
        with ExitStack() as held:
            on_main_process(lambda: self._hold(held))
            yield self

    def _hold(self, held: ExitStack) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / ".lock").touch()
        except OSError as error:
            raise disk_error(error, self.path) from error
        held.enter_context(locked(self.path / ".lock"))
        adopt(self.path)
        self.manifest |= {"settings": self.settings, **environment()}
        for file in self._asides():  # of ranks that were killed
            with suppress(CheckpointError):  # damaged: what it tells of is done again
                self.manifest["stages"] |= resumable(read_manifest(file)["stages"])
        self._write_manifest()
        self._restore_kept()

    def _restore_kept(self) -> None:
        """Small files that the manifest keeps are there again, if they are gone or damaged."""
        for stage, names in KEPT.items():
            kept = self.manifest["stages"].get(stage, {}).get("keeps", {})
            for name in kept.keys() & set(names):
                try:
                    read_file(self.path, name)
                except CheckpointError:
                    write_json(self.path / name, kept[name])

    def _write_manifest(self) -> None:
        """Ranks other than the first note their stages beside it."""
        rank = launched_rank().rank
        write_json(self.path / (f".state/{ASIDE}{rank}.json" if rank else "manifest.json"), self.manifest)

    def _asides(self) -> list[Path]:
        return list(self.path.glob(f".state/{ASIDE}*.json"))

    def run(self, stage: Stage) -> None:
        """Do a stage unless its inputs are unchanged and its files are there.

        Raises:
            RunFolderError: a file of an earlier stage is missing.
        """
        fingerprint = on_main_process(lambda: self._due(stage))
        if fingerprint is None:
            return
        # The state's folder carries the fingerprint: other settings never resume from it.
        scratch = self.path / ".state" / f"{stage.name.replace(':', '-')}-{fingerprint[:12]}"
        start = time.monotonic()
        with tracking.stage(stage.name, fingerprint):
            if stage.shared:
                stage.work(scratch)
            else:
                on_main_process(lambda: stage.work(scratch))
        on_main_process(lambda: self._finish(stage, fingerprint, scratch, round(time.monotonic() - start, 3)))

    def run_all(self, stages: Sequence[Stage]) -> None:
        """Chains first, then the other stages in their order."""
        chains: dict[str, list[Stage]] = {}
        for stage in stages:
            if stage.chain:
                chains.setdefault(stage.chain, []).append(stage)
        if chains:
            self._run_apart(list(chains.values()))
        for stage in stages:
            if not stage.chain:
                self.run(stage)

    def _run_apart(self, chains: Sequence[Sequence[Stage]]) -> None:
        """Every rank does some of the chains, for itself."""
        own = [stage for chain in local_items(chains) for stage in chain]
        names = {stage.name for stage in own}
        manifest, hashes = broadcast((self.manifest, self._hashes))
        if not is_main_process():
            known = {name: done for name, done in manifest["stages"].items() if name in names}
            self.manifest, self._hashes = {"stages": known}, hashes
        with this_process_only():
            for stage in own:
                self.run(stage)
        done = all_gather({name: self.manifest["stages"][name] for name in names})
        on_main_process(lambda: self._merge(done))

    def _merge(self, done: Sequence[Mapping[str, Any]]) -> None:
        for stages in done:
            self.manifest["stages"] |= stages
            for stage in stages.values():
                self._hashes |= stage["makes"]
        self._write_manifest()
        for file in self._asides():
            file.unlink()

    def _due(self, stage: Stage) -> str | None:
        """The fingerprint of a stage that is to be done; None if it is already, or a sibling did it."""
        if self._is_current(stage):
            say(f"  {stage.name}: unchanged, kept")
            return None
        fingerprint = self._fingerprint(stage)
        return None if self._copied(stage, fingerprint) else fingerprint

    def _finish(self, stage: Stage, fingerprint: str, scratch: Path, seconds: float) -> None:
        """Record what was done, and remove the state that is no longer needed."""
        for name in stage.makes:
            self._hashes.pop(name, None)
        self.manifest["stages"][stage.name] = {
            "fingerprint": fingerprint, "seconds": seconds, "peak_rss_bytes": peak_rss_bytes(),
            "makes": {name: self._hash(name) for name in stage.makes},
        }  # fmt: skip
        if kept := {
            name: read_json(self.path / name)
            for name in KEPT.get(stage.name, ())
            if (self.path / name).exists()
        }:
            self.manifest["stages"][stage.name]["keeps"] = kept
        self._write_manifest()
        for state in scratch.parent.glob(f"{scratch.name[:-12]}{'?' * 12}"):  # of earlier settings too
            shutil.rmtree(state, ignore_errors=True)

    def _copied(self, stage: Stage, fingerprint: str) -> bool:
        """Whether a sibling had done this stage and its files are now here too."""
        for sibling in self.siblings:
            done = resumable(read_manifest(sibling / "manifest.json")["stages"]).get(stage.name)
            if done is None or done["fingerprint"] != fingerprint or done["makes"].keys() != set(stage.makes):
                continue
            if any(sha256(place(sibling, name)) != digest for name, digest in done["makes"].items()):
                continue
            for name in stage.makes:
                copy(place(sibling, name), self.path / name, (ZOO, GENERATOR))
                self._hashes[name] = done["makes"][name]
            self.manifest["stages"][stage.name] = done
            self._write_manifest()
            self._restore_kept()
            say(f"  {stage.name}: the same as in {sibling}, copied")
            return True
        return False

    def is_current(self, stage: Stage) -> bool:
        """Whether a stage was done with these settings and inputs and its files are as it left them."""
        return on_main_process(lambda: self._is_current(stage))

    def _is_current(self, stage: Stage) -> bool:
        done = self.manifest["stages"].get(stage.name)
        if done is None or not all(place(self.path, name).exists() for name in stage.needs):
            return False
        same = done["fingerprint"] == self._fingerprint(stage) and done["makes"].keys() == set(stage.makes)
        return same and self._intact(done["makes"])

    def _fingerprint(self, stage: Stage) -> str:
        missing = [name for name in stage.needs if not place(self.path, name).exists()]
        if missing:
            raise RunFolderError(
                f"{stage.name} needs {self.path / missing[0]}, which is not there",
                remedy="run the earlier stages first, or `paramdiff run` for all of them",
            )
        inputs = [stage.settings, {name: self._hash(name) for name in stage.needs}]
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()

    def _hash(self, name: str) -> str:
        """Hash of a file of this folder, computed once per process: only stages write here."""
        if name not in self._hashes:
            self._hashes[name] = sha256(place(self.path, name))
        return self._hashes[name]

    def _intact(self, made: Mapping[str, str]) -> bool:
        return all(
            place(self.path, name).exists() and self._hash(name) == digest for name, digest in made.items()
        )

    def seconds(self, names: Collection[str]) -> float:
        """Time spent in those of the stages that are done."""
        return sum(stage["seconds"] for name, stage in self.manifest["stages"].items() if name in names)

    def peak_rss_bytes(self) -> int:
        return max([peak_rss_bytes(), *(s["peak_rss_bytes"] for s in self.manifest["stages"].values())])

    def write_config(self, yaml: str) -> None:
        write_text(self.path / "config.yaml", yaml)
