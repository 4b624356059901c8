"""What follows from the guard's alarms, in all workers alike, and the record of it."""

from enum import IntEnum
from typing import Any

import torch

from training.endings import Stopped
from training.guard import Alarm, Guard
from training.metrics import Row
from training.ranks import largest_of_workers, rank

Event = dict[str, Any]


class Verdict(IntEnum):
    """What is to follow; of several workers' verdicts the largest counts."""

    GO_ON = 0
    GO_BACK = 1
    STOP = 2
    DIVERGED = 3


_SAID = {Verdict.GO_ON: "warned", Verdict.GO_BACK: "went back", Verdict.STOP: "stopped", Verdict.DIVERGED: "stopped"}


class Watch:
    """The guard of a training, and what it said: events, each with images_seen, kind, message and action.

    Worker 0 alone shows its rows to the guard, since it alone has all figures.
    """

    def __init__(self, guard: Guard, state: dict[str, Any] | None, device: torch.device) -> None:
        self.guard, self.device = guard, device
        self.events: list[Event] = list(state["events"]) if state else []

    def state(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {"guard": self.guard.state(), "events": list(self.events)}

    def judge(self, row: Row, can_go_back: bool) -> Verdict:
        """What follows from a row. All workers call it, and are told the same."""
        alarms = self.guard.look(row, can_go_back) if rank() == 0 else []
        own = self._verdict(alarms, can_go_back)
        verdict = Verdict(int(largest_of_workers(torch.tensor(int(own), device=self.device)).item()))
        for alarm in alarms:
            event = {"images_seen": row["images_seen"], "kind": alarm.kind, "message": alarm.message}
            self.events.append(event | {"action": _SAID[verdict]})
        return verdict

    def _verdict(self, alarms: list[Alarm], can_go_back: bool) -> Verdict:
        if not alarms:
            return Verdict.GO_ON
        decision = self.guard.decision(can_go_back)
        if decision == "back":
            return Verdict.GO_BACK
        if any(alarm.kind == "nan" for alarm in alarms):
            return Verdict.DIVERGED
        return Verdict.GO_ON if decision == "warn" else Verdict.STOP

    def last_message(self, otherwise: str) -> str:
        """What the guard said last; only worker 0 heard it."""
        return str(self.events[-1]["message"]) if rank() == 0 and self.events else f"{otherwise}: see guard.json"

    def check_may_go_on(self, images_seen: int) -> None:
        """Raise Stopped if the guard stopped the training after so many images, and would again."""
        last = self.events[-1] if self.events else None
        if (
            last
            and self.guard.settings.action != "warn"
            and (last["action"], last["images_seen"])
            == (
                "stopped",
                images_seen,
            )
        ):
            raise Stopped(
                f"stopped at {images_seen:,} images seen: {last['message']}; guard.action=warn goes on all the same"
            )

    def go_back(self, before: "Watch") -> None:
        """Take over, from the watch that gave the alarm, what going back doesn't undo."""
        self.events, self.guard.backs = before.events, before.guard.backs
        self.guard.went_back()
