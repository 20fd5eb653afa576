"""`paczero convert FILE.gguf OUT_DIR`: a plain model directory from a GGUF file.

$ paczero convert SmolLM2-135M-Instruct.Q4_1.gguf models/smollm2
"""

from argparse import Namespace
from pathlib import Path

from paczero.cli.parser import CommandParser, command_parser

_ABOUT = """
Makes a model directory (config, tokenizer, safetensors) that `paczero train --model DIR` takes, from a GGUF file.
Quantised weights are expanded to float; what was lost in quantising stays lost.

  paczero convert SmolLM2-135M-Instruct.Q4_1.gguf models/smollm2
"""


def parser() -> CommandParser:
    made: CommandParser = command_parser("convert", _ABOUT, usage="FILE.gguf OUT_DIR")
    made.add_argument("file", type=str, metavar="FILE.gguf", help="the file to convert")
    made.add_argument("out", type=str, metavar="OUT_DIR", help="where the model goes; must be empty or not exist")
    return made


def run(namespace: Namespace) -> int:
    from paczero.models.gguf import convert_gguf

    target = convert_gguf(Path(namespace.file), Path(namespace.out))
    print(f"{target} holds the model. Next: paczero train --model {target} --data.train YOUR.csv")
    return 0
