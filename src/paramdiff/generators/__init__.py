"""Generators: everything that fits a zoo and samples new parameter vectors."""

from paramdiff.generators.context import FitContext
from paramdiff.generators.generator import GENERATORS, Generator, make, register

__all__ = ["GENERATORS", "FitContext", "Generator", "make", "register"]
