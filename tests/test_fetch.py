"""One URL at a time against a real server on loopback: every fault is an outcome, and what is refused is never met."""

import asyncio
import hashlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from crawl_server import CrawlServer, crawl_server, nothing_leaves, picture

from manifests.denied import DENIED, NOTHING_DENIED, DenyList, url_sha256
from manifests.schema import Reason
from pipelines.crawl.addresses import refusal_of_address
from pipelines.crawl.connections import Lookup, opened_session, system_lookup
from pipelines.crawl.fetcher import Fetcher
from pipelines.crawl.rows import Outcome
from pipelines.crawl.settings import FetchSettings

HOSTS = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
Ended = tuple[Outcome, bytes | None]


@pytest.fixture
def server() -> Iterator[CrawlServer]:
    with crawl_server(HOSTS) as started:
        yield started


@pytest.fixture(autouse=True)
def reached() -> Iterator[list[object]]:
    with nothing_leaves() as addresses:
        yield addresses
    assert addresses == []


def settings(**changed: Any) -> FetchSettings:
    quick = {
        "user_agent": "testbot/1.0 (+mailto:nobody@example.com)",
        "per_host_delay_s": 0,
        "connect_s": 5,
        "idle_s": 0.6,
        "total_s": 1.0,
        "backoff_s": 0.01,
        "largest_bytes": 1 << 20,
        "allow_hosts": ["127.0.0.2", "127.0.0.3"],
    }
    return FetchSettings.model_validate(quick | changed)


def fetch(
    *urls: str,
    own: frozenset[str] | None = None,
    lookup: Lookup = system_lookup,
    denied: DenyList = NOTHING_DENIED,
    **changed: Any,
) -> list[Ended]:
    async def all_of_them() -> list[Ended]:
        chosen = settings(**changed)
        async with opened_session(chosen, lookup) as session:
            fetcher = Fetcher(chosen, session, own or frozenset({*HOSTS, "a.test", "b.test", ""}), denied)
            return await asyncio.gather(*(fetcher.fetch(url) for url in urls))

    return asyncio.run(all_of_them())


def names(addresses: Mapping[str, list[str]]) -> Lookup:
    """A look-up in a table; in place of DNS."""

    async def lookup(host: str) -> list[str]:
        if host not in addresses:
            raise socket.gaierror(-2, "Name or service not known")
        return addresses[host]

    return lookup


def test_an_image_comes_with_all_that_is_known_of_it(server: CrawlServer) -> None:
    ((outcome, image),) = fetch(server.url("/good/1.png#top"))
    assert image == picture("/good/1.png")
    assert outcome.reason is None
    assert (outcome.status, outcome.hops, outcome.attempts, outcome.format) == (200, 0, 1, "png")
    assert (outcome.size_bytes, outcome.sha256) == (len(image), hashlib.sha256(image).hexdigest())
    assert (outcome.final_url, outcome.content_type) == (server.url("/good/1.png"), "image/png")
    (asked,) = [asked for asked in server.asked if asked.path == "/good/1.png"]
    assert asked.headers["user-agent"] == "testbot/1.0 (+mailto:nobody@example.com)"
    assert asked.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("path", "reason", "detail", "may_retry"),
    [
        ("/missing/1.jpg", Reason.NOT_FETCHED, "404 Said so", False),
        ("/broken/1.jpg", Reason.NOT_FETCHED, "503 Said so, 4 times", True),
        ("/later/1.jpg", Reason.NOT_FETCHED, "429 Said so, Retry-After: 86400 s", True),
        ("/reset/1.jpg", Reason.NOT_FETCHED, "broke off: ", True),
        ("/short/1.jpg", Reason.NOT_FETCHED, "broke off: ", True),
        ("/drip/1.jpg", Reason.NOT_FETCHED, "timed out", True),
        ("/silent/1.jpg", Reason.NOT_FETCHED, "timed out", True),
        ("/no-http/1.jpg", Reason.NOT_FETCHED, "no HTTP: Bad status line", False),
        ("/endless/1.jpg", Reason.TOO_MANY_BYTES, "more than 1048576 bytes, limit largest_bytes=1048576", False),
        ("/bomb/1.jpg", Reason.TOO_MANY_BYTES, "more than 1048576 bytes", False),
        ("/hollow/1.jpg", Reason.TOO_MANY_BYTES, "more than 1048576 bytes", False),
        ("/tail/1.jpg", Reason.NOT_FETCHED, "more comes after the end of the gzip stream", False),
        ("/odd-words/1.jpg", Reason.NOT_FETCHED, "404 no??", False),
        ("/odd-packing/1.jpg", Reason.NOT_FETCHED, "packed as br", False),
        ("/html/1.jpg", Reason.NOT_AN_IMAGE, "starts with b'<!DOCTYPE ht'", False),
        ("/empty/1.jpg", Reason.EMPTY, "0 bytes", False),
        ("/loop/1.jpg", Reason.NOT_FETCHED, "more than most_redirects=5 redirects", False),
        ("/noai/1.jpg", Reason.OPTED_OUT, "X-Robots-Tag: noindex, NoAI", False),
        ("/tdm/1.jpg", Reason.OPTED_OUT, "tdm-reservation: 1", False),
        ("/forbidden/1.jpg", Reason.OPTED_OUT, "robots.txt: Disallow: /forbidden/", False),
        ("/reserved/1.jpg", Reason.OPTED_OUT, "/reserved/* is reserved", False),
        ("/to/127.0.0.1/good/1.jpg", Reason.REFUSED_ADDRESS, "redirected to http://127.0.0.1", False),
        ("/to/169.254.169.254/latest", Reason.REFUSED_ADDRESS, "169.254.169.254 is link-local", False),
        ("/to/[::ffff:10.0.0.1]/x", Reason.REFUSED_ADDRESS, "is private", False),
    ],
)
def test_every_fault_is_an_outcome(
    server: CrawlServer, path: str, reason: Reason, detail: str, may_retry: bool
) -> None:
    ((outcome, image),) = fetch(server.url(path))
    assert image is None
    assert (outcome.reason, outcome.may_retry) == (reason, may_retry)
    assert detail in (outcome.detail or "")
    assert "127.0.0.1" not in {asked.host for asked in server.asked}
    if reason is Reason.OPTED_OUT and "noai" not in path and "tdm" not in path:
        assert path not in server.paths()


def test_what_ends_well_in_spite_of_a_fault(server: CrawlServer) -> None:
    paths = ["/slow-down/1.png", "/stumble/1.png", "/packed/1.png", "/noai-other/1.png", "/to/127.0.0.3/good/1.png"]
    ended = fetch(*map(server.url, paths))
    assert [outcome.reason for outcome, _ in ended] == [None] * len(paths)
    assert [image for _, image in ended] == [*map(picture, paths[:-1]), picture("/good/1.png")]
    assert [outcome.attempts for outcome, _ in ended] == [2, 2, 1, 1, 2]
    assert ended[-1][0].hops == 1


def test_a_body_that_is_longer_than_it_says_spoils_no_other_on_its_connection(server: CrawlServer) -> None:
    urls = [server.url(f"/{kind}/{n}.png") for n in range(6) for kind in ("long", "good")]
    ended = fetch(*urls, per_host_connections=1)
    assert [image for _, image in ended[1::2]] == [picture(f"/good/{n}.png") for n in range(6)]
    # Where the rest comes with the body it shows; else the image is cut, which decoding will show.
    for n, (outcome, image) in enumerate(ended[::2]):
        if image is None:
            assert (outcome.reason, outcome.may_retry) == (Reason.NOT_FETCHED, False)
        else:
            assert image == picture(f"/long/{n}.png")[:-20]


def test_headers_of_any_bytes_become_text(server: CrawlServer) -> None:
    ((outcome, image),) = fetch(server.url("/odd-type/1.png"))
    assert image == picture("/odd-type/1.png")
    assert outcome.content_type == "image/?png"


def test_reservations_of_no_valid_text_reserve_nothing_and_stop_nothing(server: CrawlServer) -> None:
    server.files["/.well-known/tdmrep.json"] = rb'[{"location": ["/\ud800", "*\udfff*", "/tdm"], "tdm-reservation": 1}]'
    ended = fetch(server.url("/good/1.png"), server.url("/tdm/1.png"))
    assert [outcome.reason for outcome, _ in ended] == [None, Reason.OPTED_OUT]


def test_a_fault_of_ours_is_an_outcome_too(server: CrawlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(text: bytes, agent: str) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr("pipelines.crawl.policies.read_rules", faulty)
    for outcome, image in fetch(server.url("/good/1.png"), server.url("/good/2.png")):
        assert (outcome.reason, outcome.may_retry, image) == (Reason.NOT_FETCHED, True, None)
        assert outcome.detail == "RecursionError: too deep"


def test_no_proxy_and_no_password_of_the_environment_is_used(
    server: CrawlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.2 login me password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        for spelt in (name, name.lower()):
            monkeypatch.setenv(spelt, server.url("", "127.0.0.3"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    plain, closed = fetch(server.url("/good/1.png"), f"https://127.0.0.2:{free_port()}/good/2.png")
    assert (plain[0].reason, closed[0].reason) == (None, Reason.NOT_FETCHED)
    assert set(server.connections) == {"127.0.0.2"}
    assert all("authorization" not in asked.headers for asked in server.asked)


def denying(**held: str) -> DenyList:
    return DenyList(pa.Table.from_pylist([dict.fromkeys(DENIED.names) | {"record_id": "one"} | held], DENIED))


@pytest.mark.parametrize("own", [None, frozenset({"127.0.0.2"})])
def test_what_was_taken_down_is_not_asked_for_wherever_it_is_met(
    server: CrawlServer, own: frozenset[str] | None
) -> None:
    denied = denying(url_sha256=url_sha256(server.url("/good/1.png", "127.0.0.3")))
    urls = [server.url("/to/127.0.0.3/good/1.png"), server.url("/good/1.png")]
    (met, image), (other, _) = fetch(*urls, own=own, denied=denied)
    assert (met.reason, met.may_retry, met.detail, met.status) == (Reason.DENIED, False, "taken down", 301)
    assert (met.moved_to, met.final_url, image) == (None, None, None)
    assert server.paths("127.0.0.3") == []
    assert other.reason is None
    ((outcome, _),) = fetch(server.url("/good/1.png", "127.0.0.3"), denied=denied)
    assert (outcome.reason, server.paths("127.0.0.3")) == (Reason.DENIED, [])


def test_of_bytes_that_were_taken_down_nothing_is_kept(server: CrawlServer) -> None:
    digest = hashlib.sha256(picture("/good/1.png")).hexdigest()
    (met, image), (other, _) = fetch(
        server.url("/to/127.0.0.3/good/1.png"), server.url("/good/2.png"), denied=denying(sha256=digest)
    )
    assert (met.reason, met.may_retry, met.detail, image) == (Reason.DENIED, False, "taken down", None)
    assert (met.sha256, met.size_bytes, met.final_url, met.format, met.content_type) == (None,) * 5
    assert other.reason is None


def test_opt_outs_can_be_left_unasked(server: CrawlServer) -> None:
    paths = ["/noai/1.png", "/tdm/1.png", "/forbidden/1.png", "/reserved/1.png"]
    ended = fetch(*map(server.url, paths), robots=False, opt_outs=False)
    assert [outcome.reason for outcome, _ in ended] == [None] * 4
    assert set(server.paths()) == set(paths)


@pytest.mark.parametrize(
    ("status", "reason", "may_retry"),
    [(404, None, False), (403, None, False), (500, Reason.NOT_FETCHED, True), (429, Reason.NOT_FETCHED, True)],
)
def test_a_robots_txt_that_is_not_there_allows_and_one_that_fails_forbids_for_now(
    server: CrawlServer, status: int, reason: Reason | None, may_retry: bool
) -> None:
    server.files["/robots.txt"] = status
    ((outcome, _),) = fetch(server.url("/forbidden/1.png"))
    assert (outcome.reason, outcome.may_retry) == (reason, may_retry)
    assert ("/forbidden/1.png" in server.paths()) == (reason is None)


def test_files_of_an_origin_are_asked_for_once_and_ours_is_the_group_that_names_us(server: CrawlServer) -> None:
    server.files["/robots.txt"] = (
        b"User-agent: *\nDisallow: /\n\nUser-agent: TestBot\nDisallow: /good/2\nCrawl-delay: 0.2"
    )
    ended = fetch(*(server.url(f"/good/{n}.png") for n in (1, 2, 3, 21)))
    assert [outcome.reason for outcome, _ in ended] == [None, Reason.OPTED_OUT, None, Reason.OPTED_OUT]
    assert server.paths().count("/robots.txt") == server.paths().count("/.well-known/tdmrep.json") == 1
    first, second = (asked.at_s for asked in server.asked if asked.path.startswith("/good/"))
    assert second - first > 0.19


def test_refused_urls_reach_no_server(server: CrawlServer, reached: list[object]) -> None:
    port = server.port
    lookup = names({"rebound.test": ["127.0.0.1", "10.0.0.7"], "a.test": ["127.0.0.1"], "2130706433": ["127.0.0.1"]})
    urls = [
        f"http://127.0.0.1:{port}/good/1.png",
        f"http://localhost:{port}/good/1.png",
        f"http://a.test:{port}/good/1.png",
        f"http://2130706433:{port}/good/1.png",
        f"http://127.1:{port}/good/1.png",
        f"http://0x7f000001:{port}/good/1.png",
        f"http://[::ffff:127.0.0.1]:{port}/good/1.png",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        f"http://user:word@127.0.0.2:{port}/good/1.png",
        "http://127.0.0.2:25/",
        "ftp://127.0.0.2/x.jpg",
        "file:///etc/passwd",
        "//127.0.0.2/x.jpg",
        "http://[half/x.jpg",
        "",
    ]
    hosts = frozenset({"localhost", "2130706433", "127.1", "0x7f000001", "::ffff:127.0.0.1", "169.254.169.254"})
    lookup = names({host: ["127.0.0.1"] for host in ("localhost", "a.test", "2130706433", "127.1", "0x7f000001")})
    ended = fetch(*urls, lookup=lookup, own=hosts | {*HOSTS, "a.test", "10.0.0.1", ""})
    assert {url: outcome.reason for url, (outcome, _) in zip(urls, ended, strict=True)} == dict.fromkeys(
        urls, Reason.REFUSED_ADDRESS.value
    )
    assert not any(outcome.may_retry or outcome.attempts for outcome, _ in ended)
    assert server.asked == []
    assert server.connections.total() == 0
    assert reached == []


def test_a_name_that_changes_its_address_is_checked_at_every_connection(server: CrawlServer) -> None:
    """The first look-up gives an address that may be connected to, the next one does not."""
    answers = iter([["127.0.0.3"], ["127.0.0.1"], ["127.0.0.1"]])
    asked = []

    async def lookup(host: str) -> list[str]:
        asked.append(host)
        return next(answers)

    # Refusals of loopback are what is tested here, so 127.0.0.3 has to pass for a public one.
    from pipelines.crawl import connections

    refuses = refusal_of_address
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "refusal_of_address", lambda a: None if a == "127.0.0.3" else refuses(a))
        urls = [server.url(f"/{path}", "a.test") for path in ("short/1.png", "good/1.png")]
        ended = fetch(*urls, lookup=lookup, robots=False, opt_outs=False, per_host_connections=1)
    assert [outcome.reason for outcome, _ in ended] == [Reason.NOT_FETCHED, Reason.REFUSED_ADDRESS]
    assert asked == ["a.test", "a.test"]
    assert server.connections == {"127.0.0.3": 1}


def test_of_several_addresses_only_those_that_may_be_are_connected_to(server: CrawlServer) -> None:
    from pipelines.crawl import connections

    refuses = refusal_of_address
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "refusal_of_address", lambda a: None if a == "127.0.0.3" else refuses(a))
        lookup = names({"a.test": ["127.0.0.1", "10.1.2.3", "127.0.0.3"]})
        ((outcome, _),) = fetch(server.url("/good/1.png", "a.test"), lookup=lookup)
    assert outcome.reason is None
    assert set(server.connections) == {"127.0.0.3"}


def test_the_last_look_is_at_the_socket(server: CrawlServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where both checks before it let an address through, no connection is made."""
    monkeypatch.setattr("pipelines.crawl.fetcher.refusal_of_url", lambda url, allowed: None)
    ((outcome, _),) = fetch(server.url("/good/1.png", "127.0.0.1"))
    assert (outcome.reason, outcome.detail) == (Reason.REFUSED_ADDRESS, "robots.txt: 127.0.0.1 is loopback")
    assert server.connections.total() == 0


def test_a_host_that_is_allowed_by_name_may_be_private_and_no_other(server: CrawlServer) -> None:
    lookup = names({"a.test": ["127.0.0.3"], "b.test": ["127.0.0.3"]})
    ended = fetch(
        server.url("/good/1.png", "A.test"), server.url("/good/1.png", "b.test"), lookup=lookup, allow_hosts=["a.TEST"]
    )
    assert [outcome.reason for outcome, _ in ended] == [None, Reason.REFUSED_ADDRESS]


def test_a_host_without_an_address_or_an_open_port_is_tried_again_another_time(server: CrawlServer) -> None:
    ended = fetch("http://b.test/x.png", f"http://127.0.0.2:{free_port()}/x.png", lookup=names({}))
    assert [(outcome.reason, outcome.may_retry) for outcome, _ in ended] == [(Reason.NOT_FETCHED, True)] * 2
    assert all("no connection" in (outcome.detail or "") for outcome, _ in ended)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.2", 0))
        return int(taken.getsockname()[1])


def test_a_host_that_can_not_be_connected_to_is_left_alone_after_some_tries() -> None:
    looked_up = []

    async def lookup(host: str) -> list[str]:
        looked_up.append(host)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    ended = fetch(*(f"http://a.test/{n}.png" for n in range(50)), lookup=lookup, robots=False, opt_outs=False)
    assert {outcome.reason for outcome, _ in ended} == {Reason.NOT_FETCHED.value}
    assert len(looked_up) < 5 + 2
    assert sum("5 times in a row" in (outcome.detail or "") for outcome, _ in ended) >= 50 - 6


def test_a_host_that_asks_for_a_day_is_asked_for_nothing_more(server: CrawlServer) -> None:
    urls = [server.url(f"/later/{n}.png") for n in range(20)]
    ended = fetch(*urls, per_host_connections=1)
    assert {(outcome.reason, outcome.may_retry) for outcome, _ in ended} == {(Reason.NOT_FETCHED.value, True)}
    assert sum(path.startswith("/later/") for path in server.paths()) == 1


def test_a_redirect_to_a_host_of_another_part_is_told_of_and_not_followed(server: CrawlServer) -> None:
    ((outcome, image),) = fetch(server.url("/to/127.0.0.3/good/1.png"), own=frozenset({"127.0.0.2"}))
    assert (outcome.moved_to, outcome.hops, outcome.reason) == (server.url("/good/1.png", "127.0.0.3"), 1, None)
    assert image is None
    assert server.paths("127.0.0.3") == []


def test_a_host_is_asked_no_more_widely_and_no_faster_than_the_settings_say(server: CrawlServer) -> None:
    server.hold_s = 0.03
    fetch(*(server.url(f"/good/{n}.png") for n in range(40)), per_host_connections=3)
    assert server.most_at_once["127.0.0.2"] == 3
    assert server.connections["127.0.0.2"] <= 3
    server.asked.clear()
    fetch(*(server.url(f"/good/{n}.png") for n in range(10)), per_host_delay_s=0.05, per_host_connections=4)
    times = [asked.at_s for asked in server.asked]
    assert len(times) == 12
    assert times[-1] - times[0] > 11 * 0.05 * 0.9


def test_a_retry_after_holds_for_the_whole_host(server: CrawlServer) -> None:
    fetch(server.url("/slow-down/1.png"), *(server.url(f"/good/{n}.png") for n in range(5)), per_host_connections=1)
    told_s = next(asked.at_s for asked in server.asked if asked.path == "/slow-down/1.png")
    later = [asked.at_s - told_s for asked in server.asked if asked.path.startswith("/good/")]
    assert len(later) == 5
    assert min(later) > 0.95


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=127.0.0.2", "-addext", "subjectAltName=IP:127.0.0.2", "-days", "2"]
    try:
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    served: list[bytes] = []
    with socket.create_server(("127.0.0.2", 0)) as listening:
        thread = threading.Thread(target=_serve_one, args=(listening, context, served))
        thread.start()
        ((outcome, _),) = fetch(f"https://127.0.0.2:{listening.getsockname()[1]}/x.png", robots=False, opt_outs=False)
        thread.join()
    assert (outcome.reason, outcome.may_retry, served) == (Reason.NOT_FETCHED, False, [])
    assert "TLS" in (outcome.detail or "")


def _serve_one(listening: socket.socket, context: ssl.SSLContext, served: list[bytes]) -> None:
    listening.settimeout(20)
    raw, _ = listening.accept()
    try:
        with context.wrap_socket(raw, server_side=True) as connection:
            served.append(connection.recv(1000))
    except OSError:
        raw.close()


def test_a_bomb_is_not_unpacked(server: CrawlServer) -> None:
    import tracemalloc

    tracemalloc.start()
    fetch(server.url("/bomb/1.jpg"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30 * 2**20  # of 100


def test_settings_ask_for_a_contact() -> None:
    for agent in ("testbot/1.0", "1bot (+https://a.test)", "tést (+https://a.test)", "bot\n(+https://a.test)", ""):
        with pytest.raises(ValueError, match="it must"):
            settings(user_agent=agent)
    assert settings(user_agent="My-Bot/2 (+https://a.test)").agent_token == "my-bot"
    for host in ("http://a.test", "a.test:80", "*.a.test", ""):
        with pytest.raises(ValueError, match="one host"):
            settings(allow_hosts=[host])


def test_waits_are_really_kept() -> None:
    """The clock of the delay is the loop's, which no change of the machine's time moves."""
    began = time.monotonic()
    with crawl_server(["127.0.0.2"]) as server:
        fetch(server.url("/broken/1.png"), retries=2, backoff_s=0.1, robots=False, opt_outs=False)
    assert server.paths() == ["/broken/1.png"] * 3
    assert time.monotonic() - began > 0.3
