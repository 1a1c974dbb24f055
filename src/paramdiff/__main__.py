"""``python -m paramdiff``."""

from paramdiff.cli import command

if __name__ == "__main__":
    command()
