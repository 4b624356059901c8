"""The page of a blind review, and what its answers say on the audit page."""

import shlex
from typing import Any

from manifests.pages.template import environment
from manifests.review import ANSWERS_FILE, FOLDER, TRUSTED_SHARE, groups_sha256
from manifests.store import Folder


def review_page(review_id: str, pairs: list[tuple[str, str]], address: str) -> str:
    """The page to judge pairs on, as HTML: one file with all it needs, which loads nothing.

    pairs: the left and right picture of each as data URIs, in the order in which they are shown. The page holds nothing
    else of them, so neither it nor its source tells which are controls. `address` is the run's, for what to type next.
    """
    return (
        environment()
        .get_template("review.html")
        .render(
            review_id=review_id,
            pairs=pairs,
            file=answers_name(review_id),
            command=answers_command(address, review_id),
        )
    )


def answers_name(review_id: str) -> str:
    """The file that the page saves its answers as."""
    return f"answers-{review_id}.json"


def answers_command(address: str, review_id: str) -> str:
    """What to type once the page has saved its answers."""
    return f"dcgan review {shlex.quote(address)} --answers {answers_name(review_id)}"


def section(run: Folder) -> dict[str, Any] | None:
    """What the answers say, with whether they are about the groups that the run has now; None without answers."""
    folder = run.child(FOLDER)
    if not folder.exists(ANSWERS_FILE):
        return None
    said = folder.read_json(ANSWERS_FILE)
    return {
        "figures": said["figures"],
        "current": said["groups_sha256"] == groups_sha256(run),
        "trusted_share": TRUSTED_SHARE,
    }
