"""Users of the cluster's S3 server (versitygw), each with the rights that a test gives it."""

import dataclasses
import hashlib
import json
import secrets
import uuid
from collections.abc import Mapping, Sequence

import httpx
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from softprompt.release.s3_client import S3Access, s3_client

READ = ("s3:ListBucket", "s3:GetObject")
WRITE = (*READ, "s3:PutObject")


def make_user(owner: S3Access, name: str = "user") -> S3Access:
    """A new user who may do nothing yet."""
    user = dataclasses.replace(owner, access_key_id=f"{name}-{uuid.uuid4().hex[:8]}", secret_access_key=secrets.token_hex(16))
    fields = {"Access": user.access_key_id, "Secret": user.secret_access_key, "Role": "user"}
    account = f"<Account>{''.join(f'<{name}>{value}</{name}>' for name, value in fields.items())}</Account>"
    headers = {"x-amz-content-sha256": hashlib.sha256(account.encode()).hexdigest()}
    request = AWSRequest("PATCH", f"{owner.endpoint_url}/create-user", data=account.encode(), headers=headers)
    SigV4Auth(Credentials(owner.access_key_id, owner.secret_access_key), "s3", owner.region).add_auth(request)
    httpx.request("PATCH", request.url, content=account.encode(), headers=dict(request.headers), timeout=60).raise_for_status()
    return user


def allow(owner: S3Access, bucket: str, rights: Mapping[str, Sequence[str]]) -> None:
    """Give users their rights over a bucket, in the place of all that were given before.

    Args:
        owner: Of the bucket.
        bucket: Which.
        rights: Access key id -> actions, such as `READ`.
    """
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    statements = [
        {"Effect": "Allow", "Principal": {"AWS": [user]}, "Action": list(actions), "Resource": resources}
        for user, actions in rights.items()
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    s3_client(owner).put_bucket_policy(Bucket=bucket, Policy=policy)


def make_reader(owner: S3Access, bucket: str) -> S3Access:
    """A new user who may list one bucket and get its objects, nothing else; nobody but the owner keeps a right to it."""
    reader = make_user(owner, "reader")
    allow(owner, bucket, {reader.access_key_id: READ})
    return reader


def as_environment(user: S3Access) -> dict[str, str]:
    """A user's keys under the names that a Secret of ours has them by."""
    return {"AWS_ACCESS_KEY_ID": user.access_key_id, "AWS_SECRET_ACCESS_KEY": user.secret_access_key}
