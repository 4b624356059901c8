"""Opt-outs from being used to train on: X-Robots-Tag and the W3C community's TDM reservation protocol."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.crawl.robots import Pattern, normal_path, read_pattern

TDM_PATH = "/.well-known/tdmrep.json"
TDM_LARGEST_BYTES = 500 * 1024

_NO_TRAINING = {"noai", "noimageai"}
# Directives that have a value of their own behind a colon, so that what stands before it is no agent's name.
_WITH_VALUE = {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}


def header_opt_out(headers: Mapping[str, str], all_robots_tags: Iterable[str], agent: str) -> str | None:
    """The header that says that its image is not to be trained on, None where none does.

    `agent`: our product token in small letters; a tag that names another agent is not meant for us.
    """
    for tag in all_robots_tags:
        directives = tag
        before, colon, rest = tag.partition(":")
        if colon and "," not in before and before.strip().lower() not in _WITH_VALUE:
            if before.strip().lower() != agent:
                continue
            directives = rest
        if _NO_TRAINING & {directive.strip().lower() for directive in directives.split(",")}:
            return f"X-Robots-Tag: {tag.strip()}"
    if headers.get("tdm-reservation", "").strip() == "1":
        return "tdm-reservation: 1"
    return None


def reserved_patterns(text: bytes) -> tuple[Pattern, ...]:
    """The path patterns that a tdmrep.json reserves; none where it is not valid."""
    try:
        rules = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    found: list[Pattern | None] = []
    for rule in rules if isinstance(rules, list) else []:
        if isinstance(rule, dict) and _is_one(rule.get("tdm-reservation")):
            locations = rule.get("location")
            places = locations if isinstance(locations, list) else [locations]
            texts = [place for place in places if isinstance(place, str) and place.startswith(("/", "*"))]
            found += map(read_pattern, texts)
    return tuple(pattern for pattern in found if pattern is not None)


def reserving_pattern(patterns: Iterable[Pattern], path: str) -> str | None:
    """The pattern that reserves a path, None where none does. One that matches is enough, whatever others say."""
    normal = normal_path(path)
    return next((pattern.text for pattern in patterns if pattern.matches(normal)), None)


def _is_one(value: Any) -> bool:
    return value is not True and value in (1, "1")
