"""Backup and restore: of a running collector, of one that crashed, interrupted, damaged, and onto what must not be touched."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from modelward_collector import cli
from modelward_collector.data_folder import DataFolder, DataFolderError
from modelward_collector.store import engine
from modelward_collector.store.backup import manifest
from modelward_collector.store.ddl.migrations import Lifetimes, migrate, shipped
from modelward_collector.store.held import Held
from modelward_collector.store.insert import Outcome, StoreBusy, Writer
from modelward_collector.store.journal import Journal
from modelward_proto.v1.store_pb2 import AppendRequest

from tests.batches import Agent, envelope, events, identity
from tests.running import collector
from tests.unit.test_store_groups import request

COMMAND = (sys.executable, "-m", "modelward_collector.cli")


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False, **options)


class Store:
    """The writer on the store of a data folder, while no collector runs on it."""

    def __init__(self, root: Path, retention_days: int = 30) -> None:
        self.folder = DataFolder(root)
        self.folder.create()
        self.lane = engine.Lane("test", self.folder.engine)
        self.lane.call(lambda c: migrate(c, retention_days))
        self.writer = Writer(Journal(self.folder.journal), Held(), self.folder.scratch)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.lane.close()

    def store(self, *requests: AppendRequest) -> list[Outcome | StoreBusy]:
        return self.lane.call(lambda c: self.writer.store(c, requests))

    def settle(self) -> None:
        self.lane.call(self.writer.settle)

    def change(self, statement: str) -> None:
        self.lane.call(lambda c: engine.execute(c, statement))

    def counts(self) -> tuple[int, ...]:
        """Rows of events, detections, bindings, batches."""
        tables = ("events_raw", "detections_raw", "bindings", "batches")
        counts = (self.lane.call(lambda c, t=t: engine.rows(c, f"SELECT count() FROM modelward.{t}")) for t in tables)
        return tuple(int(count) for [[count]] in counts)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of two days, 20 events, a detection, a binding and a quarantined payload, made with no collector running."""
    root = tmp_path_factory.mktemp("saved")
    with Store(root / "data") as store:
        assert store.store(request(1, detected=True), request(2, days_ago=1), request(3, bound=True)) == [Outcome()] * 3
        (store.folder.quarantine / "aa").mkdir()
        (store.folder.quarantine / "aa" / "1.arrow").write_bytes(b"payload")
    done = run("backup", "--data", root / "data", "--to", root / "backup")
    assert done.returncode == 0, done.stderr
    assert "21 events of 2 days" in done.stdout
    assert not list((root / "data" / "snapshots").iterdir())
    return root / "backup"


def copy_of(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def test_while_the_collector_stores_a_backup_holds_all_that_was_acknowledged_and_a_resend_doubles_nothing(tmp_path: Path) -> None:
    batches = {n: envelope(n, events(10, seed=n)) for n in range(1, 101)}
    batches[5] = envelope(5, identity(7, "tiny"))
    with collector(tmp_path) as first, Agent(first.grpc_address) as agent:
        agent.wait_welcome()
        agent.send(*(batches[n] for n in range(1, 31)))
        agent.wait_answered(*range(1, 31))

        def more() -> None:
            for n in range(31, 101):
                agent.send(batches[n])
                time.sleep(0.01)

        sending = threading.Thread(target=more)
        sending.start()
        before = set(agent.stored)
        done = run("backup", "--data", first.data, "--to", tmp_path / "backup")
        assert done.returncode == 0, done.stderr
        sending.join()
        agent.wait_answered(*batches)
        assert [r["n"] for r in first.select("SELECT count() AS n FROM events")] == [991]
    assert run("restore", "--data", tmp_path / "new", "--from", tmp_path / "backup").returncode == 0
    with collector(tmp_path, data=tmp_path / "new") as second:
        stored = {r["batch"]: r["n"] for r in second.select("SELECT batch, count() AS n FROM events GROUP BY batch")}
        named = {r["batch"] for r in second.select("SELECT batch FROM batches")}
        assert named == set(stored) >= before
        assert {n: batches[n].rows for n in stored} == stored
        assert second.select("SELECT model_id FROM models") == [{"model_id": "tiny"}]
        with Agent(second.grpc_address) as agent:
            held = {n for r in agent.wait_welcome().held for n in range(r.first, r.last + 1)}
            assert held == named
            agent.send(*batches.values())
            agent.wait_answered(*batches)
        assert {r["batch"]: r["n"] for r in second.select("SELECT batch, count() AS n FROM events GROUP BY batch")} == {
            n: b.rows for n, b in batches.items()}


def test_a_restored_store_has_every_row_and_knows_its_batches(saved: Path, tmp_path: Path) -> None:
    done = run("restore", "--data", tmp_path / "data", "--from", saved)
    assert done.returncode == 0, done.stderr
    assert "21 events of 2 days" in done.stdout
    assert "agents send again what they still hold" in done.stdout
    assert (tmp_path / "data" / "quarantine" / "aa" / "1.arrow").read_bytes() == b"payload"
    with Store(tmp_path / "data") as store:
        assert store.counts() == (21, 1, 1, 3)
        assert store.store(request(1, detected=True), request(4)) == [Outcome(), Outcome()]
        assert store.counts() == (31, 1, 1, 4)


def test_a_group_that_a_crash_left_half_stored_is_settled_after_the_restore(tmp_path: Path) -> None:
    with Store(tmp_path / "data") as store:
        store.change("RENAME TABLE modelward.detections_raw TO modelward.away")
        [outcome] = store.store(request(1, detected=True))
        assert isinstance(outcome, StoreBusy)
        store.change("RENAME TABLE modelward.away TO modelward.detections_raw")
    assert run("backup", "--data", tmp_path / "data", "--to", tmp_path / "backup").returncode == 0
    assert run("restore", "--data", tmp_path / "new", "--from", tmp_path / "backup").returncode == 0
    with Store(tmp_path / "new") as store:
        assert store.counts() == (10, 0, 0, 0)
        store.settle()
        assert store.counts() == (10, 1, 0, 1)


def test_a_store_of_an_older_version_is_saved_and_restored_as_it_is_and_grows_at_the_next_start(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    lane = engine.Lane("old", folder.engine)
    lane.call(lambda c: migrate(c, 30))
    lane.call(lambda c: engine.execute(c, "DROP DATABASE modelward SYNC"))
    lane.call(lambda c: engine.execute(c, "CREATE DATABASE modelward"))
    lane.call(lambda c: engine.execute(
        c, "CREATE TABLE modelward.schema_migrations (number UInt32, name String, checksum String, "
           "applied_at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY number"))
    for migration in shipped()[:5]:
        for statement in migration.statements(Lifetimes(30, 30)):
            lane.call(lambda c, s=statement: engine.execute(c, s))
        lane.call(lambda c, m=migration: engine.execute(
            c, f"INSERT INTO modelward.schema_migrations VALUES ({m.number}, '{m.name}', '{m.checksum}', now())"))
    lane.call(lambda c: engine.execute(c, "ALTER TABLE modelward.events_raw DROP COLUMN raced"))
    lane.call(lambda c: engine.execute(c, "INSERT INTO modelward.events_raw (host_name, batch_time) VALUES ('a', now())"))
    lane.call(lambda c: engine.execute(c, "INSERT INTO modelward.detections_raw (detection_id, time) VALUES ('a', now())"))
    lane.close()
    assert run("backup", "--data", tmp_path / "data", "--to", tmp_path / "backup").returncode == 0
    assert [n for n, _ in manifest.read(tmp_path / "backup").migrations] == [1, 2, 3, 4, 5]
    assert run("restore", "--data", tmp_path / "new", "--from", tmp_path / "backup").returncode == 0
    with Store(tmp_path / "new") as store:
        assert store.counts() == (1, 1, 0, 0)
        [[raced]] = store.lane.call(lambda c: engine.rows(c, "SELECT raced FROM modelward.events"))
        assert raced is False


def test_checking_says_what_is_inside_and_makes_nothing(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["restore", "--from", str(saved), "--check"]) == 0
    assert "Whole: 21 events" in capsys.readouterr().out


def test_a_folder_that_holds_something_is_not_touched(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("x")
    assert cli.main(["restore", "--from", str(saved), "--data", str(tmp_path)]) == 4
    assert "holds something already" in capsys.readouterr().err
    assert cli.main(["backup", "--data", str(tmp_path), "--to", str(tmp_path / "b")]) == 4
    assert "no store" in capsys.readouterr().err
    assert cli.main(["backup", "--data", str(saved.parent / "data"), "--to", str(saved)]) == 5
    assert "exists already" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_a_folder_in_use_is_not_restored_into_and_one_backup_runs_at_a_time(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.root.mkdir()
    with folder.lock():
        assert cli.main(["restore", "--from", str(saved), "--data", str(folder.root)]) == 4
    assert "in use by another collector" in capsys.readouterr().err
    data = DataFolder(saved.parent / "data")
    with data.snapshots_locked():
        assert cli.main(["backup", "--data", str(data.root), "--to", str(tmp_path / "b")]) == 4
    assert "another backup" in capsys.readouterr().err


def test_a_restore_that_was_interrupted_is_no_data_folder(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = DataFolder(tmp_path / "data")
    process = subprocess.Popen([*COMMAND, "restore", "--data", str(folder.root), "--from", str(saved)])
    while not folder.restoring.exists() and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if not folder.restoring.exists():
        pytest.skip("the restore was done before it could be killed")
    with pytest.raises(DataFolderError, match="interrupted"):
        folder.create()
    assert cli.main(["restore", "--data", str(folder.root), "--from", str(saved)]) == 4
    assert "interrupted" in capsys.readouterr().err


def test_damage_is_found_before_anything_is_made(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = copy_of(saved, tmp_path)
    [part, *_] = sorted((copy / "events_raw").iterdir())
    whole = part.read_bytes()

    def refused(said: str) -> None:
        assert cli.main(["restore", "--from", str(copy), "--data", str(tmp_path / "data")]) == 5
        assert said in capsys.readouterr().err
        assert not (tmp_path / "data").exists()

    part.write_bytes(whole[:700] + bytes([whole[700] ^ 1]) + whole[701:])
    refused("checksum")
    part.unlink()
    refused("No such file")
    part.write_bytes(whole)
    path = copy / manifest.NAME
    text = path.read_text()
    path.write_text(text.replace('"rows": 10', '"rows": 11'))
    refused("was changed")
    path.write_text(text[:-20])
    refused("damaged")
    path.write_text("[]")
    refused("not the manifest")
    path.unlink()
    refused("no whole backup")


def signed(body: dict[str, Any]) -> str:
    """A manifest as somebody writes it who knows how its checksum is made."""
    body.pop("checksum", None)
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return json.dumps({"checksum": sha256(text.encode()).hexdigest(), **body})


@pytest.mark.parametrize(("change", "said"), [
    ({"format": 2}, "format 2"),
    ({"migrations": [[9999, "x"]]}, "newer collector"),
    ({"migrations": [[1, "x"]]}, "changed after"),
    ({"files": [{"name": "../../etc/passwd", "bytes": 1, "sha256": ""}]}, "no name"),
    ({"files": [{"name": "a.tar", "bytes": 1, "sha256": "", "table": "x; DROP", "part": "p"}]}, "no name"),
    ({"files": [{"name": "a.tar", "bytes": 1, "sha256": "", "table": "x", "part": "../p"}]}, "no name"),
    ({"more": 1}, "cannot be read"),
])
def test_a_manifest_of_another_version_or_of_an_attacker_is_refused(
    saved: Path, tmp_path: Path, change: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = copy_of(saved, tmp_path)
    path = copy / manifest.NAME
    path.write_text(signed(json.loads(path.read_text()) | change))
    assert cli.main(["restore", "--from", str(copy), "--data", str(tmp_path / "data")]) == 5
    assert said in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("kind", ["outside", "link"])
def test_no_file_of_a_backup_lands_outside_the_data_folder(saved: Path, tmp_path: Path, kind: str) -> None:
    copy = copy_of(saved, tmp_path)
    with tarfile.open(copy / "quarantine.tar", "w") as tar:
        info = tarfile.TarInfo("../../../outside")
        if kind == "link":
            info.name, info.type, info.linkname = "link", tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info, io.BytesIO())
    path = copy / manifest.NAME
    body = json.loads(path.read_text())
    for file in body["files"]:
        if file["name"] == "quarantine.tar":
            file["sha256"] = sha256((copy / "quarantine.tar").read_bytes()).hexdigest()
    path.write_text(signed(body))
    done = run("restore", "--data", tmp_path / "data", "--from", copy)
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "outside").exists()


def test_a_disk_that_fills_up_leaves_nothing_that_looks_like_a_backup_or_a_store(saved: Path, tmp_path: Path) -> None:
    def small(limit: int = 12_000) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    to = tmp_path / "b"
    done = run("backup", "--data", saved.parent / "data", "--to", to, preexec_fn=small)
    assert done.returncode == 5, done.stderr
    assert "nothing is left" in done.stderr
    assert not list(tmp_path.iterdir())
    done = run("restore", "--data", tmp_path / "data", "--from", saved, preexec_fn=lambda: small(1_500))
    assert done.returncode == 5, done.stderr
    assert not (tmp_path / "data").exists()


def test_killed_at_any_moment_a_backup_is_whole_or_absent_and_the_next_one_cleans_up(saved: Path, tmp_path: Path) -> None:
    data, to = saved.parent / "data", tmp_path / "b"
    partial = to.with_name("b.partial")
    for delay_s in (0, 0.002, 0.01, 0.03, 0.06):
        shutil.rmtree(to, ignore_errors=True)
        process = subprocess.Popen([*COMMAND, "backup", "--data", str(data), "--to", str(to)])
        while not partial.exists() and process.poll() is None:
            time.sleep(0.001)
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert cli.main(["restore", "--from", str(partial), "--check"]) == 5 or to.exists()
        if to.exists():
            assert cli.main(["restore", "--from", str(to), "--check"]) == 0
    shutil.rmtree(to, ignore_errors=True)
    assert run("backup", "--data", data, "--to", to).returncode == 0
    assert not partial.exists()
    assert not list((data / "snapshots").iterdir())


def test_root_leaves_the_store_of_another_user_to_that_user(saved: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: gives a folder to another user")
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", 12345, 12345)
    assert run("restore", "--data", tmp_path / "data", "--from", saved).returncode == 0
    assert {p.lstat().st_uid for p in (tmp_path / "data").rglob("*")} == {12345}
