"""Sums of concepts: which concepts, and what their result should show."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.evaluation.exemplars import Concept
from training.evaluation.measured import Unmeasurable

Shows = dict[str, Literal[0, 1]]


class Formula(BaseModel):
    """A sum of concepts: a - b + c. Where they show attributes, the result should show a's less b's plus c's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="what should come out, such as smiling, short hair")
    a: Concept = Field(description="has what is wanted")
    b: Concept = Field(description="as a, without what is wanted")
    c: Concept = Field(description="what it is added to")

    @model_validator(mode="after")
    def _adds_up(self) -> "Formula":
        a, b, c = self.a.shows, self.b.shows, self.c.shows
        if not a.keys() == b.keys() == c.keys():
            raise ValueError(
                f"{self.name}: a shows {', '.join(a) or 'nothing'}, b {', '.join(b) or 'nothing'}, c "
                f"{', '.join(c) or 'nothing'}; all three must say 0 or 1 of the same attributes"
            )
        odd = [name for name in a if a[name] - b[name] + c[name] not in (0, 1)]
        if odd:
            first = odd[0]
            raise ValueError(
                f"{self.name}: {first} would be {a[first]} - {b[first]} + {c[first]} = {a[first] - b[first] + c[first]}"
                "; choose concepts whose sum is 0 or 1 in each attribute"
            )
        if a and not self.wanted:
            raise ValueError(f"{self.name}: a and b show the same, so nothing is added to c; let them differ")
        return self

    @property
    def concepts(self) -> tuple[Concept, Concept, Concept]:
        """a, b and c."""
        return self.a, self.b, self.c

    @property
    def wanted(self) -> Shows:
        """What the result should show and c doesn't."""
        return {name: value for name, value in self.a.shows.items() if value != self.b.shows[name]}

    @property
    def kept(self) -> Shows:
        """What the result should show as c does."""
        return {name: value for name, value in self.c.shows.items() if name not in self.wanted}

    @property
    def text(self) -> str:
        """The sum in words."""
        return f"{self.a.name} - {self.b.name} + {self.c.name}"


def _of(name: str, shows: Sequence[str], concepts: Sequence[tuple[str, Sequence[int]]]) -> Formula:
    made = [Concept(name=text, shows=dict(zip(shows, values, strict=True))) for text, values in concepts]
    return Formula(name=name, a=made[0], b=made[1], c=made[2])


# The paper's two, with long hair for its women and short hair for its men, and one that asks for hair.
FACES = (
    _of(
        "smiling, short hair",
        ("smile", "long_hair", "glasses"),
        [
            ("smiling, long hair", (1, 1, 0)),
            ("neutral, long hair", (0, 1, 0)),
            ("neutral, short hair", (0, 0, 0)),
        ],
    ),
    _of(
        "glasses, long hair",
        ("glasses", "long_hair"),
        [("glasses, short hair", (1, 0)), ("no glasses, short hair", (0, 0)), ("no glasses, long hair", (0, 1))],
    ),
    _of(
        "long hair, neutral",
        ("long_hair", "smile"),
        [("long hair, smiling", (1, 1)), ("short hair, smiling", (0, 1)), ("short hair, neutral", (0, 0))],
    ),
)


def ready_formulas(names: Sequence[str]) -> tuple[Formula, ...]:
    """The formulas that pictures with such attributes allow: those of faces, or with - without + without of each.

    Source: Radford et al. 2016, section 6.3.2, figure 7.
    """
    fitting = tuple(formula for formula in FACES if formula.a.shows.keys() <= set(names))
    return fitting or tuple(
        _of(name, (name,), [(name, (1,)), (f"no {name}", (0,)), (f"no {name}", (0,))]) for name in names
    )


def check_formulas(formulas: Sequence[Formula], names: Sequence[str]) -> None:
    """Raise Unmeasurable where a formula names an attribute that the pictures don't have, or shows none."""
    for formula in formulas:
        unknown = sorted(formula.a.shows.keys() - set(names))
        if unknown or not formula.a.shows:
            fault = f"there is no attribute {', '.join(unknown)}" if unknown else "its concepts show no attribute"
            raise Unmeasurable(
                f"arithmetic.formulas, {formula.name}: {fault}; the pictures have {', '.join(names) or 'none'}"
            )
