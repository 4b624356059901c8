"""The page on which exemplars of concepts are chosen by hand among samples of a generator."""

from manifests.pages.template import environment

FILE = "exemplars.json"


def exemplars_page(checkpoint: str, called: str, seed: int, samples: list[str]) -> str:
    """The page to choose exemplars on, as HTML: one file with all it needs, which loads nothing.

    checkpoint: what tells the generator from others, saved with the choice; called: its name, for people; samples: the
    pictures as data URIs, numbered from 1.
    """
    return (
        environment()
        .get_template("exemplars.html")
        .render(checkpoint=checkpoint, called=called, seed=seed, samples=samples, file=FILE)
    )
