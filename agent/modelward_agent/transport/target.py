"""Where the collector is, and with what proof of identity: plaintext never leaves the host."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from modelward_proto.pem import PemError, check_pair


class TargetError(ValueError):
    """The collector's address or the certificates for it cannot be used; the message says which and why."""


@dataclass(frozen=True)
class Target:
    """A checked collector address, and the files of the agent's identity (empty: plaintext, on loopback only)."""

    host: str
    port: int
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @classmethod
    def parse(cls, address: str, tls_ca: str = "", tls_cert: str = "", tls_key: str = "") -> Target:
        """Check ``HOST:PORT`` (IPv6 in brackets) and the certificate files.

        Raises:
            TargetError: no port, some but not all certificate files, or plaintext to another host.
        """
        host, colon, port = address.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise TargetError(f"collector '{address}': write an IPv6 address in brackets, as in [::1]:4460")
        if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise TargetError(f"collector '{address}': HOST:PORT is wanted, as in collector.example:4460")
        files = {"--tls-ca": tls_ca, "--tls-cert": tls_cert, "--tls-key": tls_key}
        missing = [flag for flag, value in files.items() if not value]
        if len(missing) < len(files):
            if missing:
                raise TargetError(f"TLS needs three files; not set: {', '.join(missing)}")
            target = cls(host, int(port), Path(tls_ca), Path(tls_cert), Path(tls_key))
            target.read_pem()
            return target
        if not _is_loopback(host):
            raise TargetError(
                f"collector '{address}' is not on this host, and events are never sent in plaintext: "
                "give --tls-ca, --tls-cert and --tls-key"
            )
        return cls(host, int(port))

    @property
    def address(self) -> str:
        """As gRPC wants it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def read_pem(self) -> tuple[bytes, bytes, bytes] | None:
        """Authorities, key and certificate as the files say now, so that renewed ones count. None: plaintext.

        Raises:
            TargetError: a file cannot be read or is not PEM.
        """
        if self.tls_ca is None or self.tls_cert is None or self.tls_key is None:
            return None
        return _read_pem(self.tls_ca), _read_pem(self.tls_key), _read_pem(self.tls_cert)

    def check_pair(self) -> None:
        """Look once, at the start, whether certificate and key belong together: in the middle of a renewal they may not.

        Raises:
            TargetError: they do not, or the key wants a password.
        """
        if self.tls_cert is None or self.tls_key is None:
            return
        try:
            check_pair(self.tls_cert, self.tls_key)
        except PemError as e:
            raise TargetError(str(e)) from e


def _read_pem(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as e:
        raise TargetError(f"{path}: {e.strerror}") from e
    if b"-----BEGIN " not in content:
        raise TargetError(f"{path}: not a PEM file")
    return content


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except OSError:
        return False
    # A name may have several addresses, and gRPC may take any.
    return all(ipaddress.ip_address(str(item[4][0]).split("%")[0]).is_loopback for item in found)
