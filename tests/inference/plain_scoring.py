"""Scores prompts with transformers and PEFT alone, in a process that does not import paczero.

    python plain_scoring.py < jobs.json > scores.json

A job is {"model": DIR, "adapter": DIR or null, "merge": bool, "prompts": [...], "words": [...]}. Its result is the mean
log-probability of the word's tokens, for each prompt and word.
"""

import json
import sys
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


def load(job: dict[str, Any]) -> Any:
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    if job["adapter"] is None:
        return model.eval()
    model = PeftModel.from_pretrained(model, job["adapter"])
    return (model.merge_and_unload() if job["merge"] else model).eval()


@torch.no_grad()
def score(model: Any, tokenizer: Any, prompt: str, word: str) -> float:
    before, whole = tokenizer(prompt)["input_ids"], tokenizer(f"{prompt} {word}")["input_ids"]
    assert whole[: len(before)] == before and len(whole) > len(before)
    log_probabilities = model(input_ids=torch.tensor([whole])).logits[0].double().log_softmax(-1)
    found = [float(log_probabilities[index - 1, whole[index]]) for index in range(len(before), len(whole))]
    return sum(found) / len(found)


def main() -> None:
    torch.set_num_threads(1)
    results = []
    for job in json.load(sys.stdin):
        model, tokenizer = load(job), AutoTokenizer.from_pretrained(job["model"])
        results.append([[score(model, tokenizer, p, word) for word in job["words"]] for p in job["prompts"]])
    assert not [name for name in sys.modules if name.partition(".")[0] == "paczero"]
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
