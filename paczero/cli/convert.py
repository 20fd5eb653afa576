"""`paczero convert FILE.gguf OUT_DIR`: a plain model directory from a GGUF file.

$ paczero convert SmolLM2-135M-Instruct.Q4_1.gguf models/smollm2
"""

from pathlib import Path

from jsonargparse import Namespace

from paczero.cli.parsing import CommandParser, command_parser
from paczero.errors import PACZeroError

_ABOUT = """
Makes a model directory (config, tokenizer, safetensors) that `paczero train --model DIR` takes, from a GGUF file.
Quantised weights are expanded to float; what was lost in quantising stays lost.

  paczero convert SmolLM2-135M-Instruct.Q4_1.gguf models/smollm2
"""


def parser() -> CommandParser:
    made = command_parser("convert", _ABOUT, usage="FILE.gguf OUT_DIR")
    made.add_argument("file", type=str, metavar="FILE.gguf", help="the file to convert")
    made.add_argument("out", type=str, metavar="OUT_DIR", help="where the model goes; must be empty or not exist")
    return made


def run(namespace: Namespace) -> int:
    source, target = Path(namespace.file), Path(namespace.out)
    if not source.is_file():
        raise PACZeroError(f"FILE.gguf: {str(source)!r} was given; expected a file that exists")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise PACZeroError(f"OUT_DIR: {str(target)!r} was given; expected a directory that is empty or does not exist")
    from paczero.zeroth.gguf import convert_gguf

    convert_gguf(source, target)
    print(f"{target} holds the model. Next: paczero train --model {target} --data.train YOUR.csv")
    return 0
