"""Checks that a release holds known names, plain files of bounded size, and nothing else.

A model's folder may hold the files that transformers writes for a model and its tokenizer; weights are safetensors. A
release holds no pickle and no code, so nothing that is loaded from it can run.
"""

import math
import os
import re
import stat
import zlib
from pathlib import Path

from paczero.errors import IntegrityError
from paczero.release import statement
from paczero.release.model_card import CARD
from paczero.release.signing import NAME as SIGNATURE
from paczero.release.task_file import NAME as TASK

FIGURES = "figures"

_MEBIBYTE = 1024**2

_TEXT, _TOKENIZER, _PICTURE = 16 * _MEBIBYTE, 256 * _MEBIBYTE, 16 * _MEBIBYTE

_WEIGHTS = 4 * 1024**4

_TRANSCRIPT = 64 * 1024**3

# Name within the release (a pattern) -> the most bytes that an honest one can have.
_KNOWN = {
    re.escape(statement.NAME): _TEXT,
    re.escape(SIGNATURE): _TEXT,
    re.escape(TASK): _TEXT,
    re.escape(CARD): _TEXT,
    r"transcript\.jsonl": _TRANSCRIPT,
    rf"{FIGURES}/(released|posterior|development)\.png": _PICTURE,
    r"adapter/adapter_config\.json": _TEXT,
    r"adapter/adapter_model\.safetensors": _WEIGHTS,
    r"model/(model|model-\d{5}-of-\d{5})\.safetensors": _WEIGHTS,
    r"model/(config|generation_config|model\.safetensors\.index)\.json": _TEXT,
    r"model/(tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json": _TOKENIZER,
    r"model/(merges\.txt|vocab\.txt|tokenizer\.model|spiece\.model|chat_template\.jinja)": _TOKENIZER,
}

# What the Hub adds: a file's name -> a pattern of its whole content.
_HUB_FILES = {
    r"\.gitattributes": rb"(\S+( -?text| (filter|diff|merge)=lfs)+\n?)*",
    r"\.gitignore": rb"\*\n?",
    r"CACHEDIR\.TAG": rb"Signature: 8a477f597d28d172789f06886806bc55\n(#[^\n]*\n?)*",
    r".+\.lock": rb"",
    r".+\.metadata": rb"[0-9a-f]{40}\n[\w\"-]{1,80}\n[\d.]{1,30}\n?",
}
_HUB_BYTES = 65_536

_FOLDERS = frozenset({FIGURES, "adapter", "model"})

_NEEDED = (statement.NAME, "transcript.jsonl", CARD)

_PNG = b"\x89PNG\r\n\x1a\n"

_PICTURE_CHUNKS = frozenset({b"IHDR", b"IDAT", b"IEND", b"pHYs"})

_DPI, _WIDTH, _HEIGHT = 144, 8.0, 4.0  # dots an inch and inches, as `plots` draws

_ROUNDING = 2  # pixels by which another version of matplotlib may round a side

_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # bytes of a pixel of 8 bits a channel, by a PNG's type of colour


def check_folder(release: Path) -> list[str]:
    """Checks every name in a release, without following links and without opening a file.

    Returns:
        Sorted relative POSIX paths of all files.

    Raises:
        IntegrityError: there is an unknown name, a link, a special file, an empty folder or too large a file, or a file
            is missing.
    """
    names: list[str] = []
    try:
        for entry in sorted(os.scandir(release), key=lambda entry: entry.name):
            if entry.name in statement.FROM_THE_HUB:
                _check_hub_files(Path(entry.path))
                continue
            if entry.name in _FOLDERS and entry.is_dir(follow_symlinks=False):
                inner = sorted(os.scandir(entry.path), key=lambda entry: entry.name)
                if not inner:
                    raise IntegrityError(f"{entry.path}: is empty; a release has no empty folder")
                names += [_checked(file, f"{entry.name}/{file.name}") for file in inner]
            else:
                names.append(_checked(entry, entry.name))
    except OSError as error:
        raise IntegrityError(f"{release}: cannot be read: {error.strerror}") from error
    for name in _NEEDED:
        if name not in names:
            raise IntegrityError(f"{release / name}: is missing; restore it")
    if sum(any(name.startswith(f"{kind}/") for name in names) for kind in ("adapter", "model")) != 1:
        raise IntegrityError(f"{release}: holds both adapter/ and model/, or neither; a release has one of them")
    return names


def _check_hub_files(path: Path) -> None:
    """Checks the files that the Hub adds to a folder, so that nothing of a run can hide in them.

    Raises:
        IntegrityError: there is a link, a special file, a file with another name or with other content.
    """
    for file in [path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())]:
        if not file.is_symlink() and file.is_dir() and path.name == ".cache":
            continue
        content = next((rule for name, rule in _HUB_FILES.items() if re.fullmatch(name, file.name)), None)
        plain = not file.is_symlink() and file.is_file() and file.stat().st_size <= _HUB_BYTES
        if not plain or content is None or not re.fullmatch(content, file.read_bytes()):
            raise IntegrityError(f"{file}: is no part of a release, nor what the Hub writes; remove it")


def _checked(entry: "os.DirEntry[str]", name: str) -> str:
    """Returns the name if the entry is a plain file of a release."""
    path = entry.path
    if not name.isprintable():
        raise IntegrityError(f"{path!r}: has a name with invisible characters; no file of a release has")
    state = entry.stat(follow_symlinks=False)
    if entry.is_symlink():
        raise IntegrityError(f"{path}: is a link, which could point outside; a release holds plain files only")
    if entry.is_dir(follow_symlinks=False):
        raise IntegrityError(f"{path}: is a folder that no release has; move it away")
    if not stat.S_ISREG(state.st_mode):
        raise IntegrityError(f"{path}: is a special file; a release holds plain files only")
    limit = next((limit for pattern, limit in _KNOWN.items() if re.fullmatch(pattern, name)), None)
    if limit is None:
        raise IntegrityError(f"{path}: is no part of a release; move it away")
    if state.st_size > limit:
        raise IntegrityError(f"{path}: has {state.st_size:,} bytes; no such file of a release has more than {limit:,}")
    return name


def picture_size(name: str, values: int) -> tuple[int, int]:
    """Width and height of a released figure, in pixels.

    Args:
        name: such as `figures/released.png`.
        values: the number of released values, for each of which that figure has a cell.
    """
    height = _HEIGHT
    if name == f"{FIGURES}/released.png":
        columns = max(20, 10 * math.ceil(math.sqrt(values * 6) / 10))
        height = 1.7 + 0.12 * min(math.ceil(values / columns), 20)
    return int(_WIDTH * _DPI), int(height * _DPI)


def check_pictures(release: Path, names: list[str], values: int) -> None:
    """Checks that the figures are whole pictures of the size that a run draws and hold nothing else, as hidden text.

    Their hashes bind them to the statement. They are not drawn again, because versions of matplotlib differ in bytes.

    Args:
        values: the number of released values.

    Raises:
        IntegrityError: one is no PNG, has another size, or has a chunk that no viewer shows.
    """
    for name in names:
        if name.endswith(".png"):
            path, size = release / name, picture_size(name, values)
            chunks = _chunks(path.read_bytes(), path)
            if hidden := sorted({kind for kind, _ in chunks} - _PICTURE_CHUNKS):
                raise IntegrityError(f"{path}: carries more than its picture ({hidden[0]!r}); restore it")
            head = chunks[0][1] if chunks[0][0] == b"IHDR" and len(chunks[0][1]) == 13 else b"\0" * 13
            width, height = (int.from_bytes(head[start : start + 4], "big") for start in (0, 4))
            if abs(width - size[0]) > _ROUNDING or abs(height - size[1]) > _ROUNDING:
                raise IntegrityError(
                    f"{path}: is no PNG of {size[0]} × {size[1]} pixels, as a run draws it; restore it"
                )
            pixels = b"".join(data for kind, data in chunks if kind == b"IDAT")
            if not _is_image(pixels, head, width, height):
                raise IntegrityError(f"{path}: its pixels cannot be read; restore it")


def _is_image(packed: bytes, head: bytes, width: int, height: int) -> bool:
    """Whether packed pixels are an image of this size and no more; no more than such an image is unpacked."""
    depth, kind = head[8], head[9]
    if depth != 8 or kind not in _CHANNELS or head[10:] != b"\0\0\0":
        return False
    row = 1 + _CHANNELS[kind] * width  # a filter's number, then the pixels
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed, row * height + 1)
    except zlib.error:
        return False
    whole = unpacker.eof and not unpacker.unused_data and len(data) == row * height
    return whole and set(data[::row]) <= set(range(5))


def _chunks(data: bytes, path: Path) -> list[tuple[bytes, bytes]]:
    """Type and content of a PNG's chunks, in order."""
    chunks, offset = [], len(_PNG)
    while data.startswith(_PNG) and offset + 12 <= len(data):
        size = int.from_bytes(data[offset : offset + 4], "big")
        kind, content = data[offset + 4 : offset + 8], data[offset + 8 : offset + 8 + size]
        if zlib.crc32(kind + content).to_bytes(4, "big") != data[offset + 8 + size : offset + 12 + size]:
            raise IntegrityError(f"{path}: is no whole PNG (a checksum differs); restore it")
        chunks.append((kind, content))
        offset += 12 + size
        if kind == b"IEND":
            break
    if not chunks or chunks[-1] != (b"IEND", b"") or offset != len(data):
        raise IntegrityError(f"{path}: is no whole PNG; restore it")
    return chunks
