"""Generators: everything that fits a zoo and samples new parameter vectors."""

from paramdiff.generators.generator import Generator, make, registry

__all__ = ["Generator", "make", "registry"]
