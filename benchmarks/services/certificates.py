"""A certificate authority, and certificates with many names each, as hosting companies use them."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

EXTENSIONS = "basicConstraints=CA:FALSE\nsubjectAltName={names}\n"


class Authority:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate = folder / "authority.pem"
        self.key = folder / "key.pem"
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.key)
        openssl(
            "req", "-x509", "-new", "-key", self.key, "-days", 30, "-subj", "/CN=Benchmark authority",
            "-addext", "basicConstraints=critical,CA:TRUE", "-out", self.certificate,
        )  # fmt: skip

    def issue(self, name: str, hosts: Sequence[str]) -> Path:
        """A certificate for these hosts, with the authority's own key: only speed matters here."""
        request, extensions, path = (self.folder / f"{name}.{kind}" for kind in ("csr", "ext", "pem"))
        openssl("req", "-new", "-key", self.key, "-subj", f"/CN={hosts[0]}", "-out", request)
        extensions.write_text(EXTENSIONS.format(names=",".join(f"DNS:{host}" for host in hosts)))
        openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial",
            "-days", 30, "-extfile", extensions, "-out", path,
        )  # fmt: skip
        return path


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
