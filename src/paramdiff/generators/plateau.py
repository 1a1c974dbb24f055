"""When more training steps no longer help."""

from typing import Any


class Plateau:
    """Watches a criterion that should fall; part of the training state, so a resumed run stops alike.

    Args:
        least: a fall smaller than this counts as none.
        patience: checks in a row without a fall until it is a plateau.
    """

    def __init__(self, least: float, patience: int) -> None:
        self.least, self.patience = least, patience
        self.best: float | None = None
        self.waited = 0

    def reached(self, value: float) -> bool:
        """Take the next value; whether the plateau is reached."""
        if self.best is None or value < self.best - self.least:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        return self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]
