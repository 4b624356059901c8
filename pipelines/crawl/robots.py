"""robots.txt, as RFC 9309 reads it; and its path patterns, which TDM reservations use too."""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

LARGEST_BYTES = 500 * 1024
"""What is read of a robots.txt; RFC 9309, section 2.5, asks for at least so much."""

_LONGEST_PATTERN = 2000


@dataclass(frozen=True)
class Pattern:
    """A path pattern: `*` is any characters, `$` at the end is the path's end."""

    text: str  # as it was written
    pieces: tuple[str, ...]  # what stands between the `*`, in the spelling of `normal_path`
    anchored: bool

    def matches(self, path: str) -> bool:
        """Whether it matches a path, as `normal_path` spells it, from its start."""
        first, last = self.pieces[0], self.pieces[-1]
        if not path.startswith(first):
            return False
        at = len(first)
        # Each piece as early as it comes; of an anchored pattern the last piece must also end the path. Never slow.
        for piece in self.pieces[1:-1] if self.anchored else self.pieces[1:]:
            found = path.find(piece, at)
            if found < 0:
                return False
            at = found + len(piece)
        if not self.anchored:
            return True
        if len(self.pieces) == 1:
            return at == len(path)
        return len(path) - len(last) >= at and path.endswith(last)


def read_pattern(text: str) -> Pattern | None:
    """A pattern, in the spelling in which paths are compared with it; None where it is too long to be one."""
    if len(text) > _LONGEST_PATTERN:
        return None
    return Pattern(text, tuple(normal_path(text.removesuffix("$")).split("*")), text.endswith("$"))


def normal_path(path: str) -> str:
    """One spelling for each path: what may stand plainly does, all else is escaped (RFC 9309, section 2.2.2)."""
    # JSON may hold halves of a character, which no path matches.
    steps = re.split(rb"(%2[Ff]|%2[Aa]|%24)", path.encode("utf-8", "surrogatepass"))
    return "".join(
        step.decode().upper() if number % 2 else quote(unquote_to_bytes(step), safe="/*$:@!&'()+,;=?~-._")
        for number, step in enumerate(steps)
    )


@dataclass(frozen=True)
class Rules:
    """What a robots.txt says to one agent: (allowed, pattern) pairs and the delay it asks for."""

    rules: tuple[tuple[bool, Pattern], ...] = ()
    delay_s: float = 0.0

    @property
    def forbids_all(self) -> bool:
        """Whether nothing may be asked for, said in the plain way."""
        return [(allowed, pattern.text) for allowed, pattern in self.rules] == [(False, "/")]

    def forbids(self, path: str) -> str | None:
        """The pattern that forbids a path (with its query), None where none does: the longest that matches decides.

        Of an Allow and a Disallow of one length the Allow does.
        """
        normal = normal_path(path)
        matching = [
            (len(pattern.text), allowed, pattern.text) for allowed, pattern in self.rules if pattern.matches(normal)
        ]
        if not matching:
            return None
        _, allowed, text = max(matching)
        return None if allowed else text


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
    said = ((key == "allow", read_pattern(value)) for key, value in chosen if key != "crawl-delay" and value)
    read = tuple((allowed, pattern) for allowed, pattern in said if pattern is not None)
    return Rules(read, max((_seconds(value) for key, value in chosen if key == "crawl-delay"), default=0.0))


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
