"""robots.txt by RFC 9309, X-Robots-Tag and tdmrep.json."""

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.crawl import robots
from pipelines.crawl.optouts import header_opt_out, reserved_patterns, reserving_pattern
from pipelines.crawl.robots import LARGEST_BYTES, normal_path, read_pattern, read_rules


def forbids(text: str, path: str, agent: str = "testbot") -> bool:
    return read_rules(text.encode(), agent).forbids(path) is not None


def matches(text: str, path: str) -> bool:
    pattern = read_pattern(text)
    return pattern is not None and pattern.matches(normal_path(path))


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/", "/", True),
        ("/fish", "/fish.html", True),
        ("/fish", "/Fish", False),
        ("/fish*", "/fishheads", True),
        ("/fish/", "/fish", False),
        ("/*.php", "/folder/index.php?x=1", True),
        ("/*.php$", "/index.php?x=1", False),
        ("/*.php$", "/index.php", True),
        ("/fish*.php", "/fishheads/cat.php?p", True),
        ("/a$", "/a", True),
        ("/a$", "/ab", False),
        ("/a*a$", "/a", False),  # the two must not overlap
        ("*", "/anything", True),
        ("/foo/bar?baz=https://x", "/foo/bar?baz=https%3A%2F%2Fx", False),
        ("/foo/bar/%E3%83%84", "/foo/bar/ツ", True),
        ("/foo/bar/%62%61%7A", "/foo/bar/baz", True),
        ("/a%2fb", "/a%2Fb", True),
        ("/a%2Fb", "/a/b", False),
    ],
)
def test_patterns(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected


@given(st.text("ab*$/", max_size=8), st.text("ab/", max_size=12))
def test_patterns_are_what_a_regular_expression_says(pattern: str, path: str) -> None:
    anchored = pattern.endswith("$")
    body = pattern[:-1] if anchored else pattern
    expression = "".join(".*" if sign == "*" else re.escape(sign) for sign in body) + ("$" if anchored else "")
    assert matches(pattern, path) == (re.match(expression, path) is not None)


def test_a_pattern_can_not_be_slow() -> None:
    assert not matches("/" + "*a" * 900, "/" + "a" * 100 + "b" * 20000)


def test_a_pattern_that_is_too_long_is_none() -> None:
    assert matches("/" + "a" * 1999, "/" + "a" * 2000)
    assert not matches("/" + "a" * 2000, "/" + "a" * 2000)


def test_patterns_are_brought_to_one_spelling_as_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = read_rules(("User-agent: *\n" + "".join(f"Disallow: /%61{n}\n" for n in range(5000))).encode(), "testbot")
    reserved = reserved_patterns(b'[{"location": ["/%62", "/c"], "tdm-reservation": 1}]')
    spelt: list[bytes] = []

    def quoted(text: bytes, safe: str) -> str:
        spelt.append(text)
        return quote(text, safe)

    monkeypatch.setattr(robots, "quote", quoted)
    assert [rules.forbids(f"/a{n}") is not None for n in (7, 4999, 6000)] == [True, True, True]
    assert rules.forbids("/b") is None
    assert reserving_pattern(reserved, "/b") == "/%62"
    assert len(spelt) == 5


def test_the_longest_rule_decides_and_allow_before_disallow() -> None:
    text = "User-agent: *\nDisallow: /\nAllow: /images/\nDisallow: /images/private\nAllow: /same\nDisallow: /same"
    assert forbids(text, "/page")
    assert not forbids(text, "/images/1.jpg")
    assert forbids(text, "/images/private/1.jpg")
    assert not forbids(text, "/same/1.jpg")


def test_which_group_is_ours() -> None:
    text = """\ufeff# a comment
User-agent: otherbot
User-Agent: TestBot/2.0   # by name, in any letters
Disallow: /ours
Crawl-delay: 2.5

user-agent: *
disallow: /all
Sitemap: https://a.test/map.xml
User-agent: testbot
Disallow: /ours-too
User-agent: testbotter
Disallow: /theirs
"""
    assert {path for path in ("/ours", "/ours-too", "/all", "/theirs") if forbids(text, path)} == {"/ours", "/ours-too"}
    assert read_rules(text.encode(), "testbot").delay_s == 2.5
    assert {path for path in ("/ours", "/all") if forbids(text, path, "unnamed")} == {"/all"}
    assert read_rules(text.encode(), "unnamed").delay_s == 0
    # A group that names us and forbids nothing is better than the one for all.
    assert not forbids("User-agent: *\nDisallow: /\nUser-agent: testbot\nDisallow:", "/x")


def test_rubbish_forbids_nothing_and_breaks_nothing() -> None:
    for text in (
        "",
        "<html>\nDisallow: /\n</html>",
        "Disallow: /",
        "User-agent: *\nCrawl-delay: nan\nDisallow:",
        "\0:\0",
    ):
        rules = read_rules(text.encode(), "testbot")
        assert rules.forbids("/x") is None
        assert rules.delay_s == 0
    assert forbids("User-agent: *\r\nDisallow: /x\r\n", "/x")
    long = b"User-agent: *\nDisallow: /x\n#" + b"." * LARGEST_BYTES + b"\nDisallow: /y"
    assert read_rules(long, "testbot").forbids("/x")
    assert not read_rules(long, "testbot").forbids("/y")


@given(st.binary(max_size=300))
def test_no_bytes_break_the_readers(data: bytes) -> None:
    read_rules(b"User-agent: *\nDisallow: " + data, "testbot").forbids("/x")
    assert isinstance(reserved_patterns(data), tuple)


@pytest.mark.parametrize(
    ("tags", "out"),
    [
        (["noai"], True),
        (["NoImageAI, noindex"], True),
        (["noindex, nofollow"], False),
        (["none"], False),
        (["testbot: noai"], True),
        (["TestBot: noindex, noimageai"], True),
        (["otherbot: noai"], False),
        (["otherbot: noindex", "noai"], True),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST, noai"], True),
        (["max-snippet: 20", "noindex"], False),
        (["noindex, otherbot: noai"], False),
        ([], False),
    ],
)
def test_robots_tags(tags: list[str], out: bool) -> None:
    assert (header_opt_out({}, tags, "testbot") is not None) is out


def test_the_header_of_tdm_reservations() -> None:
    assert header_opt_out({"tdm-reservation": " 1"}, [], "testbot") == "tdm-reservation: 1"
    for value in ("0", "", "yes"):
        assert header_opt_out({"tdm-reservation": value}, [], "testbot") is None


def test_the_file_of_tdm_reservations() -> None:
    text = b"""[
        {"location": "/photos/*.jpg", "tdm-reservation": 1, "tdm-policy": "https://a.test/policy.json"},
        {"location": "/open/", "tdm-reservation": 0},
        {"location": ["/a", "/b$"], "tdm-reservation": "1"},
        {"location": 7, "tdm-reservation": 1}, {"tdm-reservation": 1}, 7
    ]"""
    patterns = reserved_patterns(text)
    assert [pattern.text for pattern in patterns] == ["/photos/*.jpg", "/a", "/b$"]
    assert reserving_pattern(patterns, "/photos/2020/1.jpg") == "/photos/*.jpg"
    assert reserving_pattern(patterns, "/b") == "/b$"
    assert reserving_pattern(patterns, "/open/1.jpg") is None
    for rubbish in (b"", b"{}", b"7", b"[[]]", b"not json", b"[" * 100_000, b"\xff\xfe"):
        assert reserved_patterns(rubbish) == ()
    (odd,) = reserved_patterns(rb'[{"location": "/\ud800*", "tdm-reservation": 1}]')
    assert reserving_pattern([odd], "/x") is None
