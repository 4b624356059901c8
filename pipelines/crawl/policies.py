"""What an origin says to all that ask: robots.txt and tdmrep.json, each read once."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from yarl import URL

from manifests.schema import Reason
from pipelines.crawl.optouts import TDM_LARGEST_BYTES, TDM_PATH, reserved_patterns, reserving_pattern
from pipelines.crawl.robots import LARGEST_BYTES, Pattern, Rules, read_rules
from pipelines.crawl.rows import Failed
from pipelines.crawl.settings import FetchSettings

# RFC 9309, section 2.4: a robots.txt should not be kept for longer.
_KEPT_S = 24 * 3600.0

ReadFile = Callable[[URL, int], Awaitable[bytes | None]]


@dataclass(frozen=True)
class Policy:
    """What one origin allows."""

    rules: Rules
    reserved: tuple[Pattern, ...] = ()
    failure: Failed | None = None  # it could not be read, so nothing is asked for

    def check(self, url: URL) -> None:
        """Raise Failed where the origin does not want a URL to be fetched, or that could not be learned."""
        if self.failure is not None:
            raise Failed(self.failure.reason, str(self.failure), self.failure.may_retry)
        path = url.raw_path_qs or "/"
        forbidding = self.rules.forbids(path)
        if forbidding is not None:
            raise Failed(Reason.OPTED_OUT, f"robots.txt: Disallow: {forbidding}")
        reserving = reserving_pattern(self.reserved, path)
        if reserving is not None:
            raise Failed(Reason.OPTED_OUT, f"{TDM_PATH}: {reserving} is reserved")


class Policies:
    """The policies of the origins that were met."""

    def __init__(self, settings: FetchSettings, read_file: ReadFile) -> None:
        """`read_file(url, largest_bytes)` gives a file's first bytes, None where there is none, or raises Failed."""
        self._settings = settings
        self._read_file = read_file
        self._known: dict[URL, tuple[float, asyncio.Task[Policy]]] = {}

    async def of(self, url: URL) -> Policy:
        """The policy of a URL's origin. All who ask at once wait for the one that reads it."""
        origin = url.origin()
        made_s, task = self._known.get(origin, (0.0, None))
        if task is None or (task.done() and time.monotonic() - made_s > _KEPT_S):
            task = asyncio.create_task(self._read(origin))
            self._known[origin] = (time.monotonic(), task)
        return await asyncio.shield(task)

    async def _read(self, origin: URL) -> Policy:
        what, rules = "robots.txt", Rules()
        reserved: tuple[Pattern, ...] = ()
        try:
            if self._settings.robots:
                text = await self._read_file(origin.with_path("/robots.txt"), LARGEST_BYTES)
                rules = read_rules(text or b"", self._settings.agent_token)
                if rules.delay_s > self._settings.longest_wait_s:
                    raise Failed(
                        Reason.OPTED_OUT,
                        f"Crawl-delay: {rules.delay_s:g}, over longest_wait_s={self._settings.longest_wait_s:g}",
                    )
                # A site that is closed to us anyway is asked for nothing more.
                if rules.forbids_all:
                    return Policy(rules)
            if self._settings.opt_outs:
                what = TDM_PATH
                text = await self._read_file(origin.with_path(TDM_PATH), TDM_LARGEST_BYTES)
                reserved = reserved_patterns(text or b"")
        except Failed as failure:
            return Policy(rules, failure=Failed(failure.reason, f"{what}: {failure}", failure.may_retry))
        return Policy(rules, reserved)
