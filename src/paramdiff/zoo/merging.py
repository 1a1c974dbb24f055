"""Several zoos of the same tensors as one."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import torch

from paramdiff.errors import ZooError
from paramdiff.parameters.spec import ParameterSpec, TensorSpec
from paramdiff.zoo.records import OUTSIDE, Parts, frozen_differences, signed
from paramdiff.zoo.state_dicts import differing

OF_ONE_ZOO = ("aligned", "accuracy_classes")
"""Facts that do not hold for a merged zoo: each had its own order of units, and its own bounds."""

DIFFER = "the merged zoos differ outside the selection; the frozen rest is the first zoo's"


def merge_parts(zoos: Sequence[Parts]) -> tuple[Parts, list[str]]:
    """The members of all zoos with the frozen rest of the first, and the frozen tensors in which zoos differ.

    Raises:
        ZooError: no zoo, or zoos of different tensors.
    """
    if not zoos:
        raise ZooError("no zoo to merge", expected="at least one")
    first, *others = zoos
    if not others:
        return first, []
    for i, other in enumerate(others, start=2):
        _require_same(first.spec, other.spec, f"zoo {i} of {len(zoos)}")
    differ = _differing_frozen_tensors(zoos)
    records = [replace(record, accuracy_class=None) for zoo in zoos for record in zoo.records]
    about = _merged_facts(zoos)
    outside = dict.fromkeys([*differ, *(name for zoo in zoos for name in frozen_differences(zoo.about))])
    if outside:
        about[OUTSIDE], records = list(outside), signed(records)
    if differ:
        about["notes"] = [*dict.fromkeys([*about["notes"], DIFFER])]
    return Parts(torch.cat([zoo.vectors for zoo in zoos]), first.spec, first.base, records, about), differ


def _merged_facts(zoos: Sequence[Parts]) -> dict[str, Any]:
    """``about`` of the first zoo and the notes of all, without what holds for one zoo only."""
    notes = dict.fromkeys(note for zoo in zoos for note in zoo.about.get("notes", ()))
    facts = {name: fact for name, fact in zoos[0].about.items() if name not in OF_ONE_ZOO}
    return facts | {"trajectory": False, "notes": list(notes)}


def _differing_frozen_tensors(zoos: Sequence[Parts]) -> list[str]:
    first, *others = zoos
    generated = set(first.spec.keys)
    frozen = dict.fromkeys(name for zoo in zoos for name in zoo.base if name not in generated)
    found = {name for other in others for name in differing(first.base, other.base, frozen)}
    return [name for name in frozen if name in found]


def _require_same(spec: ParameterSpec, other: ParameterSpec, source: str) -> None:
    """Raise :class:`ZooError` naming the first tensor in which two specs differ."""
    for ours, theirs in zip_longest(spec.tensors, other.tensors):
        if _describe(ours) != _describe(theirs):
            raise ZooError(f"{source} has {_describe(theirs)}", expected=f"{_describe(ours)} as in the first",
                           remedy="merge zoos of the same network and selection")  # fmt: skip


def _describe(tensor: TensorSpec | None) -> str:
    return f"{tensor.name} {list(tensor.shape)} {tensor.dtype}" if tensor else "no further tensor"
