"""Rows of metrics, their means over an interval, and what TensorBoard gets."""

import json
from pathlib import Path

import pytest
import torch
from tensorboardX.proto.event_pb2 import Event

from manifests.store import Folder
from training.metrics import Interval, MetricsLog, Row, not_finite, place, read_rows, rounded


def row(update: int, **figures: float | None) -> Row:
    return place(update, 128, 1000) | {"loss_d": 1.0 / update, "loss_g": None, "images_per_s": 9.5} | figures


def events(folder: Folder) -> list[Event]:
    """TensorBoard's events of all files, in order. A record: length, its checksum, the event, its checksum."""
    found = []
    for name in sorted(folder.child("tensorboard").names()):
        data = folder.child("tensorboard").read_bytes(name)
        while data:
            size = int.from_bytes(data[:8], "little")
            event = Event()
            event.ParseFromString(data[12 : 12 + size])
            found.append(event)
            data = data[12 + size + 4 :]
    return found


def scalars(folder: Folder) -> dict[tuple[str, int], float]:
    return {(v.tag, e.step): v.simple_value for e in events(folder) for v in e.summary.value if not v.HasField("image")}


def test_a_place_counts_in_images() -> None:
    assert place(125, 128, 5000) == {"update": 125, "images_seen": 16000, "kimg": 16.0, "epoch": 3.2}


def test_an_intervals_row_holds_the_means_of_the_updates_that_measured_something() -> None:
    interval = Interval(torch.device("cpu"))
    for value in (1.0, 2.0, 6.0):
        interval.add({"loss_d": torch.tensor(value), "grad_d": torch.tensor(10 * value)}, 8, 0.0)
    interval.add({"loss_g": torch.tensor(0.123456789)}, 8, 0.0)
    found = interval.row()
    assert found["loss_d"] == 3
    assert found["grad_d"] == 30
    assert found["loss_g"] == 0.123457
    assert found["grad_g"] is None
    assert found["d_real"] is None
    assert found["images_per_s"] > 0
    assert 0 <= found["data_wait_share"] <= 1


def test_sums_of_half_precision_figures_do_not_stall() -> None:
    interval = Interval(torch.device("cpu"))
    for _ in range(1000):
        interval.add({"loss_d": torch.tensor(1.0, dtype=torch.bfloat16)}, 1, 0.0)
    assert interval.row()["loss_d"] == 1


def test_small_figures_keep_their_digits() -> None:
    assert rounded({"grad_g": 1.23456789e-9, "swd": 412.3456789, "loss_d": None}) == {
        "grad_g": 1.23457e-9,
        "swd": 412.346,
        "loss_d": None,
    }


def test_what_is_not_finite_is_named() -> None:
    bad = row(3, loss_g=float("nan"), grad_d=float("inf"))
    assert not_finite(bad) == ["loss_g", "grad_d"]
    assert not_finite(row(3)) == []


def test_tensorboard_gets_every_figure_by_images_seen(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with MetricsLog(folder, 0) as log:
        log.add(row(1, grad_g=0.5, swd=400.0, swd_32=300.0, learning_rate=2e-4))
        log.add(row(2))
        log.save()
    assert scalars(folder) == pytest.approx(
        {
            ("loss_d", 128): 1.0,
            ("images_per_s", 128): 9.5,
            ("grad_g", 128): 0.5,
            ("swd", 128): 400.0,
            ("swd_32", 128): 300.0,
            ("learning_rate", 128): 2e-4,
            ("loss_d", 256): 0.5,
            ("images_per_s", 256): 9.5,
        }
    )
    assert read_rows(folder) == [
        row(1, grad_g=0.5, swd=400.0, swd_32=300.0, learning_rate=2e-4),
        row(2),
    ]


def test_a_resumed_log_keeps_the_rows_up_to_its_checkpoint(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with MetricsLog(folder, 0) as log:
        for update in (10, 20, 30):
            log.add(row(update))
        log.save()
        log.add(row(40))  # lost in a kill
    with MetricsLog(folder, 20) as log:
        assert [kept["update"] for kept in log.rows] == [10, 20]
        log.add(row(30, loss_d=7.0))
        log.save()
    assert [(kept["update"], kept["loss_d"]) for kept in read_rows(folder)] == [(10, 0.1), (20, 0.05), (30, 7.0)]
    # TensorBoard drops what an earlier file holds at or above the later file's SessionLog.START step.
    starts = [e.step for e in events(folder) if e.HasField("session_log")]
    assert starts[-1] == 20 * 128 + 1


def test_a_run_that_went_back_makes_its_rows_again(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with MetricsLog(folder, 0) as log:
        for update in (10, 20, 30):
            log.add(row(update))
        log.drop_after(10)
        log.add(row(20, loss_d=3.0))
        log.save()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss_d"] for line in lines] == [0.1, 3.0]
    assert [e.step for e in events(folder) if e.HasField("session_log")] == [0, 1281]
    assert scalars(folder)["loss_d", 2560] == 3


def test_pictures_in_colour_and_grey_reach_tensorboard(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with MetricsLog(folder, 0) as log:
        for channels in (1, 3):
            log.add_picture(f"samples-{channels}", torch.zeros(8, 9, channels, dtype=torch.uint8).numpy(), 640)
        log.save()
    shown = {(v.tag, e.step): v.image.width for e in events(folder) for v in e.summary.value if v.HasField("image")}
    assert shown == {("samples-1", 640): 9, ("samples-3", 640): 9}
