"""The pages' templates, and how numbers and text are shown in them."""

import base64
import math

import jinja2

DASH = "\N{EN DASH}"


def environment() -> jinja2.Environment:
    """The templates beside this file, with the filters below."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("manifests", "pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    templates.filters.update(
        number=number, percent=percent, printable=printable, duration=duration, megabytes=megabytes
    )
    templates.globals["dash"] = DASH
    return templates


def number(value: float | None, digits: int = 0) -> str:
    """12345 -> 12,345; nothing -> an en dash."""
    return DASH if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def percent(value: float | None) -> str:
    """0.0421 -> 4.2 %. What is not all is never shown as all, nor what is not nothing as nothing."""
    if value is None or not math.isfinite(value):
        return DASH
    if 0 < value < 0.001:
        return "< 0.1\N{NO-BREAK SPACE}%"
    if 0.999 < value < 1:
        return "> 99.9\N{NO-BREAK SPACE}%"
    digits = 0 if value in (0, 1) else 1
    return f"{value * 100:.{digits}f}\N{NO-BREAK SPACE}%"


def printable(text: str, limit: int = 120) -> str:
    """Text from data that can be shown: control marks as escapes, the middle of long text left out."""
    if len(text) > limit:
        text = text[: limit * 2 // 3] + " … " + text[-limit // 3 :]
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def duration(seconds: float) -> str:
    """Seconds in words: 7.4 s, 3 min 12 s, 5 h 04 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def megabytes(size_bytes: int) -> str:
    """Bytes as MB (10^6)."""
    return f"{size_bytes / 1e6:,.2f}" if size_bytes < 1e8 else f"{size_bytes / 1e6:,.0f}"


def image_uri(data: bytes, kind: str = "png") -> str:
    """An image file's bytes as an address, so that a page holds it within itself."""
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()
