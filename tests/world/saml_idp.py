"""A real SAML 2.0 identity provider on loopback: Debian's SimpleSAMLphp, served by PHP, and a browser that signs on."""

import datetime as dt
import html
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urljoin

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.world.process import Process, free_port

SIMPLESAMLPHP = Path("/usr/share/simplesamlphp")
PASSWORD = "correct horse"  # noqa: S105 (everybody's, here)
PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"


def available() -> bool:
    """Whether everything it starts is installed."""
    return bool(shutil.which("php")) and SIMPLESAMLPHP.is_dir()


def certificate_for(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, *, begins: int = -1, ends: int = 30) -> bytes:
    """A self-signed certificate, PEM, valid between these days from now."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "identity provider")])
    today = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(today + dt.timedelta(begins))
    return made.not_valid_after(today + dt.timedelta(ends)).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


class SamlProvider:
    """SimpleSAMLphp with users of its own, which knows one service: a gateway.

    Args:
        folder: Holds its configuration, keys, sessions and log.
        users: Name to attributes; each attribute has a list of values, and `uid` is added.
        audience: The gateway's entityID.
        acs: Where it sends responses.
    """

    def __init__(self, folder: Path, users: Mapping[str, Mapping[str, Sequence[str]]], audience: str, acs: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.entity = f"{self.url}/metadata"
        self.sso = f"{self.url}/saml2/idp/SSOService.php"
        self.certificate = folder / "cert" / "idp.pem"
        self._write(users, audience, acs)
        served: list[str | Path] = [
            "php",
            "-S",
            f"127.0.0.1:{self.port}",
            "-t",
            SIMPLESAMLPHP / "www",
            "-d",
            "error_reporting=0",
        ]
        served += ["-d", f"session.save_path={folder / 'sessions'}", "-d", "display_errors=0"]
        environment = {"SIMPLESAMLPHP_CONFIG_DIR": str(folder / "config"), "PHP_CLI_SERVER_WORKERS": None}
        self._process = Process(served, folder / "php.log", ports=[self.port], env=environment)

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    def sign_on(self, browser: httpx.Client, begin: str, who: str) -> "Posted":
        """Leads a browser from the gateway's address to the response, which it does not post yet."""
        answer = browser.get(begin)
        for _ in range(8):
            form = Form(answer)
            if "SAMLResponse" in form.fields:
                return Posted(form.action, form.fields)
            if answer.is_redirect:
                answer = browser.get(urljoin(str(answer.url), answer.headers["location"]))
            else:
                fields = form.fields | {"username": who, "password": PASSWORD}
                answer = browser.post(urljoin(str(answer.url), form.action), data=fields)
        message = f"no response came: {answer.status_code} {answer.text[:2000]}\n{self._process.log[-2000:]}"
        raise AssertionError(message)

    def _write(self, users: Mapping[str, Mapping[str, Sequence[str]]], audience: str, acs: str) -> None:
        for name in ("config", "metadata", "cert", "data", "log", "sessions", "work"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / "cert" / "idp.key").write_bytes(pem)
        self.certificate.write_bytes(certificate_for(key))
        self._php("config/config.php", "config", self._config())
        known = {f"{who}:{PASSWORD}": {"uid": [who], **values} for who, values in users.items()}
        self._php("config/authsources.php", "config", {"people": {"0": "exampleauth:UserPass"} | known})
        self._php("metadata/saml20-idp-hosted.php", f"metadata['{self.entity}']", self._hosted())
        service = {"AssertionConsumerService": acs, "NameIDFormat": PERSISTENT}
        self._php("metadata/saml20-sp-remote.php", f"metadata['{audience}']", service)

    def _config(self) -> dict[str, Any]:
        return {
            "baseurlpath": f"{self.url}/", "secretsalt": "salt", "auth.adminpassword": "nobody's",
            "certdir": f"{self.folder}/cert/", "loggingdir": f"{self.folder}/log/", "datadir": f"{self.folder}/data/",
            "tempdir": f"{self.folder}/work", "metadatadir": f"{self.folder}/metadata/", "logging.handler": "errorlog",
            "attributenamemapdir": "/etc/simplesamlphp/attributemap/", "timezone": "UTC", "enable.saml20-idp": True,
            "module.enable": {"exampleauth": True, "core": True, "saml": True}, "session.cookie.secure": False,
            "session.phpsession.savepath": f"{self.folder}/sessions", "store.type": "phpsession",
        }  # fmt: skip

    def _hosted(self) -> dict[str, Any]:
        named = {"class": "saml:AttributeNameID", "attribute": "uid", "Format": PERSISTENT}
        return {
            "host": "__DEFAULT__", "privatekey": "idp.key", "certificate": "idp.pem", "auth": "people",
            "signature.algorithm": "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", "authproc": {"3": named},
        }  # fmt: skip

    def _php(self, file: str, variable: str, value: Mapping[str, Any]) -> None:
        quoted = json.dumps(value).replace("\\", "\\\\").replace("'", "\\'")
        (self.folder / file).write_text(f"<?php\n${variable} = json_decode('{quoted}', true);\n")


class Posted:
    """A response on its way: where the browser would post it, and what."""

    def __init__(self, action: str, fields: Mapping[str, str]) -> None:
        self.action = action
        self.fields = dict(fields)

    def post(self, browser: httpx.Client, **changed: str) -> httpx.Response:
        """Posts it as the browser would, and asks for JSON."""
        return browser.post(self.action, data={**self.fields, **changed}, headers={"accept": "application/json"})


class Form:
    """The form of a page."""

    def __init__(self, page: httpx.Response) -> None:
        action = re.search(r'<form[^>]*?action="([^"]*)"', page.text, re.DOTALL)
        self.action = html.unescape(action[1]) if action else ""
        self.fields: dict[str, str] = {}
        for tag in re.findall(r"<input[^>]*>", page.text):
            name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
            if name:
                self.fields[name[1]] = html.unescape(value[1]) if value else ""
