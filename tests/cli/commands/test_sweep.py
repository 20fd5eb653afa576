"""Sweeps of short runs of the tiny model: their plan, interruptions and failures."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from paczero.cli.commands.train import resumed_settings
from paczero.cli.parser import parser_for_train
from paczero.config_io import load_settings, save_settings
from paczero.experiments.sweep import given_anew, plan, read_sweep, state_of
from paczero.experiments.workers import as_flags

from ...command_line import SHORT

STEPS = SHORT[:2]


@pytest.fixture
def sweep_file(arguments, tmp_path):
    """Makes a sweep's file in `tmp_path` over a base file, with these keys of its own."""

    def make(**more):
        flags = arguments(tmp_path / "unused")[1:]
        given = dict(zip((flag.removeprefix("--") for flag in flags[::2]), flags[1::2], strict=True))
        base = {"model": given["model"], "data": {name: given[f"data.{name}"] for name in ("train", "dev", "test")}}
        base |= {"max_steps": 4, "eval_steps": 2, "learning_rate": 0.05, "test_seed": 5, "mechanism": {"subsets": 8}}
        base["peft"] = {"r": 2, "target_modules": ["q_proj", "v_proj"], "layers_to_transform": [2]}
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
        path = tmp_path / "sweep.yaml"
        path.write_text(
            yaml.safe_dump({"base": "base.yaml", "output_dir": str(tmp_path / "out"), **more}, sort_keys=False)
        )
        return path

    return make


def test_the_plan_is_listed(paczero, sweep_file, tmp_path):
    path = sweep_file(
        cells={"zpl": None, "none": {"mechanism": {"name": "none"}, "peft.r": 3}},
        grid={"learning_rate": [0.01, 0.1]},
        seeds=[0, 1],
    )
    code, out, err = paczero("sweep", path, "--dry_run")
    assert code == 0, err
    assert err == ""  # test coins: void anyway
    names = [line.split()[1].removeprefix(f"{tmp_path}/out/") for line in out.splitlines()]
    cells = ("zpl,learning_rate=0.01", "zpl,learning_rate=0.1", "none,learning_rate=0.01", "none,learning_rate=0.1")
    assert names == [f"{cell}/seed-{seed}" for seed in (0, 1) for cell in cells]
    assert not (tmp_path / "out").exists()


def test_texts_of_a_cell_are_what_is_written(sweep_file, tmp_path):
    path = sweep_file(seed=7)
    path.write_text(path.read_text() + "cells:\n  a.1: {task: {labels: {0: no, 1: yes}}, data.train: 2024-01-01}\n")
    [item] = plan(read_sweep(str(path), {}))
    assert item.settings.args.task.labels == {"0": "no", "1": "yes"}
    assert item.settings.data.train == "2024-01-01"
    assert (item.name, item.settings.args.seed) == ("a.1/seed-7", 7)


def test_jobs_and_only(paczero, sweep_file):
    path = sweep_file(cells={"zpl": {}, "none": {}}, grid={"max_steps": [3, 4]})
    code, _, err = paczero("sweep", path, "--jobs", 0)
    assert code == 2 and "--jobs: 0 was given" in err
    code, out, _ = paczero("sweep", path, "--only", "none", "--dry_run")
    assert code == 0 and [line.split("/")[-2] for line in out.splitlines()] == ["none,max_steps=3", "none,max_steps=4"]
    code, _, err = paczero("sweep", path, "--only", "no", "--dry_run")
    assert code == 2 and "--only: 'no' was given" in err


def test_flags_may_not_belie_the_names_of_cells(paczero, sweep_file):
    path = sweep_file(cells={"zpl": {"mechanism.name": "zpl"}}, grid={"learning_rate": [0.01, 0.1]}, seeds=[0, 1])
    for flag, value in (("learning_rate", 3), ("mechanism.name", "coin"), ("seed", 3)):
        code, _, err = paczero("sweep", path, f"--{flag}", value, "--dry_run")
        assert code == 2 and err.count("\n") == 1 and f"--{flag}: " in err and "change" in err
    assert paczero("sweep", path, "--max_steps", 3, "--dry_run")[0] == 0


def test_runs_share_hidden_states_are_skipped_when_done_and_refused_when_changed(paczero, sweep_file, tmp_path):
    path = sweep_file(cells={"zpl": {}, "none": {"mechanism.name": "none", "peft.r": 3}}, seeds=[1], jobs=2)
    code, out, err = paczero("sweep", path)
    assert code == 0, err
    assert "| zpl | 1 |" in out and "| none | 1 |" in out
    run = tmp_path / "out" / "none" / "seed-1"
    settings = load_settings(run / "config.yaml")
    assert (settings.args.mechanism.name, settings.args.seed, settings.peft["r"]) == ("none", 1, 3)
    assert (tmp_path / "out" / "cache").stat().st_mode & 0o777 == 0o700
    assert any((tmp_path / "out" / "cache").iterdir())
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*") if file.is_file()}
    again, out_again, err = paczero("sweep", path)
    assert again == 0, err
    assert out_again == out
    assert written == {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*") if file.is_file()}
    path = sweep_file(cells={"new": {}, "zpl": {"max_steps": 5}}, seeds=[1])
    code, _, err = paczero("sweep", path)
    assert code == 2 and "cell 'zpl'" in err and "begun under other settings" in err and len(err.splitlines()) == 1
    assert not (tmp_path / "out" / "new").exists()


def test_what_a_run_goes_on_with_is_what_was_given_last(sweep_file, tmp_path):
    path = sweep_file(cells={"zpl": {}})
    [begun] = plan(read_sweep(str(path), {}))
    (begun.directory / "private").mkdir(parents=True)
    save_settings(begun.settings, begun.directory / "config.yaml")
    assert (state_of(begun), given_anew(begun)) == ("interrupted", {})
    anew = {"device": "cpu", "cache_bytes": 0, "engine.packing": False, "report_to": ["tensorboard"]}
    [item] = plan(read_sweep(str(path), anew | {"cache_dir": f"{tmp_path}/c"}))
    assert state_of(item) == "interrupted"
    assert given_anew(item) == anew | {"cache_dir": f"{tmp_path}/c"}
    given = parser_for_train().parse_args(["--resume", str(item.directory), *as_flags(given_anew(item))])
    assert resumed_settings(given) == item.settings


def test_one_failure_stops_nothing_else(paczero, sweep_file, tmp_path):
    bad = {"data.train": str(tmp_path / "missing.csv")}
    code, out, err = paczero("sweep", sweep_file(cells={"bad": bad, "good": {}}))
    assert code == 1
    assert "| good | 1 |" in out and "bad" not in out
    assert "failed: bad/seed-0" in err
    assert "there is no such file" in (tmp_path / "out" / "bad" / "seed-0.log").read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"seeds": [0, 0]}, "seeds: [0, 0] was given"),
        ({"seeds": ["a"]}, "seeds: ['a'] was given"),
        ({"jobs": 0}, "--jobs: 0 was given"),
        ({"cells": {"a/b": {}}}, "cells: 'a/b' was given"),
        ({"grid": [1]}, "grid: ['1'] was given"),
        ({"grid": {"max_steps": []}}, "grid: {'max_steps': []} was given"),
        ({"grid": {"data.train": ["a/b.csv", "a_b.csv"]}}, "would be called 'train=a_b.csv'"),
        ({"cells": {"cache": {}}}, "cells: 'cache' was given"),
        ({"cells": {"x": {"seed": 3}}}, "cell 'x': it sets seed; expected `seeds`"),
        ({"grid": {"output_dir": ["a", "b"]}}, "it sets output_dir; expected"),
        ({"cells": {"x": {"max_stepz": 3}}}, "cell 'x': "),
        ({"cells": {"x": {"max_steps": -3}}}, "cell 'x': max_steps: -3 was given"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(paczero, sweep_file, more, message):
    code, _, err = paczero("sweep", sweep_file(**more))
    assert code == 2 and message in err and len(err.splitlines()) == 1


def test_an_interrupted_sweep_stops_its_runs_and_goes_on(paczero, sweep_file, tmp_path):
    path = sweep_file(cells={"long": {"max_steps": 400, "eval_steps": 400}}, seeds=[0])
    process = subprocess.Popen(
        [sys.executable, "-m", "paczero", "sweep", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    journal = tmp_path / "out" / "long" / "seed-0" / "private" / "journal.jsonl"
    while not (journal.exists() and journal.read_text().count("\n") > 3):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 130
    steps = journal.read_text().count("\n")
    time.sleep(0.3)
    assert journal.read_text().count("\n") == steps, "the run has stopped too"
    code, out, err = paczero("sweep", path, "--cache_dir", tmp_path / "elsewhere", "--report_to", "tensorboard")
    assert code == 0, err
    assert any((tmp_path / "elsewhere").iterdir()), "it goes on with what was given anew"
    assert any(tmp_path.rglob("events.out.tfevents.*"))
    assert "| long | 1 |" in out
    assert 3 < steps < 401, "it was stopped on its way"


def test_a_search_on_the_pool_is_warned_of(paczero, sweep_file):
    cells = {"a": {"mechanism.budget": 0.03}, "b": {"mechanism.budget": 0.07}}
    path = sweep_file(cells=cells, seeds=[0, 1], test_seed=None, mechanism={"name": "mi"})
    code, out, err = paczero("sweep", path, "--dry_run")
    assert code == 0 and out.count("\n") == 4
    assert err.count("\n") == 1 and "4 runs on the pool" in err and "0.2 nats (p = 0.8052)" in err
    path = sweep_file(cells=cells, test_seed=None, mechanism={"name": "mi"})
    assert paczero("sweep", path, "--dry_run", "--only", "a")[2] == ""


def test_a_killed_sweep_leaves_nothing_running_and_says_what_state_runs_are_in(paczero, sweep_file, tmp_path):
    bad = {"data.train": str(tmp_path / "missing.csv")}
    path = sweep_file(cells={"bad": bad, "long": {"max_steps": 2000, "eval_steps": 2000}}, seeds=[0], jobs=2)

    def conditions():
        code, out, _ = paczero("sweep", path, "--dry_run")
        assert code == 0
        return [line.split()[0] for line in out.splitlines()]

    assert conditions() == ["new", "new"]
    process = subprocess.Popen(
        [sys.executable, "-m", "paczero", "sweep", str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    journal = tmp_path / "out" / "long" / "seed-0" / "private" / "journal.jsonl"
    while conditions() != ["failed", "running"]:
        time.sleep(0.1)
    while not (journal.exists() and journal.read_text().count("\n") > 3):
        time.sleep(0.02)
    assert conditions() == ["failed", "running"]
    process.kill()
    process.wait()
    while conditions() != ["failed", "interrupted"]:
        time.sleep(0.1)
    assert conditions() == ["failed", "interrupted"]
    log = journal.parents[1].with_suffix(".log").read_text()
    assert "go on with: paczero train --resume" in log and "Traceback" not in log
