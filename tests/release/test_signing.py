"""A signature holds for one statement and one key, and for nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from paczero.errors import IntegrityError, PACZeroError
from paczero.release import signing, statement
from paczero.release.verify.release import verify_release
from paczero.utils.io import canonical

from ..released_runs import reseal

PEM, SSH = serialization.Encoding.PEM, serialization.Encoding.OpenSSH


def write_keys(folder: Path, name: str = "key", *, form: str = "ssh", passphrase: bytes | None = None) -> Path:
    """A new key pair; returns the private one's file, the public one's has `.pub` at its end."""
    key = ed25519.Ed25519PrivateKey.generate()
    secret = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    private = serialization.PrivateFormat.OpenSSH if form == "ssh" else serialization.PrivateFormat.PKCS8
    path = folder / name
    path.write_bytes(key.private_bytes(PEM, private, secret))
    public = (SSH, serialization.PublicFormat.OpenSSH) if form == "ssh" else (
        PEM, serialization.PublicFormat.SubjectPublicKeyInfo)  # fmt: skip
    path.with_name(f"{name}.pub").write_bytes(key.public_key().public_bytes(*public) + b" comment\n" * (form == "ssh"))
    return path


@pytest.mark.parametrize("form", ["ssh", "pem"])
def test_the_key_that_signed_and_no_other(release: Callable[..., Path], tmp_path: Path, form: str) -> None:
    folder, key, other = release(), write_keys(tmp_path, form=form), write_keys(tmp_path, "other")
    fingerprint = signing.sign(folder, key)
    assert verify_release(folder).signed == signing.Signature(fingerprint, False)
    assert verify_release(folder, key=Path(f"{key}.pub")).signed == signing.Signature(fingerprint, True)
    with pytest.raises(IntegrityError, match="was signed by SHA256:"):
        verify_release(folder, key=Path(f"{other}.pub"))
    with pytest.raises(PACZeroError, match="exists already"):
        signing.sign(folder, other)


def test_a_forgery_is_not_signed(release: Callable[..., Path], tmp_path: Path) -> None:
    """The statement made again without the key, and the signature of another release."""
    folder, key = release("mi"), write_keys(tmp_path)
    with pytest.raises(IntegrityError, match="is not signed"):
        verify_release(folder, key=Path(f"{key}.pub"))
    signing.sign(folder, key)
    taken = (folder / signing.NAME).read_bytes()
    folder = release("zpl")
    (folder / signing.NAME).write_bytes(taken)
    with pytest.raises(IntegrityError, match="signs another statement"):
        verify_release(folder)
    content = json.loads(taken) | {"statement_sha256": statement.read(folder / statement.NAME)["sha256"]}
    (folder / signing.NAME).write_bytes(canonical(content) + b"\n")
    with pytest.raises(IntegrityError, match="does not hold"):
        verify_release(folder)


def test_any_byte_of_the_signature(release: Callable[..., Path], tmp_path: Path) -> None:
    folder, key = release(), write_keys(tmp_path)
    signing.sign(folder, key)
    path, document = folder / signing.NAME, statement.read(folder / statement.NAME)
    whole = path.read_bytes()
    broken = [whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :] for index in range(len(whole))]
    for text in (*broken, b"", b"{}\n", whole[:-1], whole + b"\n", b"\xff" * 15_000):
        path.write_bytes(text)
        with pytest.raises(IntegrityError):
            signing.check(folder, document)


def test_a_release_may_be_sealed_no_more_once_it_is_signed(release: Callable[..., Path], tmp_path: Path) -> None:
    folder, key = release(), write_keys(tmp_path)
    signing.sign(folder, key)
    card = folder / "README.md"
    card.write_text(card.read_text() + "\n")
    reseal(folder)
    with pytest.raises(IntegrityError):
        verify_release(folder)


def test_a_passphrase(release: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = release()
    for form in ("ssh", "pem"):
        key = write_keys(tmp_path, form, form=form, passphrase=b"open")
        monkeypatch.delenv(signing.PASSPHRASE, raising=False)
        with pytest.raises(PACZeroError, match=signing.PASSPHRASE):
            signing.sign(folder, key)
        monkeypatch.setenv(signing.PASSPHRASE, "wrong")
        with pytest.raises(PACZeroError, match="passphrase is another"):
            signing.sign(folder, key)
        monkeypatch.setenv(signing.PASSPHRASE, "open")
        assert signing.sign(folder, key).startswith("SHA256:")
        (folder / signing.NAME).unlink()


def test_what_is_no_key(release: Callable[..., Path], tmp_path: Path) -> None:
    folder, key = release(), write_keys(tmp_path)
    rival = ec.generate_private_key(ec.SECP256R1())
    wrong = tmp_path / "wrong"
    for data in (
        rival.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        rival.private_bytes(PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()),
        Path(f"{key}.pub").read_bytes(),
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
        b"",
        b"\0" * 100_000,
    ):
        wrong.write_bytes(data)
        with pytest.raises(PACZeroError, match=r"key: .*wrong"):
            signing.sign(folder, wrong)
    with pytest.raises(PACZeroError, match="cannot be read"):
        signing.sign(folder, tmp_path / "nowhere")
    with pytest.raises(PACZeroError, match="is a private key"):
        verify_release(folder, key=key)
    wrong.write_bytes(b"ssh-rsa AAAA")
    with pytest.raises(PACZeroError, match="no public key"):
        verify_release(folder, key=wrong)
    assert not (folder / signing.NAME).exists()
