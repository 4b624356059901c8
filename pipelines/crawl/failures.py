"""What went wrong with a request, in the words of the ledger."""

import email.utils
import time

import aiohttp

from manifests.schema import Reason
from pipelines.crawl.connections import RefusedAddress
from pipelines.crawl.hosts import Host, HostClosed
from pipelines.crawl.rows import Failed


def failure_of(error: Exception, host: Host) -> Failed:
    """How a request ended that raised an error; the host is told of it where it could not be connected to."""
    refused = _cause(error)
    if refused is not None:
        return Failed(Reason.REFUSED_ADDRESS, str(refused))
    if isinstance(error, HostClosed):
        return Failed(Reason.NOT_FETCHED, str(error), may_retry=True)
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return Failed(Reason.NOT_FETCHED, f"TLS: {error}")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        host.failed()
        return Failed(Reason.NOT_FETCHED, f"no connection: {error}", may_retry=True)
    if isinstance(error, TimeoutError):
        return Failed(Reason.NOT_FETCHED, f"timed out: {error or 'total_s was over'}", may_retry=True)
    if isinstance(error, aiohttp.ClientResponseError):
        return Failed(Reason.NOT_FETCHED, f"no HTTP: {error.message.partition(chr(10))[0]}")
    if isinstance(error, aiohttp.InvalidURL | ValueError):
        return Failed(Reason.NOT_FETCHED, kind_of(error))
    return Failed(Reason.NOT_FETCHED, f"broke off: {kind_of(error)}", may_retry=True)


def _cause(error: BaseException) -> RefusedAddress | None:
    """The refusal that an error comes of."""
    seen: list[BaseException | None] = [error]
    while seen:
        at = seen.pop()
        if isinstance(at, RefusedAddress):
            return at
        if at is not None:
            seen += [at.__cause__, *getattr(at, "exceptions", ())]
    return None


def kind_of(error: Exception) -> str:
    """The kind of an error, and its words."""
    return f"{type(error).__name__}: {error}"


def said(response: aiohttp.ClientResponse) -> str:
    """The status of an answer, as a server puts it."""
    return f"{response.status} {response.reason or ''}".strip()


def retry_after_s(text: str | None) -> float | None:
    """Seconds from now, of a number or a date; None where there is none that makes sense."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text.strip()[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
