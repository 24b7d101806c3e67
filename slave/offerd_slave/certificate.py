"""The file server's certificate: made once for a work directory, and recognized by its fingerprint alone.

It is self-signed, and its dates do not count: clients get its SHA-256 from the master, over a connection with keys. It is
made in a process of its own, as the library for that takes 20 MB, which a slave that only reads it does not need.
"""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import subprocess
import sys
from pathlib import Path

from offerd.errors import BadInput

FILE = "files.pem"
MAKE_TIMEOUT_S = 60.0


def server_context(work_dir: Path) -> tuple[ssl.SSLContext, str]:
    """The server's TLS context, and the fingerprint of its certificate. Raises `BadInput`."""
    file = work_dir / FILE
    try:
        if not file.exists():
            _have_made(file)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0  # no resumption: clients check the fingerprint each time
        context.load_cert_chain(file)
        return context, fingerprint_of(file.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{file} does not hold a certificate and its key: {error}; remove it, and a new one is made"
        ) from None


def fingerprint_of(pem: str) -> str:
    """SHA-256 of the certificate in this text, in hexadecimal. Raises `ValueError` if there is none."""
    found = re.search(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", pem, re.DOTALL)
    if found is None:
        raise ValueError("it holds no certificate")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(found[0])).hexdigest()


def _have_made(file: Path) -> None:
    words = [sys.executable, "-P", "-m", __name__, str(file)]
    made = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=MAKE_TIMEOUT_S, check=False
    )
    if made.returncode:
        why = (made.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BadInput(f"cannot make a certificate for files: {why}")


def main() -> int:
    """Make the certificate, in the process that `server_context` starts."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    file = Path(sys.argv[1])
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "offerd slave")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2000, 1, 1))
        .not_valid_after(datetime.datetime(9999, 12, 31))
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    draft = file.with_name(f".{file.name}.new")
    draft.unlink(missing_ok=True)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as output:
        output.write(pem)
        output.flush()
        os.fsync(output.fileno())
    os.rename(draft, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
