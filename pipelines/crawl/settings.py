"""How URLs are fetched."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_CONTACT = re.compile(r"https?://\S+|[^\s@]+@[^\s@]+")
_PRODUCT = re.compile(r"[A-Za-z_-]+(?=$|[/\s])")


def _with_contact(text: str) -> str:
    if not _PRODUCT.match(text) or not text.isascii() or not text.isprintable():
        raise ValueError(
            "it must begin with a name of letters, - and _, in plain ASCII: name/1.0 (+https://who.we.are)"
        )
    if not _CONTACT.search(text):
        raise ValueError("it must say how to reach you, so that who runs a host can: name/1.0 (+https://who.we.are)")
    return text


def _host(text: str) -> str:
    host = text.lower().strip("[]").rstrip(".")
    if not host or any(sign in host for sign in "/@* ") or (":" in host and host.count(":") < 2):
        raise ValueError("it must be the name or address of one host, without port, path or *")
    return host


class FetchSettings(BaseModel):
    """How URLs are fetched, and which are not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_agent: Annotated[str, AfterValidator(_with_contact)] = Field(
        description="What we call ourselves, with a way to reach you: name/1.0 (+https://who.we.are)"
    )
    per_host_connections: int = Field(2, ge=1, le=64, description="Requests to one host at once")
    per_host_delay_s: float = Field(0.5, ge=0, description="From the start of a request to the next one to that host")
    connections: int = Field(64, ge=1, description="Requests of one worker at once, to all hosts")
    connect_s: float = Field(10.0, gt=0, description="Longest wait for an address and a connection")
    idle_s: float = Field(15.0, gt=0, description="Longest silence in an answer")
    total_s: float = Field(60.0, gt=0, description="Longest time of one request, from its start to its last byte")
    largest_bytes: int = Field(32 * 2**20, ge=1, description="Largest body, counted as it comes and as it unpacks")
    most_redirects: int = Field(5, ge=0, description="Redirects that are followed, each checked like a URL of the list")
    retries: int = Field(3, ge=0, description="Further tries after 429 and 5xx; nothing else is tried again in a run")
    backoff_s: float = Field(1.0, ge=0, description="Wait before the first further try; it doubles each time")
    longest_wait_s: float = Field(
        60.0, ge=0, description="Longest wait for a host: back-off, Retry-After, Crawl-delay; beyond it, not now"
    )
    host_failures: int = Field(
        5, ge=1, description="After so many connections in a row that fail, a host's other URLs of a part are not tried"
    )
    allow_hosts: tuple[Annotated[str, AfterValidator(_host)], ...] = Field(
        (), description="Hosts, by name or address, that may lie at private or loopback addresses"
    )
    robots: bool = Field(True, description="Keep to robots.txt")
    opt_outs: bool = Field(True, description="Keep to X-Robots-Tag: noai, noimageai and to TDM reservations")

    @property
    def agent_token(self) -> str:
        """The name by which robots.txt and X-Robots-Tag know us, in small letters."""
        found = _PRODUCT.match(self.user_agent)
        assert found is not None
        return found.group().lower()
