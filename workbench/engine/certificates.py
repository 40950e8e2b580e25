"""The TLS pair of a cluster: one certificate and its key, which every machine of the cluster has.

Scheduler, workers and clients show the certificate to each other and accept no other. Anyone with the key can
therefore join the cluster and run code on it.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from workbench.errors import BadInput, MissingExtra, WrongState

#: The two files in a folder of certificates.
CERTIFICATE, KEY = "cluster.crt", "cluster.key"

#: For how long a pair is good by default, and at most, in days.
DAYS, MOST_DAYS = 365, 3_650


@dataclass(frozen=True)
class Certificates:
    """The files that one end of a TLS connection needs.

    Attributes
    ----------
    authority : Path
        The certificate that the other end's must be signed with.
    certificate, key : Path
        This end's own.
    """

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def in_folder(cls, folder: Path) -> Certificates:
        """Return the pair that :func:`make_certificates` wrote into a folder."""
        return cls(folder / CERTIFICATE, folder / CERTIFICATE, folder / KEY)

    def check(self) -> None:
        """Refuse files that are missing, expired, or open to other users.

        Raises
        ------
        workbench.BadInput
            With the file, and what is wrong with it.
        """
        for path in dict.fromkeys((self.authority, self.certificate, self.key)):
            if not path.is_file():
                raise BadInput(
                    f"{path}: no such file",
                    hint="Make a pair with: workbench cluster certs DIR, and copy it to every machine.",
                )
        if os.name == "posix" and stat.S_IMODE(self.key.stat().st_mode) & 0o077:
            raise BadInput(
                f"{self.key} can be read by other users, who could run code on the cluster",
                hint=f"chmod 600 {self.key}",
            )
        self._check_content()

    def _check_content(self) -> None:
        import ssl

        x509, _, _ = _cryptography()
        for path in dict.fromkeys((self.authority, self.certificate)):
            try:
                certificate = x509.load_pem_x509_certificate(path.read_bytes())
            except ValueError:
                raise BadInput(f"{path} is not a certificate in PEM form") from None
            if certificate.not_valid_after_utc < datetime.now(UTC):
                raise BadInput(
                    f"{path} has expired on {certificate.not_valid_after_utc:%Y-%m-%d}",
                    hint="Make a new pair with: workbench cluster certs DIR, and copy it to every machine.",
                )
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(self.certificate, self.key)
        except ssl.SSLError as error:
            raise BadInput(f"{self.key} does not belong to {self.certificate} ({error.reason})") from None

    @property
    def query(self) -> str:
        """They as the query of an engine's address."""
        folder = self.key.parent
        if self == Certificates.in_folder(folder):
            return urlencode({"certs": str(folder)}, safe="/")
        files = {"authority": self.authority, "certificate": self.certificate, "key": self.key}
        return urlencode({name: str(path) for name, path in files.items()}, safe="/")

    def absolute(self) -> Certificates:
        """Return them with absolute paths."""
        return Certificates(self.authority.absolute(), self.certificate.absolute(), self.key.absolute())

    def security(self) -> Any:
        """Return them as Dask's ``Security``, which accepts no connection without them."""
        try:
            from distributed.security import Security
        except ImportError:
            raise MissingExtra("dask.distributed", "dask") from None

        ends = {
            f"tls_{role}_{part}": str(path)
            for role in ("scheduler", "worker", "client")
            for part, path in (("cert", self.certificate), ("key", self.key))
        }
        return Security(tls_ca_file=str(self.authority), require_encryption=True, **ends)


def make_certificates(folder: Path, days: int = DAYS) -> Certificates:
    """Write a new pair into a folder, which is made if it is missing; the key is for this user only.

    Parameters
    ----------
    folder : Path
        Where to write ``cluster.crt`` and ``cluster.key``.
    days : int
        For how long it is good, 1 to :data:`MOST_DAYS`.

    Raises
    ------
    workbench.BadInput
        The number of days is out of range.
    workbench.WrongState
        The folder has a pair, which is left as it is: machines may be using it.
    workbench.MissingExtra
        The package cryptography is not installed.
    """
    if not 1 <= days <= MOST_DAYS:
        raise BadInput(f"days must be 1 to {MOST_DAYS:,}, got {days:,}")
    pair = Certificates.in_folder(folder)
    there = [path.name for path in (pair.certificate, pair.key) if path.exists() or path.is_symlink()]
    if there:
        raise WrongState(
            f"{folder} already has {' and '.join(there)}",
            hint="Name another folder, or delete the old files if no machine uses them.",
        )
    certificate, key = _made(days)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path, data, mode in ((pair.key, key, 0o600), (pair.certificate, certificate, 0o644)):
        # Made with its mode, not changed to it: nobody may read it in between.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
    return pair


def _made(days: int) -> tuple[bytes, bytes]:
    """Return a certificate signed by itself, and its key, both in PEM form."""
    x509, serialization, ed25519 = _cryptography()
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "workbench cluster")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks of machines differ
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, None)
    )
    pem = serialization.Encoding.PEM
    return (
        certificate.public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _cryptography() -> tuple[Any, Any, Any]:
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise MissingExtra("cryptography", "dask") from None
    return x509, serialization, ed25519
