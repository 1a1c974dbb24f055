"""What a person types: help, mistakes, exit codes, inspect."""

import errno
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from paramdiff import __version__, cli
from paramdiff.cli import main
from paramdiff.files import save_tensors, write_json
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.progress import say
from paramdiff.runs.commands import COMMANDS
from paramdiff.runs.launch import composed
from paramdiff.zoo.zoo import Zoo


def test_help_and_import_load_nothing_heavy():
    code = (
        "import sys, paramdiff, paramdiff.cli as c; c.main(['--help']); light = 'tqdm' not in sys.modules; "
        "c.main(['run', '--help']); print('torch' in sys.modules or not light)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    assert "digits_full" in done.stdout, "the help lists the recipes"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]):
    assert main([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: paramdiff {command}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rnu"], "there is no command 'rnu'; did you mean run"),
        (["run", "zoo.kk=3"], "zoo.kk: no such key; did you mean k"),
        (["inspect"], "arguments are required: PATH; see `paramdiff inspect --help`"),
        (["inspect", "--json", "x", "select=a", "y"], "2 paths; expected one"),
        (["inspect", "x", "k=3"], "k: not a key of inspect; expected task=, task.KEY=, select= or group="),
        (
            ["inspect", "x", "task=digits", "--config-dir", "nowhere"],
            "--config-dir: there is no folder nowhere",
        ),
        (["-x", "run"], "-x: not a flag of paramdiff; did you mean"),
        (["run", "-m3"], "-m: ignored explicit argument '3'; see `paramdiff run --help`"),
        (["inspect", "nowhere"], "nowhere does not exist"),
        (["inspect", "x", "--jsn"], "--jsn: not a flag of inspect; did you mean --json"),
        (["run", "zoo=import"], "zoo.path: no value; give zoo.path=..."),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1 and lines[0].startswith("paramdiff: error: ") and message in lines[0]
    assert not list(tmp_path.iterdir()), "a mistake leaves nothing behind"


def test_what_may_not_be_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def refuse(self: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_file", refuse)
    assert main(["inspect", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(": Permission denied; check the permissions")


def checkpoints(folder: Path, k: int, dim: int = 6, same: bool = False) -> Path:
    generator = torch.Generator().manual_seed(0)
    for i in range(k):
        v = torch.zeros(dim) if same else torch.randn(dim, generator=generator)
        save_tensors(folder / f"step_{i}.safetensors", {"fc.weight": v, "fc.bias": torch.ones(1)})
    return folder


def test_inspect_any_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = checkpoints(tmp_path / "zoo", 5)
    assert main(["inspect", str(folder), "select=fc.weight"]) == 0
    text = capsys.readouterr().out
    assert "K = 5 checkpoints, D = 6 parameters" in text and "What to expect" in text
    assert main(["inspect", str(folder), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["k"] == 5 and facts["dim"] == 7 and facts["constant"] == pytest.approx(1 / 7)


@pytest.mark.parametrize(
    ("k", "same", "advice"),
    [(1, False, "K = 1 checkpoint is too few"), (3, True, "All checkpoints are identical")],
)
def test_inspect_reports_a_hopeless_zoo(
    k: int, same: bool, advice: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["inspect", str(checkpoints(tmp_path / "zoo", k, same=same)), "select=fc.weight"]) == 0
    assert advice in capsys.readouterr().out


def test_inspect_scores_midpoints_of_a_zoo_that_knows_its_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from paramdiff.runs.config import plain
    from paramdiff.tasks import TASKS, make_task

    settings = TASKS["digits"]()
    model = make_task(settings).model()
    spec = ParameterSpec.from_model(model, "last_norms:2")
    v = spec.flatten(model.state_dict())
    vectors = v + 0.01 * torch.randn(6, spec.dim, generator=torch.Generator().manual_seed(0))
    Zoo(vectors, spec, model.state_dict(), about={"task": plain(settings)}).save(tmp_path / "zoo")
    assert main(["inspect", str(tmp_path / "zoo")]) == 0
    assert "midpoints:  accuracy" in capsys.readouterr().out


def test_a_task_that_is_gone_does_not_stop_inspect(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = checkpoints(tmp_path / "a", 3)
    zoo = Zoo.from_checkpoints(folder)
    zoo.about["task"] = {"kind": "OwnTask", "name": "gone.away:Task", "options": {}}
    zoo.save(tmp_path / "zoo")
    assert main(["inspect", str(tmp_path / "zoo")]) == 0
    assert "midpoints:  not scored" in capsys.readouterr().out


def test_report_of_an_unfinished_run_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_json(tmp_path / "r" / "manifest.json", {"stages": {}})
    assert main(["report", f"run_dir={tmp_path / 'r'}"]) == 2
    assert "run the earlier stages first" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ValueError("a\nb \x1b[31m"), 1, "ValueError: a b ; PARAMDIFF_TRACEBACK=1 shows where"),
        (MemoryError(), 1, "the memory does not suffice"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
            1,
            "the memory does not suffice",
        ),
        (RecursionError("maximum recursion depth exceeded"), 1, "nested too deeply, or in itself"),
        (OSError(errno.ENOSPC, "No space left on device", "x.json"), 1, "x.json: No space left on device"),
        (AssertionError(), 1, "AssertionError: ;"),
        (KeyboardInterrupt(), 130, "stopped"),
        (SystemExit(77), 1, ""),
        (SystemExit("bye"), 1, "bye"),
        (SystemExit(2), 2, ""),
        (SystemExit(None), 0, ""),
    ],
)
def test_whatever_happens_is_one_line_and_one_of_four_codes(
    error: BaseException,
    code: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def fail(words: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_dispatch", fail)
    assert main(["run"]) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == bool(text) and re.search(text, "".join(lines))


def test_the_whole_traceback_is_there_for_who_asks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv(cli.TRACEBACK, "1")
    monkeypatch.setattr(cli, "_dispatch", lambda words: 1 // 0)
    assert main(["run"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_has_gone_is_no_failure():
    code = "import sys; from paramdiff.cli import main; sys.exit(main(['run', '--help']))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait() == 0 and said == b""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--k", "10"], "--k: not a flag of run; expected key=value; did you mean zoo.k=10"),
        (["--experiment=digits_full"], "did you mean experiment=digits_full"),
        (["--lr=3"], "did you mean zoo.lr=3"),
        (["--config-dir"], "--config-dir: no value; give --config-dir DIR"),
        (["--cfg", "x"], "--cfg: 'x' is not known; expected one of job, hydra, all"),
        (["--experimental-rerun", "x.pickle"], "--experimental-rerun: not a flag of run"),
    ],
)
def test_a_flag_that_does_not_exist_is_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["run", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["zoo.k=20,30", "run_dir=here"], "2 of the 2 runs of this sweep would be in"),
        (["zoo.k=20,1"], "zoo.k: 1 is out of range"),
    ],
)
def test_a_sweep_is_looked_at_as_a_whole_before_it_starts(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "-m", *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_completion_registers_this_program_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    assert main(["run", "-sc", "install=bash"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("-F hydra_bash_completion paramdiff")
    for line, found in (
        ("paramdiff sa", "sample\n"),
        ("paramdiff compare --c", "--config-dir --cfg\n"),
        ("paramdiff run -q --cfg j", "job\n"),
        ("paramdiff run -q -m zoo.pret", "zoo.pretrain.\n"),
        ("paramdiff inspect zo", ""),
    ):
        monkeypatch.setenv("COMP_LINE", line)
        assert main(["-sc", "query=bash"]) == 0
        assert capsys.readouterr().out == found
    assert main(["-sc", "install=tcsh"]) == 2


def test_flags_and_settings_stand_in_any_order(monkeypatch: pytest.MonkeyPatch):
    launched: list[list[str]] = []
    monkeypatch.setattr(
        "paramdiff.runs.launch.launch", lambda name, words: launched.append([name, *words]) or 0
    )
    assert main(["run", "-m", "n=3", "--config-dir", "mine", "seed=1,2", "-q", "--cfg=job"]) == 0
    assert main(["-q", "compare", "n=3"]) == 0
    assert launched == [
        ["run", "-m", "--config-dir=mine", "--cfg=job", "n=3", "seed=1,2"],
        ["compare", "n=3"],
    ]


def test_nothing_is_said_where_that_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def talk(name: str, words: list[str]) -> int:
        say("working")
        print("result")
        return 0

    monkeypatch.setattr("paramdiff.runs.launch.launch", talk)
    monkeypatch.delenv("PARAMDIFF_QUIET")
    for words, said in ((["run"], f"paramdiff {__version__}: loading ...\nworking\n"), (["run", "-q"], "")):
        assert main(words) == 0
        assert capsys.readouterr() == ("result\n", said)


def test_the_examples_of_the_help_exist():
    lines = [
        re.split(r"\s{2,}", line.strip())[0] for line in cli.EXAMPLES.splitlines() if "paramdiff run " in line
    ]
    settings = [
        [w.partition(",")[0] for w in line.split()[2:] if "=" in w] for line in lines if "run " in line[:14]
    ]
    assert len(settings) == 2
    for words in settings:
        composed(words)
