"""Run folders: whole rows after any kill, resume under an equal configuration only."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgrpo.canonical import canonical_json, differences, fingerprint
from tfgrpo.errors import RunError
from tfgrpo.runs import RunDir, list_runs, run_name
from tfgrpo.types import StepRecord, Usage

ROOT = Path(__file__).parents[2]
CONFIG = {"seed": 3, "tasks": {"kind": "procedural", "families": ("sum",)}, "limit": None}
WRITER = """
import sys
from pathlib import Path
from tfgrpo.runs import RunDir
path, first = Path(sys.argv[1]), int(sys.argv[2])
run = RunDir.resume(path, {"seed": 1})
print("ready", flush=True)
for i in range(first, first + 100_000):
    run.append("rows.jsonl", {"i": i, "text": "é" * (i % 997)})
    run.write_json("whole.json", list(range(i % 500)))
"""
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=4)
    ),
    max_leaves=12,
)


def new_run(path: Path) -> RunDir:
    return RunDir.create(path, CONFIG, "learn")


def test_a_run_reads_back_as_it_was_written(tmp_path: Path) -> None:
    rows = [{"i": i, "text": "a\nb\u2028ü", "none": None} for i in range(3)]
    with new_run(tmp_path / "a" / "run") as run:
        for row in rows:
            run.append("steps.jsonl", row)
        run.write_text("library/1.md", "naïve")
        run.write_bytes("weights.bin", b"\x00\xff")
    read = RunDir.open(run.path)
    assert read.kind == "learn"
    assert read.config == json.loads(json.dumps(CONFIG))
    assert list(read.read_rows("steps.jsonl")) == rows
    assert list(read.read_rows("missing.jsonl")) == []
    assert read.file("library/1.md").read_text(encoding="utf-8") == "naïve"
    assert read.file("weights.bin").read_bytes() == b"\x00\xff"
    assert read.read_json("environment.json")["seed"] == 3
    assert not list(run.path.rglob("*.tmp"))


def test_the_environment_is_recorded_without_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-value")
    with new_run(tmp_path) as run:
        environment = run.read_json("environment.json")
    assert set(environment) == {"created", "python", "platform", "packages", "commit", "seed"}
    assert environment["packages"]["numpy"]
    assert all(b"sk-secret" not in f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())


def test_thirty_kills_leave_only_whole_rows(tmp_path: Path) -> None:
    """Each life goes on from what stands, so in the end the rows must count 0, 1, 2, ..."""
    rng = random.Random(7)
    RunDir.create(tmp_path, {"seed": 1}, "learn").close()
    count = 0
    for _ in range(30):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(count)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(rng.random() * 0.05)
            writer.send_signal(signal.SIGKILL)
        with RunDir.resume(tmp_path, {"seed": 1}) as run:
            rows = list(run.read_rows("rows.jsonl"))
            assert [row["i"] for row in rows] == list(range(len(rows)))
            assert len(rows) >= count
            count = len(rows)
            if run.file("whole.json").exists():
                whole = run.read_json("whole.json")
                assert whole == list(range(len(whole)))
    assert count > 30
    assert not list(tmp_path.rglob(".*.tmp"))


@pytest.mark.parametrize("torn", [b'{"i":2', b'{"i":2,"text":"\xc3', b"\x00" * 64, b"\x00\x00\n"])
def test_a_torn_last_row_is_cut_off_with_a_notice(tmp_path: Path, torn: bytes) -> None:
    with new_run(tmp_path) as run:
        run.append("rows.jsonl", {"i": 0})
        run.append("rows.jsonl", {"i": 1})
    with (tmp_path / "rows.jsonl").open("ab") as file:
        file.write(torn)
    assert [r["i"] for r in RunDir.open(tmp_path).read_rows("rows.jsonl")] == [0, 1]
    assert (tmp_path / "rows.jsonl").read_bytes().endswith(torn)
    with RunDir.resume(tmp_path, CONFIG) as run:
        assert [n for n in run.notices if "rows.jsonl" in n and str(len(torn)) in n]
        run.append("rows.jsonl", {"i": 2})
        assert [r["i"] for r in run.read_rows("rows.jsonl")] == [0, 1, 2]


def test_every_cut_of_a_file_leaves_a_prefix_of_its_rows(tmp_path: Path) -> None:
    rows = [{"i": i, "text": "x" * i} for i in range(4)]
    with new_run(tmp_path) as run:
        for row in rows:
            run.append("rows.jsonl", row)
    data = (tmp_path / "rows.jsonl").read_bytes()
    for length in range(len(data) + 1):
        (tmp_path / "rows.jsonl").write_bytes(data[:length])
        expected = data[:length].count(b"\n")
        assert list(RunDir.open(tmp_path).read_rows("rows.jsonl")) == rows[:expected]


def test_damage_before_the_last_row_is_an_error(tmp_path: Path) -> None:
    with new_run(tmp_path) as run:
        (tmp_path / "rows.jsonl").write_text('{"i":0}\nbroken\n{"i":2}\n')
        with pytest.raises(RunError, match=r"rows\.jsonl, line 2, is damaged"):
            list(run.read_rows("rows.jsonl"))


def test_resume_refuses_another_configuration_and_names_the_keys(tmp_path: Path) -> None:
    new_run(tmp_path).close()
    other = {"seed": 4, "tasks": {"kind": "procedural", "families": ["sum"]}, "n": 8}
    with pytest.raises(RunError) as caught:
        RunDir.resume(tmp_path, other)
    message = str(caught.value)
    assert "seed was 3, now 4" in message
    assert "limit" not in message, "null and absent both mean not set"
    assert "n was absent, now 8" in message
    assert "tasks" not in message.split("(")[1]
    assert not (tmp_path / "resumed.jsonl").exists()


def test_resume_records_its_environment(tmp_path: Path) -> None:
    new_run(tmp_path).close()
    with RunDir.resume(tmp_path, CONFIG) as run:
        assert [set(row) >= {"python", "commit"} for row in run.read_rows("resumed.jsonl")] == [
            True
        ]


def test_replay_appends_what_is_new_and_checks_what_stands(tmp_path: Path) -> None:
    with new_run(tmp_path) as run:
        assert run.ensure_row("steps.jsonl", 0, {"reward": 0.5, "seconds": 1.25})
        assert run.ensure_row("steps.jsonl", 1, {"reward": 0.75})
    with RunDir.resume(tmp_path, CONFIG) as run:
        before = run.file("steps.jsonl").read_bytes()
        assert not run.ensure_row("steps.jsonl", 0, {"seconds": 9.0, "reward": 0.5})
        with pytest.raises(RunError, match=r"row 1 of .*reward was 0\.75, now 0\.5"):
            run.ensure_row("steps.jsonl", 1, {"reward": 0.5})
        with pytest.raises(RunError, match="has 2 rows, so row 3"):
            run.ensure_row("steps.jsonl", 3, {"reward": 1.0})
        assert run.file("steps.jsonl").read_bytes() == before
        assert run.ensure_row("steps.jsonl", 2, {"reward": 1.0})


def test_replay_takes_step_records_whatever_the_clock_said(tmp_path: Path) -> None:
    def record(seconds: float, calls: int) -> StepRecord:
        usage = {"rollout": Usage(calls=calls, seconds=seconds)}
        return StepRecord(0, 0, "p", 0.5, {"mixed": 2}, 0, usage)

    with new_run(tmp_path) as run:
        assert run.ensure_row("steps.jsonl", 0, record(1.0, 4))
        assert not run.ensure_row("steps.jsonl", 0, record(2.0, 4))
        with pytest.raises(RunError, match=r"usage\.rollout\.calls was 4, now 5"):
            run.ensure_row("steps.jsonl", 0, record(1.0, 5))


def test_one_writer_at_a_time_and_readers_always(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    with pytest.raises(RunError, match=f"being written by process {os.getpid()}"):
        RunDir.resume(tmp_path, CONFIG)
    reader = RunDir.open(tmp_path)
    with pytest.raises(RunError, match="reading only"):
        reader.append("rows.jsonl", {})
    run.close()
    with pytest.raises(RunError, match="reading only"):
        run.write_text("note.txt", "late")
    RunDir.resume(tmp_path, CONFIG).close()


def test_create_never_overwrites(tmp_path: Path) -> None:
    new_run(tmp_path / "run").close()
    with pytest.raises(RunError, match="not empty"):
        new_run(tmp_path / "run")
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="is a file"):
        new_run(tmp_path / "file")


def test_a_killed_creation_can_be_repeated(tmp_path: Path) -> None:
    new_run(tmp_path).close()
    (tmp_path / "config.json").rename(tmp_path / ".config.json.1.tmp")
    with pytest.raises(RunError, match="is no run folder"):
        RunDir.open(tmp_path)
    new_run(tmp_path).close()
    assert RunDir.open(tmp_path).kind == "learn"


@pytest.mark.parametrize(
    "text", ["{", '{"model_type":"qwen3"}', '{"schema":99,"kind":"","config":{}}']
)
def test_foreign_folders_are_no_runs(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RunError):
        RunDir.open(tmp_path)


@pytest.mark.parametrize(
    "name", ["../x.jsonl", "/x.jsonl", "a/../../x.jsonl", "", ".", "link/x.jsonl"]
)
def test_names_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with new_run(tmp_path / "run") as run:
        (run.path / "link").symlink_to(tmp_path)
        for act in (run.file, lambda n: run.append(n, {}), lambda n: list(run.read_rows(n))):
            with pytest.raises(RunError, match="outside the run"):
                act(name)
    assert not (tmp_path / "x.jsonl").exists()


def test_undefined_numbers_and_foreign_values_are_refused(tmp_path: Path) -> None:
    with new_run(tmp_path) as run:
        with pytest.raises(RunError, match="use null"):
            run.append("rows.jsonl", {"x": float("nan")})
        with pytest.raises(TypeError, match="set has no JSON form"):
            run.append("rows.jsonl", {"x": {1}})
        with pytest.raises(RunError, match=r"ends in \.jsonl"):
            run.append("rows.txt", {})
        assert list(run.read_rows("rows.jsonl")) == []


def test_runs_are_listed_oldest_first_wherever_they_lie(tmp_path: Path) -> None:
    for name, created in [("b", "2026-01-02"), ("deep/a", "2026-01-03"), ("c", "2026-01-01")]:
        with new_run(tmp_path / name) as run:
            run.write_json("environment.json", {"created": created})
            run.write_text("checkpoint/config.json", "{}")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "note.txt").touch()
    found = [str(run.path.relative_to(tmp_path)) for run in list_runs(tmp_path)]
    assert found == ["c", "b", "deep/a"]
    assert list_runs(tmp_path / "missing") == ()


def test_run_names_are_readable_and_follow_the_configuration() -> None:
    now = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    name = run_name("learn", CONFIG, now)
    assert name.rpartition("-")[0] == "learn-20260304-050607"
    assert name == run_name("learn", dict(reversed(CONFIG.items())), now)
    assert name != run_name("learn", CONFIG | {"seed": 4}, now)


@given(JSON)
def test_canonical_json_round_trips_in_one_line(value: object) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert "\n" not in text
    assert canonical_json(json.loads(text)) == text
    assert differences(value, json.loads(text)) == []


@given(st.dictionaries(st.text(), JSON, max_size=5), st.randoms())
def test_canonical_json_ignores_the_order_of_keys(
    value: dict[str, object], rng: random.Random
) -> None:
    shuffled = list(value.items())
    rng.shuffle(shuffled)
    assert fingerprint(dict(shuffled)) == fingerprint(value)


@given(JSON, JSON)
def test_differences_are_told_exactly_where_there_are_any(a: object, b: object) -> None:
    assert bool(differences(a, b)) == (canonical_json(a) != canonical_json(b))


def test_lone_surrogates_survive(tmp_path: Path) -> None:
    with new_run(tmp_path) as run:
        run.append("rows.jsonl", {"text": "a\ud83db\\"})
        assert list(run.read_rows("rows.jsonl")) == [{"text": "a\ud83db\\"}]


def test_a_full_disk_takes_the_row_back(tmp_path: Path) -> None:
    """The limit on file size cuts a write short exactly as a full disk does."""
    code = """
import resource, sys
from pathlib import Path
from tfgrpo.errors import RunError
from tfgrpo.runs import RunDir
run = RunDir.resume(Path(sys.argv[1]), {"seed": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
run.write_json("whole.json", "old")
for act in (lambda: [run.append("rows.jsonl", {"text": "x" * 50}) for _ in range(99)],
            lambda: run.append("rows.jsonl", {"text": "x" * 50}),
            lambda: run.write_text("whole.json", "x" * 2000)):
    try:
        act()
    except (RunError, OSError) as error:
        print(type(error).__name__, error)
"""
    RunDir.create(tmp_path, {"seed": 1}, "learn").close()
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["RunError"] * 3, done.stderr
    assert done.stdout.count("mend that, then resume.") == 3
    with RunDir.resume(tmp_path, {"seed": 1}) as run:
        assert run.notices == []
        assert len(list(run.read_rows("rows.jsonl"))) == 1000 // len('{"text":""}\n' + "x" * 50)
        assert run.read_json("whole.json") == "old"
        assert not list(tmp_path.rglob(".*.tmp"))
