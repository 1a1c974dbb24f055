"""A validated configuration -> the plan of its run."""

from dataclasses import replace
from pathlib import Path

from paramdiff.generators.generator import Generator
from paramdiff.generators.latent import LatentGenerator
from paramdiff.generators.pdiff import ParameterDiffusion
from paramdiff.runs.config import RunConfig
from paramdiff.runs.plan import Plan, PlannedGenerator, plain, require_main
from paramdiff.runs.recipe_names import option_name

RECORDED = ("name", "seed", "n", "task", "zoo", "generator", "compare")
"""Keys of the configuration that decide the results."""


def plan_of(config: RunConfig, yaml: str = "") -> Plan:
    """The plan of a configuration.

    Args:
        config: validated; its ``name`` and ``run_dir`` are known.
        yaml: the same, resolved, as text.

    Raises:
        ConfigError: the main generator is one that matches another.
    """
    assert config.name is not None and config.run_dir is not None
    settings = {key: plain(getattr(config, key)) for key in RECORDED}
    settings |= {"recalibrate": config.recalibrate} if config.recalibrate else {}
    settings |= {"bill": plain(config.bill)} if config.bill.steps else {}
    planned = planned_generators(config)
    if config.bill.steps:
        known = {one.generator.label for one in planned}
        planned += [twin for twin in without_zoo(config.generator) if twin.name not in known]
    return Plan(
        name=config.name, folder=Path(config.run_dir), task=config.task, zoo=config.zoo,
        generators=planned, settings=settings, yaml=yaml, n=config.n, seed=config.seed,
        device=config.device, precision=config.precision, recalibrate=config.recalibrate, force=config.force,
        sweep=config.sweep, bill=config.bill,
    )  # fmt: skip


def planned_generators(config: RunConfig) -> list[PlannedGenerator]:
    """The main generator and those it is compared with; p-diff itself is always among them.

    Raises:
        ConfigError: the main generator is one that matches another.
    """
    option = option_name(config.generator.name)
    main = PlannedGenerator(config.generator, "generator")
    require_main(main, f"choose it as a baseline: +generator@compare.matched={option}")
    given = {"generator": config.generator, **{f"compare.{key}": one for key, one in config.compare.items()}}
    if not any(isinstance(generator, ParameterDiffusion) for generator in given.values()):
        given["compare.pdiff"] = ParameterDiffusion(seed=config.seed)
    return [PlannedGenerator(generator, key) for key, generator in given.items()]


def without_zoo(main: Generator) -> list[PlannedGenerator]:
    """The main generator begun at an untrained network and at one member, if it is trained through its samples."""
    if not isinstance(main, LatentGenerator) or not main.behaviour.steps or main.behaviour.start != "zoo":
        return []
    begun = {start: replace(main.behaviour, start=start, imitation=0.0) for start in ("random", "member")}
    return [
        PlannedGenerator(replace(main, behaviour=behaviour), "generator", f"{main.label}-from-{start}")
        for start, behaviour in begun.items()
    ]
