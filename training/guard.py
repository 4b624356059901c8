"""The collapse guard: reads the rows of metrics as they come, and says when a run has gone wrong.

It judges rolling figures, not single ones, and what a healthy run shows too does not count: at the beginning all
samples are grey and alike, and a discriminator may be sure of itself for a while. Each kind alarms once until it
recovers. The guard only says what it sees; the loop acts on it.
"""

import math
from collections.abc import Iterator
from statistics import median
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from training.losses import Loss, chance_of
from training.metrics import Row, not_finite

Kind = Literal["nan", "saturated", "unstable", "collapsed"]


class GuardSettings(BaseModel):
    """What the guard does, and from where on it alarms.

    The thresholds were set on trainings on bedrooms at 32 and 64 px: learning rates of 2e-4 and 5e-4, both
    alternations, against 20 times as much.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    action: Literal["warn", "stop", "back"] = Field(
        default="warn",
        description="on an alarm: go on, stop, or go back to the best checkpoint with a lower learning rate",
    )
    lower_rate: float = Field(default=0.5, gt=0, lt=1, description="factor for the learning rate at each going back")
    most_backs: int = Field(default=3, ge=0, description="times to go back; the next alarm stops the run")
    saturated_rows: int = Field(default=10, ge=1, description="saturated: for so many rows on end")
    sure_real: float = Field(default=0.999, gt=0, le=1, description="saturated: D(real) of this or more in every row")
    sure_fake: float = Field(default=0.001, ge=0, lt=1, description="saturated: with D(fake) of this or less")
    least_loss_d: float = Field(default=1e-3, ge=0, description="saturated too: D's loss of this or less in every row")
    least_grad_g: float = Field(
        default=1e-6, ge=0, description="saturated too: a norm of G's gradient of this or less in every row"
    )
    unstable_rows: int = Field(
        default=3,
        ge=1,
        description="unstable: rows, of the last, with a loss of D above that of tossing a coin; n times it counts n",
    )
    unstable_of: int = Field(default=20, ge=1, description="unstable: the last rows, so many, that are looked at")
    above_chance: float = Field(
        default=1.05, ge=1, description="unstable: above means by this factor; games in balance come close to chance"
    )
    points: int = Field(default=3, ge=1, description="measuring points whose medians collapsed looks at")
    least_diversity: float = Field(
        default=0.25, ge=0, lt=1, description="collapsed: (1 - ms_ssim) / (1 - ms_ssim_real) below this"
    )
    reached_diversity: float = Field(
        default=0.5,
        gt=0,
        description="diversity from which on a run is past its beginning, where all samples are alike",
    )
    beginning_images: int = Field(
        default=25_000,
        ge=0,
        description="images seen before which diversity doesn't count: a new generator's noise is diverse too",
    )
    warm_up_images: int = Field(
        default=200_000, ge=0, description="images seen after which a run that never reached diversity is collapsed"
    )
    least_deviation: float = Field(
        default=0.02, ge=0, description="collapsed too: deviation of samples' pixels, of the real images', below this"
    )
    most_distance: float = Field(
        default=1.4, gt=0, description="collapsed too: swd above this many times that of flat images"
    )


class Alarm(NamedTuple):
    """What the guard saw. `message` states the value, the rule and the next action."""

    kind: Kind
    message: str


class _Seen(NamedTuple):
    """Whether something is wrong at a row, and has recovered from it."""

    kind: Kind
    wrong: bool
    recovered: bool
    message: str


class Guard:
    """The guard of one run. `state` is what `Guard.state()` gave, from the checkpoint that the run goes on from.

    loss: what D and G are told to make small.
    """

    def __init__(self, settings: GuardSettings, state: dict[str, Any] | None = None, loss: Loss = "bce") -> None:
        self.settings, self.chance_loss_d = settings, chance_of(loss)
        given = state or {}
        self.backs: int = given.get("backs", 0)
        self._active: list[str] = list(given.get("active", []))
        self._reached: bool = given.get("reached", False)
        self._windows: dict[str, list[float]] = {name: list(rows) for name, rows in given.get("windows", {}).items()}

    def state(self) -> dict[str, Any]:
        """Plain JSON, for the checkpoint: a guard made from it decides the same."""
        windows = {name: list(rows) for name, rows in self._windows.items()}
        return {"backs": self.backs, "active": list(self._active), "reached": self._reached, "windows": windows}

    def look(self, row: Row, can_go_back: bool = True) -> list[Alarm]:
        """The alarms at a row: each kind once until it recovers."""
        alarms = []
        for seen in self._judge(row):
            if seen.wrong and seen.kind not in self._active:
                self._active.append(seen.kind)
                alarms.append(Alarm(seen.kind, f"{seen.message}; {self._advice(seen.kind, row, can_go_back)}"))
            elif seen.recovered and seen.kind in self._active:
                self._active.remove(seen.kind)
        return alarms

    @property
    def rate(self) -> float:
        """The factor of the learning rate, after going back so many times."""
        return self.settings.lower_rate**self.backs

    @property
    def alarmed(self) -> bool:
        """Whether something is wrong that hasn't recovered."""
        return bool(self._active)

    def decision(self, can_go_back: bool = True) -> Literal["warn", "stop", "back"]:
        """What to do at an alarm: the settings' action, but stop where a run can't go back, or did often enough."""
        spent = self.settings.action == "back" and (not can_go_back or self.backs >= self.settings.most_backs)
        return "stop" if spent else self.settings.action

    def went_back(self) -> None:
        """Forget the rows, count the going back, and watch afresh. Call it on the guard that gave the alarm."""
        self.backs += 1
        self._active, self._windows = [], {}

    def _judge(self, row: Row) -> Iterator[_Seen]:
        bad = not_finite(row)
        figures = ", ".join(f"{name}={row[name]}" for name in bad)
        yield _Seen(
            "nan", bool(bad), not bad, f"{figures} at {row['images_seen']:,} images seen, but it must be finite"
        )
        # A figure that is no number must not stand in a window, nor in a checkpoint's JSON.
        row = {name: value for name, value in row.items() if name not in bad and value is not None}
        yield from self._saturated(row)
        yield from self._unstable(row)
        yield from self._collapsed(row)

    def _roll(self, name: str, value: float, length: int) -> list[float]:
        self._windows[name] = [*self._windows.get(name, []), value][-length:]
        return self._windows[name]

    def _saturated(self, row: Row) -> Iterator[_Seen]:
        rules = self.settings
        if "d_real" in row and "d_fake" in row:
            sure = row["d_real"] >= rules.sure_real and row["d_fake"] <= rules.sure_fake
            still = row.get("loss_d", math.inf) <= rules.least_loss_d or row.get("grad_g", 1.0) <= rules.least_grad_g
            rolled = self._roll("sure", float(sure or still), rules.saturated_rows)
            digits = {
                name: f"{name}={row[name]:.3g}" for name in ("d_real", "d_fake", "loss_d", "grad_g") if name in row
            }
            yield _Seen(
                "saturated",
                wrong=len(rolled) == rules.saturated_rows and all(rolled),
                recovered=sum(rolled) <= rules.saturated_rows / 2,
                message=f"{', '.join(digits.values())}: for {rules.saturated_rows} rows D was sure of every image "
                f"(D(real) of {rules.sure_real} or more and D(fake) of {rules.sure_fake} or less, a loss of "
                f"{rules.least_loss_d} or less, or a gradient of G of {rules.least_grad_g} or less), so that G learns "
                "next to nothing",
            )

    def _unstable(self, row: Row) -> Iterator[_Seen]:
        rules = self.settings
        if "loss_d" in row:
            most = rules.above_chance * self.chance_loss_d
            # A row of many times that counts as so many rows: one violent stretch is enough.
            above = int(sum(self._roll("above_chance", float(row["loss_d"] // most), rules.unstable_of)))
            yield _Seen(
                "unstable",
                wrong=above >= rules.unstable_rows,
                recovered=above == 0,
                message=f"loss_d={row['loss_d']:.3g}: {above} of the last {rules.unstable_of} rows, one of several "
                f"times {most:.3g} counted as often, had a loss of D above {most:.3g}, worse than a tossed coin "
                f"({self.chance_loss_d:.3g}); {rules.unstable_rows} are too many: the steps overshoot",
            )

    def _collapsed(self, row: Row) -> Iterator[_Seen]:
        rules = self.settings
        if not {"ms_ssim", "ms_ssim_real"} <= row.keys():
            return
        signs = {
            "diversity": ((1 - row["ms_ssim"]) / max(1 - row["ms_ssim_real"], 1e-9), rules.least_diversity),
            "deviation": (_share(row, "deviation", "deviation_real"), rules.least_deviation),
            "distance": (_share(row, "swd", "swd_flat"), rules.most_distance),
        }
        middles = {name: median(self._roll(name, value, rules.points)) for name, (value, _) in signs.items()}
        full = len(self._windows["diversity"]) == rules.points
        started = self._roll("places", row["images_seen"], rules.points)[0] >= rules.beginning_images
        self._reached = self._reached or (full and started and middles["diversity"] >= rules.reached_diversity)
        past_beginning = self._reached or row["images_seen"] >= rules.warm_up_images
        found = []
        if past_beginning and middles["diversity"] < rules.least_diversity:
            found.append(
                f"ms_ssim={row['ms_ssim']:.3g}, the real images' is {row['ms_ssim_real']:.3g}: samples have "
                f"{middles['diversity']:.2g} of their diversity, less than {rules.least_diversity}"
            )
        if middles["deviation"] < rules.least_deviation:
            found.append(
                f"deviation={row['deviation']:.3g}, the real images' is {row['deviation_real']:.3g}: samples' pixels "
                f"have {middles['deviation']:.2g} of it, less than {rules.least_deviation}"
            )
        if middles["distance"] > rules.most_distance:
            found.append(
                f"swd={row['swd']:.4g}: samples are {middles['distance']:.2g} times as far from the real images as "
                f"flat ones of the mean colour, more than {rules.most_distance}"
            )
        what = f" (medians of {rules.points} measuring points)"
        yield _Seen("collapsed", full and bool(found), not found, "; ".join(found) + what)

    def _advice(self, kind: Kind, row: Row, can_go_back: bool) -> str:
        rate = row.get("learning_rate")
        lower = "a lower learning_rate" + (
            f", such as learning_rate={rate * self.settings.lower_rate:.3g}" if rate else ""
        )
        if self.decision(can_go_back) == "back":
            return f"going back to the best checkpoint with {self.settings.lower_rate} times the learning rate"
        if self.decision(can_go_back) == "stop":
            return f"stopping; train into an empty folder with {lower}, or another seed"
        look = "look at the newest grid; if it is bad, " if kind != "nan" else ""
        return f"{look}train into an empty folder with {lower}, or set guard.action=back"


def _share(row: Row, name: str, of: str) -> float:
    """A figure as a share of another; 1, which alarms nothing, where one of them is absent or nothing."""
    return float(row[name] / row[of]) if name in row and row.get(of) else 1.0
