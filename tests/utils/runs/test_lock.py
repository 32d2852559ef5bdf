import os
import signal
import socket

import pytest

import test_2d
from dataloaders.files import InputError
from scripts import make_tables, prepare
from utils.runs import lock as folder_lock
from utils.runs.lock import LOCK, hold, release

pytest.importorskip("fcntl")


@pytest.fixture(autouse=True)
def released():
    yield
    release()


def test_a_second_process_is_refused_by_the_first_ones_name_until_it_ends(tmp_path, occupied):
    first = occupied(tmp_path / "run")
    with pytest.raises(InputError) as error:
        hold(tmp_path / "run")
    name = f"process {first.pid} on {socket.gethostname()}"
    assert str(error.value) == f"{tmp_path / 'run'}: in use by {name}; wait for it to finish, or stop it first"
    hold(tmp_path / "run", "test")  # another part of it
    hold(tmp_path / "other")
    first.send_signal(signal.SIGKILL)
    first.wait()
    hold(tmp_path / "run")
    assert (tmp_path / "run" / LOCK).read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"


def test_release_leaves_nothing_behind(tmp_path, occupied):
    (tmp_path / "kept").mkdir()
    hold(tmp_path / "kept" / "new" / "run")
    hold(tmp_path / "kept" / "new" / "run")  # by the same process
    hold(tmp_path / "full")
    (tmp_path / "full" / "file").touch()
    release()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full", "kept"]
    occupied(tmp_path / "full").communicate("")
    hold(tmp_path / "full")


def test_without_locks_or_the_right_to_write_nothing_happens(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    hold(tmp_path / "file" / "run")
    monkeypatch.setattr(folder_lock, "fcntl", None)
    hold(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def of_prepare(tmp_path, _):
    (tmp_path / "source").mkdir()
    flags = ["--name", "ACDC", "--source", tmp_path / "source", "--out", tmp_path / "out"]
    return prepare.main, flags, tmp_path / "out" / "ACDC", ""


def of_test(tmp_path, _):
    run = tmp_path / "runs" / "seed_1"
    run.mkdir(parents=True)
    (run / "best.pth").touch()
    return test_2d.main, ["--name", "ACDC", "--output_dir", tmp_path / "runs"], run, "test"


def of_tables(tmp_path, tested_run):
    flags = [tested_run("Ours_MT_5").parent, "--out", tmp_path / "tables" / "a.md"]
    return make_tables.main, flags, tmp_path / "tables", "a.md"


@pytest.mark.parametrize("lock", [of_prepare, of_test, of_tables], ids=lambda lock: lock.__name__)
def test_every_script_that_writes_a_folder_takes_the_lock(tmp_path, tested_run, occupied, capsys, lock):
    main, flags, folder, part = lock(tmp_path, tested_run)
    holder = occupied(folder, part)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, flags)))
    error = capsys.readouterr().err
    assert stop.value.code == 2 and f"in use by process {holder.pid} on" in error and error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
