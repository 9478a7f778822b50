"""The folder of pins: who may have it, what is left in it, and that it can be removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from modelward_agent.sensor import Sensor, SensorError, pins

pytestmark = pytest.mark.kernel


def test_nothing_is_pinned_once_a_sensor_is_closed(root: Path) -> None:
    Sensor.open(pins=root).leave()
    assert pins.present(root)
    Sensor.open(pins=root).close()
    assert not root.exists()


def test_pins_can_be_removed_with_no_agent_running(root: Path) -> None:
    Sensor.open(pins=root).leave()
    removed = pins.remove(root)
    assert str(root) in removed
    assert any("link_on_exec" in path for path in removed)
    assert not pins.present(root)
    assert pins.remove(root) == []


def test_a_second_agent_on_the_same_pins_is_refused_and_harms_nothing(root: Path) -> None:
    sensor = Sensor.open(pins=root)
    try:
        with pytest.raises(SensorError, match=str(root)):
            Sensor.open(pins=root)
        assert pins.present(root)
    finally:
        sensor.close()


def test_pins_outside_a_bpf_file_system_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SensorError, match="bpf file system"):
        Sensor.open(pins=tmp_path / "pins")


def test_a_folder_of_another_user_holds_no_pins(root: Path) -> None:
    root.mkdir()
    os.chown(root, 65534, 65534)
    try:
        with pytest.raises(SensorError, match="belongs to user 65534"):
            pins.PinFolder.open(root)
        assert root.stat().st_mode & 0o777 == 0o755
    finally:
        root.rmdir()


def test_a_link_in_place_of_the_folder_is_not_followed(root: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "kept").touch()
    root.symlink_to(tmp_path)
    try:
        with pytest.raises(SensorError, match="cannot use the pin folder"):
            pins.PinFolder.open(root)
        assert pins.remove(root) == []
        assert (tmp_path / "kept").exists()
        assert tmp_path.stat().st_mode & 0o777 == 0o755
    finally:
        root.unlink()


def test_what_was_left_half_pinned_is_removed(root: Path) -> None:
    (root / "unfinished").mkdir(parents=True)
    (root / "00000007").mkdir()
    sensor = Sensor.open(pins=root)
    try:
        assert not (root / "unfinished").exists()
        assert not (root / "00000007").exists()
    finally:
        sensor.close()


def test_each_state_folder_has_pins_of_its_own(tmp_path: Path) -> None:
    assert pins.folder_of(Path("/var/lib/modelward-agent")) == pins.PINS
    assert pins.folder_of(tmp_path / "a") == pins.folder_of(tmp_path / "b" / ".." / "a") != pins.folder_of(tmp_path / "b")
