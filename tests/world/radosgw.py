"""A one-node Ceph on loopback, as a real S3 server with Object Lock: mon, osd in memory, radosgw."""

import json
import os
import secrets
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self
from uuid import uuid4

import boto3
from botocore.config import Config

from tests.world.ceph import bucket_policy, configuration
from tests.world.process import Process, free_port

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PROGRAMS = ("monmaptool", "ceph-authtool", "ceph-mon", "ceph-osd", "ceph", "radosgw-admin", "radosgw")
USERS = ("admin", "writer", "auditor")


def available() -> bool:
    """Whether everything it starts is installed."""
    return all(shutil.which(program) for program in PROGRAMS)


class RadosGateway:
    """Object storage with three users: admin owns the buckets, writer adds to them, auditor reads them.

    Its data lies in memory and ends with it. `folder` holds configuration, keys and logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.keys = {user: (f"AK{user.upper()}", secrets.token_hex(20)) for user in USERS}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._prepare()
            stack.enter_context(self._daemon("ceph-mon", "-i", "a"))
            self._prepare_osd()
            stack.enter_context(self._daemon("ceph-osd", "-i", "0"))
            self._create_users()
            stack.enter_context(self._daemon("radosgw", "-n", "client.rgw", ports=(self.port,)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def client(self, user: str) -> "S3Client":
        """An S3 client with this user's keys."""
        key, secret = self.keys[user]
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, proxies={}),
        )

    def credentials(self, user: str) -> dict[str, str]:
        """This user's keys as the environment variables that S3 clients read."""
        key, secret = self.keys[user]
        return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_ENDPOINT_URL": self.endpoint}

    def create_locked_bucket(self, name: str, days: int = 1) -> None:
        """A bucket whose objects are locked for `days` in COMPLIANCE mode, with its duties told apart."""
        admin = self.client("admin")
        admin.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
        admin.put_object_lock_configuration(
            Bucket=name,
            ObjectLockConfiguration={
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": days}},
            },
        )
        admin.put_bucket_policy(Bucket=name, Policy=json.dumps(bucket_policy(name)))

    def _prepare(self) -> None:
        for name in ("mon", "osd", "rgw", "log"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        fsid, v2, v1 = str(uuid4()), free_port(), free_port()
        address = f"[v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]"
        (self.folder / "ceph.conf").write_text(configuration(self.folder, fsid, address, self.port))
        keyring, monmap = self.folder / "keyring", self.folder / "monmap"
        self._run("monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, monmap)
        self._key("mon.", "--create-keyring", mon="allow *")
        self._key("client.admin", mon="allow *", osd="allow *")
        self._key("client.rgw", mon="allow rw", osd="allow rwx")
        self._key("osd.0", mon="allow profile osd", osd="allow *")
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)

    def _key(self, name: str, *flags: str, **capabilities: str) -> None:
        grants = [word for service, grant in capabilities.items() for word in ("--cap", service, grant)]
        self._run("ceph-authtool", self.folder / "keyring", *flags, "--gen-key", "-n", name, *grants)

    def _prepare_osd(self) -> None:
        uuid = str(uuid4())
        self._run("ceph", "osd", "new", uuid)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", uuid)

    def _create_users(self) -> None:
        for user, (key, secret) in self.keys.items():
            names = ("--uid", user, "--display-name", user)
            self._run(
                "radosgw-admin",
                "-n",
                "client.rgw",
                "user",
                "create",
                *names,
                "--access-key",
                key,
                "--secret-key",
                secret,
            )

    def _daemon(self, program: str, *arguments: str, ports: tuple[int, ...] = ()) -> Process:
        log_file = self.folder / "log" / f"{program}.out"
        return Process([program, "-f", *arguments], log_file, ports=ports, env=self._env, patience=60)

    def _run(self, *command: str | Path) -> None:
        done = subprocess.run(
            [str(word) for word in command],
            env={**os.environ, **self._env},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command} failed: {done.stderr.decode()}"

    @property
    def _env(self) -> dict[str, str]:
        return {"CEPH_CONF": str(self.folder / "ceph.conf")}
