"""Ways to break a file or a command line, each a function of a generator of random choices.

>>> import random
>>> mutated(b"key: value", random.Random(3)) != b"key: value"
True
"""

import json
import random
from typing import Any

NASTY: tuple[str, ...] = (
    "", " ", "null", "None", "true", "nan", "-nan", "inf", "-inf", "1e999", "-1", "0", "-0.0", "1e-320", "2.5", "0,33",
    "9" * 40, "0x10", "1_000", "[]", "{}", "[1,", "{a: 1", "'", '"', "\\", "`", "$(x)", "%s", "{0}", "{label}", "{x",
    "../..", "/", "/dev/null", "/dev/zero", "/proc/self/mem", ".", "~", "a/b/c", "x" * 5000, "\u202e", "\u00e9",
    "\U0001f600", "!!python/object:os.system x", "&a [*a]", "<<: *x", "=1+1", "@x", "<script>", "a\tb", "a|b", "--",
    "-h", "[[[[", "yes",
)  # fmt: skip
_BYTES: tuple[bytes, ...] = (
    b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\n", b"\r", b"\t", b",", b'"', b"'", b"{", b"}", b"[", b"]", b":",
    b"-", b"#", b"&", b"*", b"!", b"|", b">", b"%", b"@", b"NaN", b"Infinity", b"1e400", b"null", b"9" * 30, b"\\u0000",
    b"\\ud800", b"[" * 200, b"{" * 200, b"x" * 3000,
)  # fmt: skip


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The bytes, changed in one to four places."""
    for _ in range(chance.randint(1, 4)):
        data = _ONE[chance.randrange(len(_ONE))](data, chance)
    return data


def _flip(data: bytes, chance: random.Random) -> bytes:
    if not data:
        return b"\x00"
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randint(0, len(data))]


def _drop(data: bytes, chance: random.Random) -> bytes:
    start = chance.randint(0, len(data))
    return data[:start] + data[start + chance.randint(0, 40) :]


def _insert(data: bytes, chance: random.Random) -> bytes:
    place = chance.randint(0, len(data))
    return data[:place] + _BYTES[chance.randrange(len(_BYTES))] + data[place:]


def _repeat(data: bytes, chance: random.Random) -> bytes:
    start = chance.randint(0, len(data))
    piece = data[start : start + chance.randint(1, 200)]
    place = chance.randint(0, len(data))
    return data[:place] + piece + data[place:]


def _lines(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\n")
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    what = chance.randrange(3)
    if what == 0:
        lines[first], lines[second] = lines[second], lines[first]
    elif what == 1:
        del lines[first]
    else:
        lines.insert(second, lines[first])
    return b"\n".join(lines)


def _word(data: bytes, chance: random.Random) -> bytes:
    """A word or number becomes a nasty one."""
    words = data.split(b" ")
    words[chance.randrange(len(words))] = NASTY[chance.randrange(len(NASTY))].encode()
    return b" ".join(words)


_ONE = (_flip, _cut, _drop, _insert, _repeat, _lines, _word)


def edited(document: Any, chance: random.Random) -> Any:
    """A JSON document with one value, key or type changed, somewhere within."""
    document = json.loads(json.dumps(document))
    holders = [(document, key) for key in _keys(document)]
    place, nested = holders, document
    while place:
        holder, key = place[chance.randrange(len(place))]
        nested = holder[key]
        if not (isinstance(nested, dict | list) and nested and chance.random() < 0.6):
            break
        place = [(nested, inner) for inner in _keys(nested)]
    if not place:
        return anything(chance)
    what = chance.randrange(4)
    if what == 0 and isinstance(holder, dict):
        del holder[key]
    elif what == 1 and isinstance(holder, dict):
        holder[NASTY[chance.randrange(len(NASTY))]] = anything(chance)
    else:
        holder[key] = anything(chance)
    return document


def _keys(value: Any) -> list[Any]:
    return list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []


def anything(chance: random.Random, depth: int = 2) -> Any:
    """Any JSON value."""
    what = chance.randrange(9 if depth else 7)
    if what == 0:
        return None
    if what == 1:
        return chance.random() < 0.5
    if what == 2:
        return chance.choice([0, 1, -1, 2**31, 2**63, 2**64, -(2**70), 10**30, chance.randint(-100, 100)])
    if what == 3:
        return chance.choice([0.0, -0.0, 0.5, 1e300, -1e-300, 5e-324, 3.0, chance.random()])
    if what < 7:
        return NASTY[chance.randrange(len(NASTY))]
    if what == 7:
        return [anything(chance, depth - 1) for _ in range(chance.randrange(4))]
    return {NASTY[chance.randrange(len(NASTY))]: anything(chance, depth - 1) for _ in range(chance.randrange(4))}
