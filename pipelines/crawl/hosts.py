"""How often and how widely a host is asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipelines.crawl.settings import FetchSettings


class HostClosed(Exception):
    """A host that is not asked any more for now."""


class Host:
    """One host's turns: so many requests at once, and so long between the starts of two."""

    def __init__(self, settings: FetchSettings, together: asyncio.Semaphore) -> None:
        """`together` counts the requests to all hosts."""
        self._settings = settings
        self._together = together
        self._slots = asyncio.Semaphore(settings.per_host_connections)
        self._turn = asyncio.Lock()
        self._next_s = 0.0
        self._failures = 0
        self._closed: str | None = None
        self.delay_s = settings.per_host_delay_s

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and hold it for the time of the block.

        Raises:
            HostClosed: the host is not asked any more.
        """
        clock = asyncio.get_running_loop()
        async with self._slots:
            async with self._turn:
                # Whoever slept looks again: the host may have asked for more time, or be closed.
                while self._closed is None and (left_s := self._next_s - clock.time()) > 0:
                    await asyncio.sleep(left_s)
                await self._together.acquire()
                self._next_s = clock.time() + self.delay_s
            try:
                if self._closed is not None:
                    raise HostClosed(self._closed)
                yield
            finally:
                self._together.release()

    def wait(self, seconds: float) -> None:
        """No request to this host starts for so long."""
        self._next_s = max(self._next_s, asyncio.get_running_loop().time() + seconds)

    def close(self, why: str) -> None:
        """No request to this host starts any more."""
        self._closed = self._closed or why

    def failed(self) -> None:
        """A connection failed; after too many in a row the host is closed."""
        self._failures += 1
        if self._failures >= self._settings.host_failures:
            self.close(f"the host could not be connected to {self._failures} times in a row")

    def answered(self) -> None:
        """A connection came about."""
        self._failures = 0
