# /// script
# requires-python = ">=3.11"
# dependencies = ["moto[server]>=5.2,<6"]
# [tool.uv]
# exclude-newer = "2026-11-20T00:00:00Z"
# ///
"""An S3 server for tests: moto with signatures and policies checked. It prints one JSON line and ends with its input.

The line holds `url`, `bucket`, and the keys (id, secret) of `writer`, who has the guide's rights, and of `reader`.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import Any

import boto3  # type: ignore[import-not-found]
from moto.server import ThreadedMotoServer  # type: ignore[import-not-found]

BUCKET = "lake"
READ = ["s3:ListBucket", "s3:GetObject"]
WRITE = [*READ, "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]


def main() -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client(url, "s3").create_bucket(Bucket=BUCKET)
    keys = {"writer": user(url, "writer", WRITE), "reader": user(url, "reader", READ)}
    check_keys_from_now_on(url)
    print(json.dumps({"url": url, "bucket": BUCKET, **keys}), flush=True)
    sys.stdin.read()
    server.stop()


def client(url: str, service: str) -> Any:
    """A client of the server, which asks for no valid key yet."""
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    return boto3.client(service, endpoint_url=url, region_name="us-east-1", **keys)


def user(url: str, name: str, actions: list[str]) -> tuple[str, str]:
    """Make a user who may do these actions; returns the id and the secret of its key."""
    iam = client(url, "iam")
    statement = {"Effect": "Allow", "Action": actions, "Resource": ["arn:aws:s3:::*"]}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


def check_keys_from_now_on(url: str) -> None:
    """Let moto allow no more requests without a valid signature."""
    request = urllib.request.Request(f"{url}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"}, method="POST")
    urllib.request.urlopen(request).close()


if __name__ == "__main__":
    main()
