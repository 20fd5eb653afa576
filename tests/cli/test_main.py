"""The command `paczero`: dispatch, one line for each refusal, exit codes, help that answers at once."""

import errno
import os
import subprocess
import sys
import types

import pytest

from paczero.cli import main as main_module
from paczero.cli.main import COMMANDS, main
from paczero.cli.parser import command_parser
from paczero.errors import IntegrityError, PACZeroError


@pytest.fixture
def command(monkeypatch):
    """Puts a command named `demo` in place whose `run` is the function given."""

    def install(run):
        module = types.SimpleNamespace(parser=lambda: command_parser("demo", "A test.", usage=""), run=run)
        monkeypatch.setitem(sys.modules, "paczero.cli.commands.demo", module)

    return install


def raising(error):
    def run(namespace):
        raise error

    return run


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]])
def test_overview_names_every_command(arguments, capsys):
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)
    assert "not whether a person is in the pool" in text


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("paczero 0.")


def test_arguments_of_the_process_are_the_default(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["paczero", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("paczero 0.")


def test_a_misspelt_command(capsys):
    assert main(["tran"]) == 2
    assert capsys.readouterr().err == "paczero: error: 'tran' is no command; did you mean train?\n"


def test_the_exit_code_is_the_commands(command):
    command(lambda namespace: 7)
    assert main(["demo"]) == 7


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (PACZeroError("steps: 0 was given;\n expected 1"), 2, "steps: 0 was given; expected 1"),
        (IntegrityError("step 3 is missing"), 1, "step 3 is missing"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyboardInterrupt("stopped; go on by x"), 130, "stopped; go on by x"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/x"), 2, "'runs/x': Permission denied"),
    ],
)
def test_refusals_are_one_line(command, capsys, error, code, line):
    command(raising(error))
    assert main(["demo"]) == code
    assert capsys.readouterr().err == f"paczero: error: {line}\n"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "runs/x/journal.jsonl"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_said_and_how_to_go_on(command, capsys, error):
    command(raising(error))
    assert main(["demo"]) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "no space left" in text and "--resume" in text


def test_no_memory(command, capsys):
    command(raising(MemoryError()))
    assert main(["demo"]) == 2
    assert "--batch_tokens" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("x"), OSError("no file named")])
def test_errors_of_ours_are_not_hidden(command, error):
    command(raising(error))
    with pytest.raises(type(error)):
        main(["demo"])


def test_a_closed_pipe_ends_quietly():
    read, write = os.pipe()
    os.close(read)  # the pipe has no reader
    with open(write, "wb") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "paczero", "-h"], stdout=stream, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_stream():
    """A result that cannot be written is an error; messages that cannot be written change nothing."""
    with open("/dev/full", "wb") as full:
        overview = [sys.executable, "-m", "paczero", "-h"]
        done = subprocess.run(overview, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert "no space left" in done.stderr and "--resume" not in done.stderr
        unknown = [sys.executable, "-m", "paczero", "bake"]
        assert subprocess.run(unknown, stderr=full, check=False).returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_stream_of_any_encoding(encoding):
    code = "from paczero.cli import main; main.overview = lambda: 'ε = 2'; main.main(['-h'])"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, check=True)
    assert done.stdout == b"? = 2\n"


def test_options_typed_wrong_are_one_line(command, capsys):
    command(lambda namespace: 0)
    assert main(["demo", "--fast"]) == 2
    assert capsys.readouterr().err == "paczero: error: --fast is no option here; -h lists those there are\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_worth_reading_and_loads_no_torch(name):
    code = (
        "import sys; from paczero.cli.main import main\n"
        f"code = main([{name!r}, '-h'])\n"
        "heavy = {'torch', 'transformers', 'datasets', 'peft', 'matplotlib'} & sys.modules.keys()\n"
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    head, _, options = done.stdout.partition("Options:")
    assert f"\n  paczero {name}" in head, "an example stands at the head"
    assert options.strip()


def test_every_command_is_a_file():
    package = os.path.dirname(main_module.__file__)
    assert all(os.path.isfile(os.path.join(package, "commands", f"{name}.py")) for name in COMMANDS)
