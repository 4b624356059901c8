"""Export: what other runtimes compute is what torch does, for either statistics and every preset."""

import contextlib
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from shard_fixture import draw_images, write_shards

from manifests.store import Folder
from pipelines.commands.export import first_images
from training import export as exporting
from training.adversarial import new_players
from training.checkpoint import Checkpoint
from training.draws import Stream, one_hot
from training.export import FILES, ExportError, export
from training.networks import Discriminator, Generator, reference_statistics
from training.presets import PRESETS, Preset, resolve
from training.samples import Statistics, fixed_z
from training.snapshot import of_players

CPU = torch.device("cpu")


def made(name: str = "svhn-32", **changes: object) -> Checkpoint:
    """A checkpoint of small networks with gains and biases that show."""
    players = new_players(resolve(name, width=4, **changes), 3, CPU)
    with torch.no_grad():
        draw = torch.Generator().manual_seed(0)
        for network in (players.generator, players.discriminator):
            for key, value in network.named_parameters():
                if "norm" in key:
                    value.add_(torch.randn(value.shape, generator=draw) * 0.3)
    return of_players(players, seed=3, samples=100, update=7, seconds=1.0)


def networks(checkpoint: Checkpoint) -> tuple[Preset, Generator, Discriminator]:
    preset = Preset.model_validate(checkpoint.preset)
    generator, discriminator = Generator(preset), Discriminator(preset)
    generator.load_state_dict(checkpoint.generator)
    discriminator.load_state_dict(checkpoint.discriminator)
    return preset, generator, discriminator


def ran(file: Path, name: str, values: torch.Tensor, labels: np.ndarray | None = None) -> torch.Tensor:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    given = {name: values.numpy()} if labels is None else {name: values.numpy(), "labels": labels}
    (result,) = session.run(None, given)
    return torch.from_numpy(result)


@pytest.mark.parametrize("name", [name for name in PRESETS if not PRESETS[name].classes])
def test_batch_statistics_are_each_batchs_own_in_any_runtime(name: str, tmp_path: Path) -> None:
    checkpoint = made(name)
    export(checkpoint, Folder(tmp_path), "batch")
    preset, generator, discriminator = networks(checkpoint)
    for images in (4, 9):
        z = torch.from_numpy(fixed_z(preset, 1, images))
        with torch.no_grad():
            pictures = generator(z)
            logits = discriminator(pictures)
        torch.testing.assert_close(ran(tmp_path / "generator.onnx", "z", z), pictures, rtol=1e-3, atol=1e-4)
        found = ran(tmp_path / "discriminator.onnx", "images", pictures.contiguous())
        torch.testing.assert_close(found, logits, rtol=1e-3, atol=1e-4)
        assert found.shape == (images,)


@pytest.mark.parametrize("name", ["svhn-32", "imagenet-32", "mnist-28", "torch-4x4"])
def test_standing_statistics_treat_each_sample_by_itself(name: str, tmp_path: Path) -> None:
    checkpoint = made(name)
    preset, generator, discriminator = networks(checkpoint)
    draw = torch.Generator().manual_seed(0)
    real = torch.rand(20, preset.image_channels, preset.size_px, preset.size_px, generator=draw) * 2 - 1
    export(checkpoint, Folder(tmp_path), "standing", real)
    reference = torch.from_numpy(fixed_z(preset, checkpoint.seed, 512, Stream.FILL))
    z = torch.from_numpy(fixed_z(preset, 1, 5))
    with torch.no_grad(), reference_statistics(generator, reference):
        pictures = generator(z)
        with reference_statistics(discriminator, real):
            logits = discriminator(pictures)
    torch.testing.assert_close(ran(tmp_path / "generator.onnx", "z", z), pictures, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ran(tmp_path / "generator.onnx", "z", z[2:3]), pictures[2:3], rtol=1e-3, atol=1e-4)
    found = ran(tmp_path / "discriminator.onnx", "images", pictures.contiguous())
    torch.testing.assert_close(found, logits, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        ran(tmp_path / "discriminator.onnx", "images", pictures[:1].contiguous()), logits[:1], rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("name", ["mnist-28-conditional", "torch-4x4", "paper-64"])
@pytest.mark.parametrize("statistics", ["batch", "standing"])
def test_networks_with_classes_take_labels(name: str, statistics: Statistics, tmp_path: Path) -> None:
    checkpoint = made(name, classes=10)
    preset, generator, discriminator = networks(checkpoint)
    draw = torch.Generator().manual_seed(0)
    real = torch.rand(30, preset.image_channels, preset.size_px, preset.size_px, generator=draw) * 2 - 1
    of_real, labels = np.arange(30) // 3, np.array([3, 9, 0, 3, 7])
    export(checkpoint, Folder(tmp_path), statistics, real if statistics == "standing" else None, of_real)
    z = torch.from_numpy(fixed_z(preset, 1, 5, labels=labels))
    y = torch.from_numpy(one_hot(labels, 10))
    reference = torch.from_numpy(fixed_z(preset, checkpoint.seed, 512, Stream.FILL))
    with torch.no_grad(), contextlib.ExitStack() as stack:
        if statistics == "standing":
            stack.enter_context(reference_statistics(generator, reference))
            stack.enter_context(reference_statistics(discriminator, real, torch.from_numpy(one_hot(of_real, 10))))
        pictures = generator(z)
        logits = discriminator(pictures, y)
    found = ran(tmp_path / "generator.onnx", "z", z[:, : preset.z_dim].contiguous(), labels)
    torch.testing.assert_close(found, pictures, rtol=1e-3, atol=1e-4)
    found = ran(tmp_path / "discriminator.onnx", "images", pictures.contiguous(), labels)
    torch.testing.assert_close(found, logits, rtol=1e-3, atol=1e-4)


def test_without_real_images_d_keeps_each_batchs_own_statistics(tmp_path: Path) -> None:
    checkpoint = made()
    export(checkpoint, Folder(tmp_path), "standing")
    _, _, discriminator = networks(checkpoint)
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        own = discriminator(images)
    torch.testing.assert_close(ran(tmp_path / "discriminator.onnx", "images", images), own, rtol=1e-3, atol=1e-4)
    assert "conv2_norm.running_mean" not in load_file(tmp_path / "discriminator.safetensors")
    assert "deconv2_norm.running_mean" in load_file(tmp_path / "generator.safetensors")
    text = (tmp_path / "README.md").read_text()
    assert "| G's batch norm | standing: of 512 z;" in text
    assert "| D's batch norm | batch: each batch's own;" in text
    assert "which it never had in training" not in text


def test_safetensors_hold_the_weights_and_the_statistics(tmp_path: Path) -> None:
    checkpoint = made()
    real = torch.from_numpy(draw_images(20, size_px=32)).permute(0, 3, 1, 2).float() / 127.5 - 1
    export(checkpoint, Folder(tmp_path / "real"), "standing", real)
    export(checkpoint, Folder(tmp_path / "batch"), "batch")
    assert sorted(path.name for path in (tmp_path / "real").iterdir()) == sorted(FILES)
    plain = load_file(tmp_path / "batch" / "discriminator.safetensors")
    assert set(plain) == set(checkpoint.discriminator)
    card = (tmp_path / "real" / "README.md").read_text()
    assert "| D's batch norm | standing: of 20 training images;" in card
    assert "D's batch norm has the fixed statistics of real images, which it never had in training" in card
    held = load_file(tmp_path / "real" / "discriminator.safetensors")
    assert all(torch.equal(held[key], value) for key, value in checkpoint.discriminator.items())
    assert set(held) - set(plain) == {f"conv{n}_norm.running_{of}" for n in (2, 3) for of in ("mean", "var")}
    _, _, discriminator = networks(checkpoint)
    with torch.no_grad():
        first = torch.nn.functional.leaky_relu(discriminator.get_submodule("conv1")(real), 0.2)
        second = discriminator.get_submodule("conv2")(first)
    torch.testing.assert_close(held["conv2_norm.running_mean"], second.mean((0, 2, 3)), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(
        held["conv2_norm.running_var"], second.var((0, 2, 3), correction=0), rtol=1e-3, atol=1e-6
    )


def test_the_card_says_what_it_is_and_its_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, statistics in (
        ("mnist-28", "standing"),
        ("paper-64", "batch"),
        ("svhn-32", "standing"),
        ("mnist-28-conditional", "standing"),
    ):
        folder = tmp_path / name
        checkpoint = made(name)
        export(checkpoint, Folder(folder), "standing" if statistics == "standing" else "batch")
        text = (folder / "README.md").read_text()
        images_seen = 7 * resolve(name).batch_images
        for said in (
            f"preset {name}",
            f"| images seen | {images_seen:,} |",
            "| seed | 3 |",
            f"| G's batch norm | {statistics}: ",
            "`training` is a module of dcgan-pipeline",
            "-1..1",
        ):
            assert said in text
        monkeypatch.chdir(folder)
        blocks = [block.partition("```")[0] for block in text.split("```python\n")[1:]]
        assert len(blocks) == 2
        for block in blocks:
            values: dict[str, object] = {}
            exec(block, values)  # the code is our own card's
            images = values["images"]
            assert isinstance(images, np.ndarray | torch.Tensor)
            channels = resolve(name).image_channels
            assert isinstance(values["logits"], np.ndarray | torch.Tensor)
            assert tuple(values["logits"].shape) == (64,)
            assert tuple(images.shape) == (64, channels, resolve(name).size_px, resolve(name).size_px)


def test_the_same_checkpoint_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        export(made(), Folder(tmp_path / folder), "batch")
    for name in FILES:
        digests = {hashlib.sha256((tmp_path / f / name).read_bytes()).hexdigest() for f in ("a", "b")}
        assert len(digests) == 1, name
    model = onnx.load(tmp_path / "a" / "generator.onnx")
    told = {p.key: p.value for p in model.metadata_props}
    assert (told["preset"], told["images_seen"]) == ("svhn-32", "448")
    with safe_open(tmp_path / "a" / "generator.safetensors", "pt") as file:
        assert json.loads(file.metadata()["about"]) == told
    assert {node.op_type for node in model.graph.node}.isdisjoint({"BatchNormalization"})


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    checkpoint = made()
    checkpoint.generator["deconv2.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(
        ExportError, match=r"checkpoint-000000448: deconv2.weight of the generator is not finite; take an"
    ):
        export(checkpoint, Folder(tmp_path), "batch")


def test_without_onnx_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "training.onnx_graph", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ExportError, match=r"not installed; pip install 'dcgan-pipeline\[export\]'"):
        exporting.export(made(), Folder(tmp_path), "batch")
    assert not list(tmp_path.iterdir())


def test_the_first_training_images_are_read_in_order_and_in_range(tmp_path: Path) -> None:
    images = draw_images(25, size_px=32)
    shards = Folder(tmp_path / "shards")
    write_shards(shards, images, per_shard=10)
    write_shards(shards, 255 - images, per_shard=10, split="heldout")
    read = first_images(shards, resolve("svhn-32"))
    expected = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    torch.testing.assert_close(read, expected)
    grey = first_images(shards, resolve("svhn-32", image_channels=1))
    assert grey.shape == (25, 1, 32, 32)
    luma = (expected * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(grey, luma, rtol=0, atol=0.01)
    with pytest.raises(ExportError, match="an image is 32x32, the checkpoint's are 64 px"):
        first_images(shards, resolve("paper-64"))
    with pytest.raises(ExportError, match=r"holds no index.parquet; name a run's shards"):
        first_images(Folder(tmp_path), resolve("svhn-32"))
