"""`paczero convert`: hands two paths on, says what to do next, refuses in one line."""

from paczero.cli.main import main
from paczero.models import gguf


def test_converts_and_says_what_to_type_next(monkeypatch, tmp_path, capsys):
    seen = []

    def convert(source, target):
        seen.append((source, target))
        return target

    monkeypatch.setattr(gguf, "convert_gguf", convert)
    assert main(["convert", str(tmp_path / "x.gguf"), str(tmp_path / "out")]) == 0
    assert seen == [(tmp_path / "x.gguf", tmp_path / "out")]
    assert f"--model {tmp_path / 'out'}" in capsys.readouterr().out


def test_a_missing_file(tmp_path, capsys):
    assert main(["convert", str(tmp_path / "x.gguf"), str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("paczero: error: ") and printed.err.count("\n") == 1
    assert "x.gguf" in printed.err
    assert not (tmp_path / "out").exists()


def test_both_paths_are_needed(capsys):
    assert main(["convert", "x.gguf"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
