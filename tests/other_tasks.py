"""Records of tasks without label words, made of the tiny texts, and what the tiny model needs to converse."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .conftest import tiny_texts

QUESTION = "{context}\nWhat is it? {question}\nAnswer: {label}"
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def questions(count: int, seed: int) -> list[dict[str, Any]]:
    """Records of a task `answer` under the template QUESTION; their contexts are of different lengths."""
    return [
        {"context": " and ".join([text] * (1 + n % 3)), "question": "film", "answers": [text.split()[-1], "the film"]}
        for n, (text, _) in enumerate(tiny_texts(count, seed))
    ]


def conversations(count: int, seed: int) -> list[dict[str, Any]]:
    """Records of a task `chat` with `messages`: of two turns, and every other of four."""
    talks = []
    for n, (text, _) in enumerate(tiny_texts(count, seed)):
        before = [("user", "hello"), ("assistant", "good day")] if n % 2 else []
        turns = [*before, ("user", f"how is number {n}?"), ("assistant", text)]
        talks.append({"messages": [{"role": role, "content": content} for role, content in turns]})
    return talks


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Records as a jsonl file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def let_converse(model: Path) -> Path:
    """Gives a model directory's tokenizer a chat template."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(model)
    return model
