"""Recipes: the YAML of Hydra's configuration groups. See :mod:`paramdiff.runs.config`."""
