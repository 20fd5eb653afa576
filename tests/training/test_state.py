"""The headers of transcript and journal hold public values only."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

MakeTrainer = Callable[..., Any]


def test_the_headers_speak_of_public_things_only(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", mechanism={"name": "mi", "budget": 0.3, "channel": "gaussian"})
    header = trainer.header
    assert json.loads(json.dumps(header)) == header
    assert header["mechanism"] == {"name": "mi", "clip": 25.0, "channel": "gaussian", "allocation": "adaptive"}
    assert (header["budget"], header["units"], header["subsets"]) == (0.3, 48, 8)
    text = json.dumps(header)
    assert "number 1-" not in text and str(tmp_path) not in text and trainer.pool.dataset.hash() not in text
    assert make_trainer(tmp_path / "run", mechanism={"name": "none"}).header["budget"] is None
