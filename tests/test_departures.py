"""Departures: every difference to the paper is told, with whose it is, and dcgan describe shows it all."""

import json
import typing

import pytest
import torch
import typer
from typer.testing import CliRunner

from pipelines.commands import describe
from training.departures import answers, departures
from training.networks import build
from training.plan import discriminator_plan, generator_plan
from training.presets import PRESETS, Preset, PresetError, resolve


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_setting_that_differs_is_told_with_a_reason(name: str) -> None:
    preset, paper = PRESETS[name], PRESETS["paper-64"]
    differing = {key for key in Preset.model_fields if key != "name" and getattr(preset, key) != getattr(paper, key)}
    told = departures(preset)
    assert {line.setting for line in told} == differing
    assert all(line.value == getattr(preset, line.setting) for line in told)
    assert all(line.why and not line.why.startswith("set so") for line in told)
    assert not differing & {line.setting for line in answers(preset)}
    assert all(line.paper is None for line in answers(preset))


def test_the_papers_own_network_departs_nowhere_and_names_what_its_authors_code_answers() -> None:
    assert departures(PRESETS["paper-64"]) == []
    assert {"alternate", "weight_decay", "norm_eps", "first_norm"} <= {a.setting for a in answers(PRESETS["paper-64"])}


def test_what_a_user_sets_is_not_put_down_to_others() -> None:
    (line,) = departures(resolve("paper-64", width=24))
    assert (line.setting, line.value, line.paper) == ("width", 24, 128)
    assert line.why.startswith("set so; neither the paper's")


@pytest.mark.parametrize(
    ("of", "setting", "value"),
    [
        ("svhn-32", "batch_images", 64),
        ("svhn-32", "learning_rate", 5e-4),
        ("imagenet-32", "z_dim", 256),
        ("torch-4x4", "norm_eps", 1e-5),
        ("torch-4x4", "weight_decay", 0.0),
    ],
)
def test_a_users_number_is_not_another_presets(of: str, setting: str, value: float) -> None:
    (line,) = departures(resolve("paper-64", **{setting: value}))
    assert line.why.startswith("set so; neither the paper's")
    (theirs,) = (line for line in departures(PRESETS[of]) if line.setting == setting)
    assert theirs.value == value
    assert not theirs.why.startswith("set so")


def test_gains_and_missing_biases_are_told_as_they_are_built() -> None:
    told = {line.setting: line.value for line in answers(resolve("paper-64", width=4, deviation=0.1))}
    assert (told["batch norm's gains"], told["biases"]) == ("N(1, 0.1)", "none beside weights")
    for network in build(resolve("paper-64", width=8, deviation=0.1), 0, torch.device("cpu")):
        gains = torch.cat([w for name, w in network.state_dict().items() if name.endswith("_norm.weight")])
        assert float(gains.std()) == pytest.approx(0.1, rel=0.2)
        assert float(gains.mean()) == pytest.approx(1, abs=0.03)
        assert not [name for name in network.state_dict() if name.endswith("bias") and "norm" not in name]


def test_every_choice_of_a_setting_has_a_reason() -> None:
    for name, field in Preset.model_fields.items():
        if typing.get_origin(field.annotation) is not typing.Literal or name in ("size_px", "image_channels"):
            continue
        for value in typing.get_args(field.annotation):
            changed = PRESETS["paper-64"].model_copy(update={name: value})
            assert not any(line.why.startswith("set so") for line in departures(changed)), (name, value)


app = typer.Typer()
app.command()(describe.describe)


def shown(*words: str) -> str:
    result = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert result.exception is None, result.output
    return result.output


@pytest.mark.parametrize("name", list(PRESETS))
def test_describe_shows_each_layer_and_the_sums(name: str) -> None:
    text = shown(name)
    for plan in (generator_plan(PRESETS[name]), discriminator_plan(PRESETS[name])):
        for layer in plan:
            assert f" {layer.name} " in text
        assert f"{sum(layer.parameters for layer in plan):,}" in text
        assert f"{sum(layer.flops for layer in plan) / 1e6:,.2f}" in text
    for line in departures(PRESETS[name]):
        assert f" {line.setting} " in text


def test_describe_as_json_follows_changes() -> None:
    told = json.loads(shown("imagenet-32", "--json", "--set", "width=64", "--set", "loss=hinge"))
    assert (told["preset"]["width"], told["preset"]["loss"]) == (64, "hinge")
    assert [layer["out"] for layer in told["discriminator"]["layers"]][:2] == [[64, 32, 32], [64, 16, 16]]
    assert told["generator"]["parameters"] == sum(layer["parameters"] for layer in told["generator"]["layers"])
    assert {"width", "loss"} <= {line["setting"] for line in told["departures"]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["paper"], "no preset 'paper'; the nearest is 'paper-64'"),
        (["paper-64", "--set", "widht=3"], "no setting 'widht'; the nearest is 'width'"),
        (["paper-64", "--set", "width"], "--set width: expected key=value"),
        (["paper-64", "--set", "width=[1"], "is not valid YAML"),
        (["mnist-28", "--set", "size_px=64"], "set size_px=28"),
    ],
)
def test_describe_tells_what_to_mend(words: list[str], message: str) -> None:
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, PresetError)
    assert message in str(result.exception)
