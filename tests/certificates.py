"""A certificate authority of a test's own, made with openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple


class Pair(NamedTuple):
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates in a folder."""

    def __init__(self, folder: Path, name: str = "test-ca") -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                 "-subj", f"/CN={name}", "-keyout", str(self._key), "-out", str(self.certificate))

    def sign(self, common_name: str, *alternatives: str) -> Pair:
        """A certificate for a name; ``alternatives`` such as ``DNS:localhost`` or ``IP:127.0.0.1``."""
        stem = self._folder / (common_name.replace("/", "_") or "nameless")
        pair = Pair(stem.with_suffix(".crt"), stem.with_suffix(".pem.key"))
        request, extra = stem.with_suffix(".csr"), stem.with_suffix(".ext")
        _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                 "-subj", f"/CN={common_name}" if common_name else "/O=nobody", "-keyout", str(pair.key), "-out", str(request))
        extra.write_text(f"subjectAltName={','.join(alternatives)}\n" if alternatives else "basicConstraints=CA:FALSE\n")
        _openssl("x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self._key), "-CAcreateserial",
                 "-days", "2", "-extfile", str(extra), "-out", str(pair.certificate))
        return pair


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
