"""How much time stored features save: a step's time is measured, and what pictures would add to it was measured while
the features were made."""

import math
from dataclasses import dataclass, field
from statistics import median

from diptych.training.diagnostics.monitor import duration

ENOUGH = 20  # steps to measure


@dataclass
class Savings:
    """`picture_s` is the time to decode and encode one picture once, of which this process has `pictures` in a step,
    and `making_s` what it took in this run to make the features. `steps` are those of the run that are left, if their
    number is known."""

    picture_s: float
    pictures: int
    making_s: float
    steps: int | None
    _taken_s: list[float] = field(default_factory=list, repr=False)

    @property
    def step_s(self) -> float:
        """The time of a step with stored features; NaN before the first."""
        return median(self._taken_s) if self._taken_s else math.nan

    @property
    def step_with_pictures_s(self) -> float:
        """The time of a step that decodes and encodes its pictures."""
        return self.step_s + self.pictures * self.picture_s

    def add_step(self, seconds: float) -> str | None:
        """Count a step. Returns a sentence once enough are measured."""
        self._taken_s.append(seconds)
        if len(self._taken_s) != ENOUGH or not math.isfinite(self.picture_s):
            return None
        if self.steps is None:
            factor = self.step_with_pictures_s / max(self.step_s, 1e-9)
            return f"{self._compared()}: {factor:.1f} times as many steps in the same time"
        return f"{self._compared()}: about {self._balance(self.steps)}"

    def summary(self) -> str | None:
        """A sentence on all steps; None without any."""
        if not self._taken_s or not math.isfinite(self.picture_s):
            return None
        return f"{self._compared()}: {len(self._taken_s):,} steps, {self._balance(len(self._taken_s))}"

    def _compared(self) -> str:
        before_s, now_s = self.step_with_pictures_s, self.step_s
        return f"a step takes {now_s:.3g} s with stored features and would take {before_s:.3g} s with pictures"

    def _balance(self, steps: int) -> str:
        saved_s = steps * self.pictures * self.picture_s - self.making_s
        making = f"{duration(self.making_s)} to make them included"
        if abs(saved_s) < 1:
            return f"no time saved, {making}"
        verb = "saved" if saved_s >= 0 else "more than without them"
        return f"{duration(abs(saved_s))} {verb}, {making}"
