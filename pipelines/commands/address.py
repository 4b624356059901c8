"""The option of the commands that work through Ray: where it runs."""

from typing import Annotated

import typer

Address = Annotated[
    str | None,
    typer.Option(metavar="ADDR", help="A Ray cluster's address, or auto; default: RAY_ADDRESS, else an embedded Ray"),
]
