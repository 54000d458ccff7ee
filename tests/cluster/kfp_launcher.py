"""What KFP's launcher does in a step's pod, in place of the Go program, which cannot be had here. Runs inside the image.

    python3 launch.py --store /kfp-store/store.json --executor_input JSON -- COMMAND ARGUMENT...

As `launcher_v2.go` of KFP 2.17.0: folders for outputs are made, input artifacts are fetched to the paths that belong to their
URIs, placeholders in the arguments are filled in, the command runs, its output file and output parameters are read, artifacts are
sent to their URIs, one that has no file is passed over. What the launcher would write into ML Metadata goes to an object beside
the artifacts, where the test reads it. Its keys of the store are its own: the step's environment is as the package says.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import boto3
from botocore.config import Config

RESULT = "launcher_result.json"


def local(uri: str) -> Path:
    """Where the artifact of a URI lies in the pod."""
    return Path("/s3") / uri.removeprefix("s3://")


def bucket_and_key(uri: str) -> tuple[str, str]:
    """Of an S3 URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def fetch(s3: object, uri: str) -> None:
    """A file, or everything below a folder; what only begins with the same letters is another artifact."""
    bucket, prefix = bucket_and_key(uri)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", []):
            if found["Key"] == prefix or found["Key"].startswith(f"{prefix}/"):
                path = local(f"s3://{bucket}/{found['Key']}")
                path.parent.mkdir(parents=True, exist_ok=True)
                s3.download_file(bucket, found["Key"], str(path))


def send(s3: object, uri: str) -> None:
    """A file, or a folder with what is in it; nothing where a step wrote none."""
    bucket, key = bucket_and_key(uri)
    path = local(uri)
    if path.is_file():
        s3.upload_file(str(path), bucket, key)
    for file in sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else ():
        s3.upload_file(str(file), bucket, f"{key}/{file.relative_to(path)}")


def artifacts_of(side: dict) -> list[tuple[str, dict]]:
    """(name, artifact) of one side of an executor input."""
    return [(name, found["artifacts"][0]) for name, found in side.get("artifacts", {}).items()]


def main() -> int:
    options, command = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    given = dict(zip(options[::2], options[1::2], strict=True))
    store = json.loads(Path(given["--store"]).read_text())
    executor_input = json.loads(given["--executor_input"])
    s3 = boto3.client("s3", **store, config=Config(s3={"addressing_style": "path"}))
    inputs, outputs = executor_input.get("inputs", {}), executor_input["outputs"]

    for parameter in outputs.get("parameters", {}).values():
        Path(parameter["outputFile"]).parent.mkdir(parents=True, exist_ok=True)
    for _, artifact in artifacts_of(outputs):
        local(artifact["uri"]).parent.mkdir(parents=True, exist_ok=True)
    for _, artifact in artifacts_of(inputs):
        fetch(s3, artifact["uri"])

    text = json.dumps(executor_input)
    log = local(dict(artifacts_of(outputs))["executor-logs"]["uri"])
    with log.open("wb") as file:
        step = subprocess.Popen(
            [part.replace("{{$}}", text) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ
        )
        for line in step.stdout:
            sys.stdout.buffer.write(line)
            sys.stdout.flush()
            file.write(line)
    if step.wait() != 0:
        send(s3, dict(artifacts_of(outputs))["executor-logs"]["uri"])
        return 1  # whatever the step's own code was: KFP's launcher passes none on

    output_file = Path(outputs["outputFile"])
    written = json.loads(output_file.read_text()) if output_file.exists() else {}
    result = {"parameters": dict(written.get("parameterValues", {})), "metadata": {}}
    for name, parameter in outputs.get("parameters", {}).items():
        if name not in result["parameters"]:
            result["parameters"][name] = Path(parameter["outputFile"]).read_text()
    for name, artifact in artifacts_of(outputs):
        send(s3, artifact["uri"])
        said = written.get("artifacts", {}).get(name, {}).get("artifacts", [{}])[0]
        result["metadata"][name] = artifact.get("metadata", {}) | said.get("metadata", {})
    bucket, key = bucket_and_key("s3://" + str(output_file.parent).removeprefix("/s3/"))
    s3.put_object(Bucket=bucket, Key=f"{key}/{RESULT}", Body=json.dumps(result).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
