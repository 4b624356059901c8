"""dcgan describe: the layers of a preset's networks, what they cost, and where the preset leaves the paper."""

import json
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from training.departures import Departure, answers, departures
from training.plan import Plan, Shape, discriminator_plan, generator_plan
from training.presets import PRESETS, Preset, PresetError, resolve


def describe(
    preset: Annotated[str, typer.Argument(help=f"A preset: {', '.join(PRESETS)}")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as width=64")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON instead of tables")] = False,
) -> None:
    """Show a preset's layers, shapes, parameters and operations, and where it departs from the paper."""
    settings = resolve(preset, **dict(_change(change) for change in changes or ()))
    console = Console(markup=False, soft_wrap=True)
    if as_json:
        console.print(json.dumps(description(settings), indent=2), highlight=False)
        return
    for title, plan in (("Generator", generator_plan(settings)), ("Discriminator", discriminator_plan(settings))):
        console.print(_layers(title, plan))
    console.print(
        f"z: {settings.z_dim}-d {settings.z_distribution}. Images: {settings.size_px}x{settings.size_px}, "
        f"{'RGB' if settings.image_channels == 3 else 'grey'}, -1..1. /2: stride 2. "
        "FLOPs: 2 for each multiply-add, forward, for one sample.",
        highlight=False,
    )
    if settings.classes:
        console.print(f"+{settings.classes}: the one-hot label, a value or a map for each class.", highlight=False)
    if found := departures(settings):
        console.print(_table("Departs from the paper", found))
    if taken := answers(settings):
        console.print(_table("Where the paper is silent", taken))


def description(preset: Preset) -> dict[str, Any]:
    """All that is shown, as plain values."""
    networks = {"generator": generator_plan(preset), "discriminator": discriminator_plan(preset)}
    return {
        "preset": preset.model_dump(),
        **{name: _plain(plan) for name, plan in networks.items()},
        "departures": [departure._asdict() for departure in departures(preset)],
        "answers": [answer._asdict() for answer in answers(preset)],
    }


def _plain(plan: Plan) -> dict[str, Any]:
    layers = [
        {
            "name": layer.name,
            "kind": layer.kind,
            "in": list(layer.in_shape),
            "out": list(layer.out_shape),
            "kernel": layer.kernel if layer.kind != "dense" else None,
            "stride": layer.stride if layer.kind != "dense" else None,
            "norm": layer.norm,
            "activation": layer.activation,
            "parameters": layer.parameters,
            "flops": layer.flops,
            **({"labels": layer.labels} if layer.labels else {}),
        }
        for layer in plan
    ]
    return {
        "layers": layers,
        "parameters": sum(layer.parameters for layer in plan),
        "flops": sum(layer.flops for layer in plan),
    }


def _change(change: str) -> tuple[str, Any]:
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise PresetError(f"--set {change}: expected key=value, such as width=64")
    try:
        return key, yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PresetError(f"--set {change}: {text} is not valid YAML") from error


def _layers(title: str, plan: Plan) -> Table:
    table = Table(title=title, title_justify="left", show_footer=True)
    parameters, flops = sum(layer.parameters for layer in plan), sum(layer.flops for layer in plan)
    for name, footer in (("layer", "all"), ("in", ""), ("out", ""), ("kernel", ""), ("then", "")):
        table.add_column(name, footer)
    table.add_column("parameters", f"{parameters:,}", justify="right")
    table.add_column("MFLOPs", f"{flops / 1e6:,.2f}", justify="right")
    for layer in plan:
        kernel = "" if layer.kind == "dense" else f"{layer.kernel}x{layer.kernel} /{layer.stride}"
        norm = {"none": "", "units": "norm of units", "channels": "norm"}[layer.norm]
        activation = "" if layer.activation == "none" else layer.activation
        then = ", ".join(word for word in (norm, activation) if word)
        table.add_row(
            layer.name,
            _shape(layer.in_shape) + (f" +{layer.labels}" if layer.labels else ""),
            _shape(layer.out_shape),
            kernel,
            then,
            f"{layer.parameters:,}",
            f"{layer.flops / 1e6:,.2f}",
        )
    return table


def _shape(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _table(title: str, lines: list[Departure]) -> Table:
    table = Table("setting", "here", "paper", "whose, or why", title=title, title_justify="left")
    for line in lines:
        paper = "silent" if line.paper is None else str(line.paper)
        table.add_row(line.setting, str(line.value), paper, line.why)
    return table
