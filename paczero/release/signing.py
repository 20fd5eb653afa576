"""Ed25519 signatures of releases, with the keys that `ssh-keygen -t ed25519` makes.

    sign(Path("runs/demo/release"), Path("~/.ssh/id_ed25519").expanduser())     # 'SHA256:…'
    check(Path("runs/demo/release"), document, expected=Path("author.pub"))     # Signature('SHA256:…', expected=True)

The signed message is a prefix for this use of the key, and the SHA-256 of the statement, which holds those of all other
files. `signature.json` lies beside the statement, which does not hold its hash.
"""

import base64
import getpass
import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paczero.errors import IntegrityError, PACZeroError
from paczero.release import statement
from paczero.utils.io import canonical, create_whole, parse_line, regular

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


NAME, FORMAT = statement.SIGNATURE, "paczero-signature/1"

PASSPHRASE = "PACZERO_KEY_PASSPHRASE"

_KEYS = {"format", "public_key", "signature", "statement_sha256"}

_LARGEST = 16 * 1024

_EXPECTED = "an Ed25519 key as `ssh-keygen -t ed25519` makes it, or in PEM"


@dataclass(frozen=True)
class Signature:
    """A valid signature.

    Attributes:
        fingerprint: of the key that made it, as ssh-keygen prints it.
        expected: whether the caller named this key; False if none was named.
    """

    fingerprint: str
    expected: bool


def sign(release: Path, key: Path) -> str:
    """Signs the statement of a release and writes `signature.json`.

    Args:
        release: a folder whose files agree with its statement; see `verify_release`.
        key: the private key's file. Its passphrase comes from PACZERO_KEY_PASSPHRASE, or from a prompt.

    Returns:
        The key's fingerprint.

    Raises:
        PACZeroError: there is no such key, the passphrase is wrong, the release is signed already, or it cannot be
            written.
    """
    private = _private_key(key)
    digest = statement.read(release / statement.NAME)["sha256"]
    public = _line(private.public_key())
    content = {
        "format": FORMAT,
        "public_key": public,
        "signature": base64.b64encode(private.sign(_message(digest))).decode(),
        "statement_sha256": digest,
    }
    create_whole(release / NAME, canonical(content) + b"\n", mode=0o644)
    return _fingerprint(public)


def check(release: Path, document: dict[str, Any], expected: Path | None = None) -> Signature | None:
    """Checks the signature of a release.

    Args:
        release: the folder.
        document: its statement.
        expected: file of the public key that must have signed.

    Returns:
        The signature; None if there is none and `expected` is None.

    Raises:
        IntegrityError: the signature is not valid, is another key's, or is missing although a key was named.
        PACZeroError: the library is missing, or `expected` is no key.
    """
    wanted = None if expected is None else _line(_public_key(_read(expected, "key"), f"key: {str(expected)!r}"))
    path = release / NAME
    if not path.exists():
        if wanted is not None:
            raise IntegrityError(f"{release}: is not signed; expected a signature by {_fingerprint(wanted)}")
        return None
    try:
        data = _read(path, "signature")
        content = parse_line(data.removesuffix(b"\n"), str(path))
    except PACZeroError as error:
        raise IntegrityError(f"{path}: is no {FORMAT} file; restore it") from error
    texts = set(content) == _KEYS and all(isinstance(value, str) for value in content.values())
    if not texts or content["format"] != FORMAT or not data.endswith(b"\n"):
        raise IntegrityError(f"{path}: is no {FORMAT} file; restore it")
    if content["statement_sha256"] != document["sha256"]:
        raise IntegrityError(f"{path}: signs another statement than the {statement.NAME} beside it")
    found = content["public_key"]
    _check_signature(content, path)
    if wanted is not None and found != wanted:
        raise IntegrityError(f"{path}: was signed by {_fingerprint(found)}; expected {_fingerprint(wanted)}")
    return Signature(_fingerprint(found), wanted is not None)


def _check_signature(content: dict[str, str], path: Path) -> None:
    _library()
    from cryptography.exceptions import InvalidSignature

    try:
        key = _public_key(content["public_key"].encode(), str(path))
    except PACZeroError as error:
        raise IntegrityError(str(error)) from error
    if _line(key) != content["public_key"]:
        raise IntegrityError(f"{path}: its public key is not written as ssh-keygen writes it; restore the file")
    try:
        key.verify(base64.b64decode(content["signature"], validate=True), _message(content["statement_sha256"]))
    except (InvalidSignature, ValueError):
        raise IntegrityError(f"{path}: the signature does not hold; the file or the statement was changed") from None


def _message(digest: str) -> bytes:
    return f"{FORMAT}\n{digest}\n".encode()


def _read(path: Path, what: str) -> bytes:
    try:
        with open(path, "rb", opener=regular) as stream:
            data = stream.read(_LARGEST + 1)
    except OSError as error:
        raise PACZeroError(f"{what}: {str(path)!r} cannot be read: {error.strerror}") from error
    if len(data) > _LARGEST:
        raise PACZeroError(f"{what}: {str(path)!r} is longer than {_LARGEST} bytes; expected {_EXPECTED}")
    return data


def _private_key(path: Path) -> "Ed25519PrivateKey":
    serialization, ed25519 = _library()
    data, password = _read(path, "key"), None
    load = serialization.load_ssh_private_key if b"OPENSSH PRIVATE" in data else serialization.load_pem_private_key
    try:
        try:
            key = load(data, None)
        except (TypeError, ValueError) as error:
            if "password" not in str(error).lower():
                raise
            password = _passphrase(path)
            key = load(data, password)
    except PACZeroError:
        raise
    except Exception as error:  # the library raises several types for data that is no key
        reason = "its passphrase is another" if password else f"expected {_EXPECTED}"
        raise PACZeroError(f"key: {str(path)!r} cannot be used; {reason}") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise PACZeroError(f"key: {str(path)!r} is of another kind; expected {_EXPECTED}")
    return key


def _passphrase(path: Path) -> bytes:
    given = os.environ.get(PASSPHRASE)
    if given is None:
        if not sys.stdin.isatty():
            raise PACZeroError(f"key: {str(path)!r} has a passphrase; set {PASSPHRASE}, or sign at a terminal")
        given = getpass.getpass(f"Passphrase of {path}: ")
    return given.encode()


def _public_key(data: bytes, where: str) -> "Ed25519PublicKey":
    serialization, ed25519 = _library()
    if b"PRIVATE KEY" in data:
        raise PACZeroError(f"{where} is a private key; give the public one (its name ends in .pub)")
    load = serialization.load_pem_public_key if b"BEGIN PUBLIC" in data else serialization.load_ssh_public_key
    try:
        key = load(data)
    except Exception as error:  # the library raises several types for data that is no key
        raise PACZeroError(f"{where} holds no public key; expected {_EXPECTED}") from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise PACZeroError(f"{where} is a key of another kind; expected {_EXPECTED}")
    return key


def _line(key: "Ed25519PublicKey") -> str:
    """A public key as ssh-keygen writes it, without its comment."""
    serialization, _ = _library()
    form = serialization.PublicFormat.OpenSSH
    return str(key.public_bytes(serialization.Encoding.OpenSSH, form).decode())


def _fingerprint(public: str) -> str:
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise PACZeroError("signatures need the package cryptography: pip install 'paczero[sign]'") from error
    return serialization, ed25519
