"""One URL -> how it ended, and its bytes. Redirects are followed by hand, so that each is checked like a first URL."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from yarl import URL

from manifests.denied import NOTHING_DENIED, DenyList, denied_id, url_sha256
from manifests.images import ImageError, Limits, read_header
from manifests.schema import Reason
from pipelines.crawl.addresses import host_of, parsed_url, refusal_of_url
from pipelines.crawl.bodies import TooLarge, Undecodable, Unwanted, read_body
from pipelines.crawl.failures import failure_of, kind_of, retry_after_s, said
from pipelines.crawl.hosts import Host
from pipelines.crawl.optouts import header_opt_out
from pipelines.crawl.policies import Policies
from pipelines.crawl.rows import Failed, Outcome
from pipelines.crawl.settings import FetchSettings

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GOOD = frozenset({200, 203})
_MOST_FILE_REDIRECTS = 5  # of robots.txt: RFC 9309, section 2.3.1.2
_FREE = Limits(max_bytes=1 << 62, max_pixels=1 << 62)  # what is too large to decode, ingest decides
_DETAIL_CHARACTERS = 300
_TYPE_CHARACTERS = 100


@dataclass
class _Moved(Exception):
    url: URL


class Fetcher:
    """Fetches the URLs of a group of hosts."""

    def __init__(
        self,
        settings: FetchSettings,
        session: aiohttp.ClientSession,
        hosts: frozenset[str],
        denied: DenyList = NOTHING_DENIED,
    ) -> None:
        """`hosts`: those of the group; a redirect that leaves them is not followed but told of.

        `denied`: addresses that are not asked for, wherever they are met, and images that are not kept.
        """
        self._settings = settings
        self._session = session
        self._own = hosts
        self._denied = denied
        self._hosts: dict[str, Host] = {}
        self._together = asyncio.Semaphore(settings.connections)
        self._policies = Policies(settings, self._read_file)

    async def fetch(self, target: str, hops: int = 0) -> tuple[Outcome, bytes | None]:
        """How a URL ended, and the image where it is one. Whatever happens, it is an outcome."""
        outcome = Outcome(hops=hops)
        began_s = time.perf_counter()
        image = None
        try:
            image = await self._allowed_image(target, outcome)
        except _Moved as moved:
            outcome.moved_to = str(moved.url)
        except Failed as failed:
            _end(outcome, failed)
        except Exception as error:
            # What a server sends may find a fault of ours; the other URLs are fetched all the same.
            _end(outcome, Failed(Reason.NOT_FETCHED, kind_of(error), may_retry=True))
        outcome.clean()
        outcome.fetched_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        outcome.seconds = round(time.perf_counter() - began_s, 3)
        return outcome, image

    async def _allowed_image(self, target: str, outcome: Outcome) -> bytes:
        if denied_id(target) is not None:
            raise Failed(Reason.DENIED, "taken down")
        image = await self._follow(target, outcome)
        if outcome.sha256 in self._denied.sha256:
            raise Failed(Reason.DENIED, "taken down")
        return image

    async def _follow(self, target: str, outcome: Outcome) -> bytes:
        url, spelt, came = parsed_url(target), target, ""
        while True:
            if self._denied.urls and self._denied.urls & {url_sha256(spelt), url_sha256(str(url))}:
                raise Failed(Reason.DENIED, "taken down")
            refusal = "not a URL" if url is None else refusal_of_url(url, self._settings.allow_hosts)
            if refusal is not None or url is None:
                raise Failed(Reason.REFUSED_ADDRESS, f"{came}{refusal}")
            if host_of(url) not in self._own:
                raise _Moved(url)
            try:
                policy = await self._policies.of(url)
                policy.check(url)
                host = self._host(host_of(url))
                host.delay_s = max(host.delay_s, policy.rules.delay_s)
                answer = await self._image_or_redirect(url, outcome)
            except Failed as failed:
                raise Failed(failed.reason, f"{came}{failed}", failed.may_retry) from failed
            if isinstance(answer, bytes):
                return answer
            outcome.hops += 1
            came = f"redirected to {answer}: "
            if outcome.hops > self._settings.most_redirects:
                raise Failed(Reason.NOT_FETCHED, f"more than most_redirects={self._settings.most_redirects} redirects")
            url, spelt = _joined(url, answer), answer

    async def _image_or_redirect(self, url: URL, outcome: Outcome) -> bytes | str:
        """The image, or where it is said to be."""
        settings = self._settings
        async with self._answer(url, outcome) as response:
            outcome.content_type = response.headers.get("Content-Type", "")[:_TYPE_CHARACTERS] or None
            if settings.opt_outs and response.status < 400:
                tags = response.headers.getall("X-Robots-Tag", [])
                opted_out = header_opt_out(response.headers, tags, settings.agent_token)
                if opted_out is not None:
                    raise Failed(Reason.OPTED_OUT, opted_out)
            if response.status in _REDIRECTS and "Location" in response.headers:
                return response.headers["Location"][:4000]
            if response.status not in _GOOD:
                raise Failed(Reason.NOT_FETCHED, said(response), may_retry=response.status == 408)
            try:
                body = await read_body(response, settings.largest_bytes, _no_image)
            except TooLarge as error:
                outcome.size_bytes = len(error.start)
                raise Failed(Reason.TOO_MANY_BYTES, str(error)) from error
            except Unwanted as error:
                outcome.size_bytes = error.seen_bytes
                raise Failed(Reason.NOT_AN_IMAGE, str(error)) from error
            except Undecodable as error:
                raise Failed(Reason.NOT_FETCHED, str(error)) from error
        outcome.size_bytes, outcome.sha256 = len(body), hashlib.sha256(body).hexdigest()
        try:
            outcome.format = read_header(body, _FREE).format
        except ImageError as error:
            if error.reason in (Reason.EMPTY, Reason.NOT_AN_IMAGE):
                raise Failed(error.reason, str(error)) from error
            # An image all the same; ingest says what is wrong with it.
        return body

    @asynccontextmanager
    async def _answer(self, url: URL, outcome: Outcome | None = None) -> AsyncIterator[aiohttp.ClientResponse]:
        """The first answer that is not 429 or 5xx, asked for as often as the settings say.

        Raises:
            Failed: there was none, or it broke off.
        """
        host = self._host(host_of(url))
        for attempt in range(self._settings.retries + 1):
            try:
                async with host.turn():
                    if outcome is not None:
                        outcome.attempts += 1
                        outcome.final_url, outcome.status, outcome.content_type = str(url), None, None
                    response = await self._session.get(url, allow_redirects=False)
                    try:
                        host.answered()
                        if outcome is not None:
                            outcome.status = response.status
                        if response.status != 429 and response.status < 500:
                            yield response
                            return
                    finally:
                        # A connection whose body was not read to its end is closed, not drained.
                        response.release()
            except (Failed, _Moved, TooLarge, asyncio.CancelledError, GeneratorExit):
                raise
            except Exception as error:
                # A server can make a client raise nearly anything, and none of it may end the crawl.
                raise failure_of(error, host) from error
            await self._back_off(host, response, attempt)
        raise AssertionError("unreachable: the last attempt raises")

    async def _back_off(self, host: Host, response: aiohttp.ClientResponse, attempt: int) -> None:
        """Wait as long as the host asks, or as the settings say; raise Failed where that is too long or too often."""
        asked_s = retry_after_s(response.headers.get("Retry-After"))
        wait_s = min(self._settings.backoff_s * 2.0**attempt, self._settings.longest_wait_s)
        if asked_s is not None:
            wait_s = max(wait_s, asked_s)
            if asked_s > self._settings.longest_wait_s:
                host.close(f"{said(response)}, Retry-After: {asked_s:.0f} s")
                raise Failed(Reason.NOT_FETCHED, f"{said(response)}, Retry-After: {asked_s:.0f} s", may_retry=True)
        if asked_s is not None or response.status == 429:
            host.wait(wait_s)  # which is said to all who ask this host
        if attempt == self._settings.retries:
            raise Failed(Reason.NOT_FETCHED, f"{said(response)}, {attempt + 1} times", may_retry=True)
        await asyncio.sleep(wait_s)

    async def _read_file(self, url: URL, largest_bytes: int) -> bytes | None:
        """The start of robots.txt or its like, None where the host has none."""
        for _ in range(_MOST_FILE_REDIRECTS + 1):
            refusal = refusal_of_url(url, self._settings.allow_hosts)
            if refusal is not None:
                raise Failed(Reason.REFUSED_ADDRESS, refusal)
            async with self._answer(url) as response:
                if response.status in _GOOD:
                    try:
                        return await read_body(response, largest_bytes)
                    except TooLarge as error:
                        return error.start
                    except Undecodable as error:
                        raise Failed(Reason.NOT_FETCHED, str(error), may_retry=True) from error
                if response.status not in _REDIRECTS or "Location" not in response.headers:
                    return None
                where = response.headers["Location"]
            following = _joined(url, where)
            if following is None:
                return None
            url = following
        return None

    def _host(self, name: str) -> Host:
        if name not in self._hosts:
            self._hosts[name] = Host(self._settings, self._together)
        return self._hosts[name]


def _end(outcome: Outcome, failed: Failed) -> None:
    outcome.reason, outcome.may_retry = failed.reason.value, failed.may_retry
    outcome.detail = str(failed)[:_DETAIL_CHARACTERS]
    if failed.reason is Reason.DENIED:
        # Of what was taken down nothing is kept, nor where it lies.
        outcome.final_url = outcome.content_type = outcome.format = outcome.sha256 = outcome.size_bytes = None


def _no_image(start: bytes) -> str | None:
    try:
        read_header(start, _FREE)
    except ImageError as error:
        return str(error) if error.reason is Reason.NOT_AN_IMAGE else None
    return None


def _joined(url: URL, location: str) -> URL | None:
    where = parsed_url(location)
    try:
        return None if where is None else parsed_url(str(url.join(where)))
    except ValueError:
        return None
