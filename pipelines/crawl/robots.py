"""robots.txt, as RFC 9309 reads it; and its path patterns, which TDM reservations use too."""

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

LARGEST_BYTES = 500 * 1024
"""What is read of a robots.txt; RFC 9309, section 2.5, asks for at least so much."""

_LONGEST_PATTERN = 2000


@dataclass(frozen=True)
class Rules:
    """What a robots.txt says to one agent: (allowed, pattern) pairs and the delay it asks for."""

    rules: tuple[tuple[bool, str], ...] = ()
    delay_s: float = 0.0

    def forbids(self, path: str) -> str | None:
        """The pattern that forbids a path (with its query), None where none does: the longest that matches decides.

        Of an Allow and a Disallow of one length the Allow does.
        """
        matching = [(len(pattern), allowed, pattern) for allowed, pattern in self.rules if matches(pattern, path)]
        if not matching:
            return None
        _, allowed, pattern = max(matching)
        return None if allowed else pattern


def read_rules(text: bytes, agent: str) -> Rules:
    """The rules for an agent's product token (small letters): those of all groups that name it, else those for `*`."""
    ours: list[tuple[str, str]] = []
    all_agents: list[tuple[str, str]] = []
    named = False
    group: list[list[tuple[str, str]]] = []
    in_head = False
    for key, value in _lines(text):
        if key == "user-agent":
            if not in_head:
                group, in_head = [], True
            token = re.match(r"[a-z_-]*", value.lower())
            if value.strip() == "*":
                group.append(all_agents)
            elif token is not None and token.group() == agent:
                group.append(ours)
                named = True
        elif key in ("allow", "disallow", "crawl-delay"):
            in_head = False
            for rules in group:
                rules.append((key, value))
    chosen = ours if named else all_agents
    said = tuple((key == "allow", value) for key, value in chosen if key != "crawl-delay" and value)
    return Rules(said, max((_seconds(value) for key, value in chosen if key == "crawl-delay"), default=0.0))


def _lines(text: bytes) -> list[tuple[str, str]]:
    lines = text[:LARGEST_BYTES].decode("utf-8-sig", "replace").splitlines()
    pairs = (line.partition("#")[0].partition(":") for line in lines)
    return [(key.strip().lower(), value.strip()) for key, colon, value in pairs if colon]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        return 0.0
    return seconds if 0 < seconds < float("inf") else 0.0


def matches(pattern: str, path: str) -> bool:
    """Whether a pattern matches a path from its start: `*` is any characters, `$` at the end is the path's end."""
    if len(pattern) > _LONGEST_PATTERN:
        return False
    anchored = pattern.endswith("$")
    pieces = _normal(pattern.removesuffix("$") if anchored else pattern).split("*")
    text = _normal(path)
    if not text.startswith(pieces[0]):
        return False
    at = len(pieces[0])
    # Each piece as early as it comes; of an anchored pattern the last piece must also end the path. Never slow.
    for piece in pieces[1:-1] if anchored else pieces[1:]:
        found = text.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    if not anchored:
        return True
    if len(pieces) == 1:
        return at == len(text)
    return len(text) - len(pieces[-1]) >= at and text.endswith(pieces[-1])


@lru_cache(4096)
def _normal(path: str) -> str:
    """One spelling for each path: what may stand plainly does, all else is escaped (RFC 9309, section 2.2.2)."""
    steps = re.split(r"(%2[Ff]|%2[Aa]|%24)", path)
    return "".join(
        step.upper() if number % 2 else quote(unquote_to_bytes(step), safe="/*$:@!&'()+,;=?~-._")
        for number, step in enumerate(steps)
    )
