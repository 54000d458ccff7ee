"""Each duty with its own keys, both ways: what its policy allows works, and what it does not is refused.

The policies are the templates of infra/terraform (`tests/store_policies.py`) on a real S3 server (versitygw). Not tried here,
since that server refuses the condition key as malformed: `s3:if-none-match` (create, and never overwrite).
"""

import dataclasses
import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from softprompt.documents import sha256_hex
from softprompt.errors import StoreUnavailable
from softprompt.release.audit.log import AuditLog
from softprompt.release.audit.record import Judgement
from softprompt.release.care.gc import collect_garbage
from softprompt.release.care.init_channel import allow_audit, audit_key_file, init_channel, publishing_key_file
from softprompt.release.care.root_changes import change_trust_root, publish_trust_root
from softprompt.release.care.verify_store import verify_store
from softprompt.release.layout import blob_key, generation_key, root_key
from softprompt.release.planning.policy import LAPTOP_POLICY
from softprompt.release.publish_prompt import publish_prompt
from softprompt.release.reader import Reader
from softprompt.release.s3_client import S3Access, s3_client
from softprompt.release.store import S3Store
from softprompt.release.trust import load_signer, load_trust_root
from tests import store_policies
from tests.ports import free_port
from tests.prompts import random_prompt_file
from tests.store_policies import TERRAFORM

SERVER = Path(__file__).parents[4] / "shared" / "cluster" / "s3"
BUCKET, PREFIX, CHANNEL = "prompts", "fleet", "staging"
OF_A_CHANNEL = ("publisher", "pipeline", "reader", "reviewer")
DUTIES = (*OF_A_CHANNEL, "auditor", "gc", "keeper")
# Duty over the bucket of runs -> what it may write and delete, and what it may only read.
AT_WORK = {
    "bases": ((), ("bases/",)),
    "trainer": (("checkpoints/",), ("bases/",)),
    "runs": (("artifacts/", "checkpoints/"), ("bases/", "datasets/")),
    "registry": (("mlflow/",), ()),
}
PLACES = ("bases/", "datasets/", "checkpoints/", "artifacts/", "mlflow/", "channels/")
NEEDS_TERRAFORM = pytest.mark.skipif(shutil.which("terraform") is None, reason="Terraform is not installed here")
VALUES = {"bucket_arn": f"arn:aws:s3:::{BUCKET}", "prefix": f"{PREFIX}/", "channel": CHANNEL}

ALL_VALUES = VALUES | {
    "work_arn": "arn:aws:s3:::work",
    "key_arn": "arn:aws:kms:eu-central-1:1:key/k",
    "noncurrent_days": "30",
    "proposal_days": "90",
    "oidc_provider_arn": "arn:aws:iam::1:oidc-provider/oidc.eks.example/id/A",
    "oidc_issuer": "oidc.eks.example/id/A",
    "namespace": "prompts-staging",
    "service_account": "softprompt-reconciler",
}


def render(name, **values):
    return store_policies.render(name, **(values or VALUES))


def statements(duty):
    return store_policies.statements(duty, duty, **VALUES)


def guards():
    return store_policies.guards(**VALUES)


@pytest.fixture(scope="module")
def access(tmp_path_factory):
    """Duty -> access with its own keys; `root` may do everything."""
    if not SERVER.exists():
        pytest.skip(f"no versitygw here: {SERVER} is missing")
    port = free_port()
    keys = {"ROOT_ACCESS_KEY": "root-access", "ROOT_SECRET_KEY": "root-secret"}
    command = [str(SERVER), str(tmp_path_factory.mktemp("duties")), str(port)]
    process = subprocess.Popen(command, env=os.environ | keys, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, "the server ended"
            time.sleep(0.1)
        root = S3Access(
            endpoint_url=f"http://127.0.0.1:{port}",
            region="us-east-1",
            access_key_id="root-access",
            secret_access_key="root-secret",
        )
        client = s3_client(root)
        client.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
        found = {"root": root}
        for duty in DUTIES:
            _create_user(port, duty)
            found[duty] = dataclasses.replace(root, access_key_id=duty, secret_access_key=f"{duty}-secret")
        yield found
    finally:
        process.terminate()
        process.wait(timeout=10)


def _create_user(port, name):
    """Through the server's admin interface."""
    body = f"<Account><Access>{name}</Access><Secret>{name}-secret</Secret><Role>user</Role></Account>".encode()
    request = AWSRequest(method="PATCH", url=f"http://127.0.0.1:{port}/create-user", data=body)
    S3SigV4Auth(Credentials("root-access", "root-secret"), "s3", "us-east-1").add_auth(request)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("PATCH", "/create-user", body, dict(request.headers))
    assert connection.getresponse().status == 201
    connection.close()


class Stores:
    """The store as each duty sees it. The server takes no policy of all at once: it has that of the duty asked for last."""

    def __init__(self, access):
        self._stores = {duty: S3Store(BUCKET, PREFIX, s3_client(one, read_timeout_seconds=5)) for duty, one in access.items()}
        self.root = self._stores["root"]._client

    def __getitem__(self, duty):
        if duty != "root":
            self.put_policy([*statements(duty), *guards()])
        return self._stores[duty]

    def put_policy(self, statements):
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self.root.put_bucket_policy(Bucket=BUCKET, Policy=policy)


@pytest.fixture(scope="module")
def stores(access):
    return Stores(access)


def prompt(seed):
    return random_prompt_file(seed, num_tokens=2, width=4)


@pytest.fixture(scope="module")
def fleet(stores, tmp_path_factory):
    """A begun channel in a folder of keys; the keeper has put the root, the publisher the first generation."""
    folder = tmp_path_factory.mktemp("fleet")
    trust_root, keys = folder / "trust" / "root.json", folder / "keys"
    init_channel(CHANNEL, store=stores["root"], keys_dir=keys, trust_root=trust_root)
    allow_audit(CHANNEL, keys_dir=keys, trust_root=trust_root, holder="Ada")
    for authority in ("pipeline", "git"):
        policy = folder / authority / CHANNEL / "_policy.yaml"
        policy.parent.mkdir(parents=True)
        policy.write_text(LAPTOP_POLICY.replace("authority: pipeline", f"authority: {authority}"))
    return folder


def publish(fleet, store, seed, authority="pipeline"):
    return publish_prompt(
        prompt=prompt(seed),
        name="greeting",
        channel=CHANNEL,
        verdict="passed",
        evidence={"notes.txt": b"good"},
        model_version="1",
        numerics="float32",
        store=store,
        policy_dir=fleet / authority,
        trust_root=fleet / "trust" / "root.json",
        signing_key=publishing_key_file(fleet / "keys", CHANNEL) if authority == "pipeline" else None,
        state_dir=fleet / "journals",
    )


def trust(fleet):
    return load_trust_root(fleet / "trust" / "root.json")


def test_the_keeper_puts_roots(fleet, stores):
    change_trust_root(fleet / "trust" / "root.json", load_signer(fleet / "keys" / "root.pem"), {})
    assert publish_trust_root(stores["keeper"], fleet / "trust" / "root.json") == (2, 3)


def test_the_publisher_publishes(fleet, stores):
    before = publish(fleet, stores["publisher"], 1)
    assert before.outcome == "published"
    assert publish(fleet, stores["publisher"], 2).generation == before.generation + 1


def test_the_pipeline_proposes_where_git_has_the_authority(fleet, stores):
    assert publish(fleet, stores["pipeline"], 3, "git").outcome == "proposed"
    with pytest.raises(StoreUnavailable, match="AccessDenied"):
        publish(fleet, stores["pipeline"], 4)


def test_the_reader_follows(fleet, stores, tmp_path):
    publish(fleet, stores["publisher"], 2)
    reader = Reader(store=stores["reader"], channel=CHANNEL, trust=trust(fleet), state_dir=tmp_path)
    assert reader.refresh().load(prompt(2).digest) == prompt(2)


def test_the_reviewer_records(fleet, stores):
    judged = Judgement(
        decision="approved", name="greeting", model_version="1", prompt=prompt(1).digest, report="", reviewer="ada", note=""
    )
    log = AuditLog(stores["reviewer"], CHANNEL, trust(fleet))
    recorded, made = log.record(judged, load_signer(audit_key_file(fleet / "keys", CHANNEL)), since=0)
    assert made or recorded.record.judgement == judged


def test_the_auditor_verifies_everything(fleet, stores):
    publish(fleet, stores["publisher"], 2)
    found = verify_store(stores["auditor"], trust(fleet), [CHANNEL], now=time.time())
    assert (found.problems, found.num_generations >= 2) == ((), True)
    stores["auditor"]._client.list_object_versions(Bucket=BUCKET, MaxKeys=1)


class Old:
    """A store whose blobs are a month old."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    def find(self, key):
        found = self._store.find(key)
        return found and dataclasses.replace(found, age_seconds=30 * 24 * 3600.0)


def test_only_the_collector_collects(fleet, stores):
    publish(fleet, stores["publisher"], 2)
    data = b"nobody names this"
    stores["publisher"].put(blob_key(sha256_hex(data)), data)
    for duty in ("publisher", "pipeline", "reader", "reviewer", "auditor", "keeper"):
        with pytest.raises(StoreUnavailable, match="AccessDenied"):
            collect_garbage(Old(stores[duty]), trust(fleet), delete=True)
    done = collect_garbage(Old(stores["gc"]), trust(fleet), delete=True)
    assert sha256_hex(data) in done.collected
    assert stores["auditor"].get(blob_key(sha256_hex(data)), max_bytes=100) is None


KEYS = {
    "channel": generation_key(CHANNEL, 900_000_000_001),
    "another channel": generation_key("production", 900_000_000_001),
    "root": root_key(900_000_000_001),
    "audit": f"audit/{CHANNEL}/900000000001.json",
    "another audit": "audit/production/900000000001.json",
    "blob": blob_key("0" * 64),
    "proposal": f"proposals/{CHANNEL}/greeting/{'0' * 64}.yaml",
    "another proposal": f"proposals/production/greeting/{'0' * 64}.yaml",
    "probe": "probe/conditional-write",
    "elsewhere": "elsewhere",
}
MAY_WRITE = {
    "publisher": {"channel", "blob", "probe"},
    "pipeline": {"blob", "proposal"},
    "reader": set(),
    "reviewer": {"audit", "probe"},
    "auditor": set(),
    "gc": set(),
    "keeper": {"root"},
}
MAY_DELETE = {"gc": {"blob"}}
MAY_READ = {
    "publisher": {
        "channel",
        "another channel",
        "root",
        "audit",
        "another audit",
        "blob",
        "proposal",
        "another proposal",
        "probe",
    },
    "pipeline": {"channel", "another channel", "root", "blob", "proposal", "another proposal"},
    "reader": {"channel", "root", "blob"},
    "reviewer": set(KEYS) - {"elsewhere"},
    "auditor": set(KEYS),
    "gc": {"channel", "another channel", "root", "blob", "proposal", "another proposal"},
    "keeper": {"channel", "another channel", "root"},
}


def allowed(request):
    """Whether the server does it; anything but yes and 403 is a fault of the test."""
    from botocore.exceptions import ClientError

    try:
        request()
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 403:
            raise
        return False
    return True


@pytest.mark.parametrize("duty", DUTIES)
def test_a_duty_may_do_this_and_nothing_else(stores, duty):
    client = stores[duty]._client
    written, deleted, read = set(), set(), set()
    for name, key in KEYS.items():
        there = {"Bucket": BUCKET, "Key": f"{PREFIX}/{key}"}
        if allowed(lambda there=there: client.put_object(**there, Body=b"x")):
            written.add(name)
        version = stores.root.put_object(**there, Body=b"x")["VersionId"]
        if allowed(lambda there=there: client.get_object(**there)):
            read.add(name)
        if allowed(lambda there=there: client.delete_object(**there)):
            deleted.add(name)
            stores.root.put_object(**there, Body=b"x")
        if allowed(lambda there=there, version=version: client.delete_object(**there, VersionId=version)):
            deleted.add(name)
    assert (written, deleted, read) == (MAY_WRITE[duty], MAY_DELETE.get(duty, set()), MAY_READ[duty])
    assert allowed(lambda: client.list_objects_v2(Bucket=BUCKET, Prefix=PREFIX))
    assert not allowed(lambda: client.put_bucket_policy(Bucket=BUCKET, Policy="{}"))
    assert not allowed(lambda: client.put_object(Bucket=BUCKET, Key="beside-the-prefix", Body=b"x"))


def test_a_key_that_is_not_there_is_404_to_whoever_may_list(stores):
    for duty in DUTIES:
        assert stores[duty].get(root_key(800_000_000_000), max_bytes=1) is None


def test_what_the_server_cannot_be_asked_is_what_the_docstring_says(stores):
    """If it learns this condition, try it."""
    from botocore.exceptions import ClientError

    conditional = [one for one in [*render("publisher")["Statement"], *render("bucket")["Statement"]] if "none-match" in str(one)]
    assert len(conditional) == 2
    for statement in conditional:
        with pytest.raises(ClientError, match="MalformedPolicy"):
            stores.put_policy([{"Principal": {"AWS": ["publisher"]}} | statement])


def test_without_tls_nobody_gets_in(stores):
    """The tests' own connections are such."""
    (insecure,) = [one for one in render("bucket")["Statement"] if one["Sid"] == "DenyInsecureTransport"]
    client = stores["reader"]._client
    assert allowed(lambda: client.list_objects_v2(Bucket=BUCKET, Prefix=PREFIX))
    stores.put_policy([*statements("reader"), insecure])
    assert not allowed(lambda: client.list_objects_v2(Bucket=BUCKET, Prefix=PREFIX))


@pytest.mark.parametrize("duty", AT_WORK)
def test_a_duty_of_runs_writes_and_reads_its_places_and_no_other(stores, access, duty):
    writes, reads = AT_WORK[duty]
    if "work" not in [bucket["Name"] for bucket in stores.root.list_buckets()["Buckets"]]:
        stores.root.create_bucket(Bucket="work")
    rights = list(store_policies.statements(duty, "reader", work_arn="arn:aws:s3:::work"))
    stores.root.put_bucket_policy(Bucket="work", Policy=json.dumps({"Version": "2012-10-17", "Statement": rights}))
    client = s3_client(access["reader"])
    for place in PLACES:
        key = f"{place}{duty}"
        stores.root.put_object(Bucket="work", Key=key, Body=b"x")
        assert allowed(lambda key=key: client.get_object(Bucket="work", Key=key)) == (place in (*writes, *reads)), key
        assert allowed(lambda key=key: client.put_object(Bucket="work", Key=key, Body=b"y")) == (place in writes), key
        assert allowed(lambda key=key: client.delete_object(Bucket="work", Key=key)) == (place in writes), key
    assert allowed(lambda: client.list_objects_v2(Bucket="work"))


# The documents themselves.


def test_every_template_renders_and_says_who_may_do_what():
    for path in sorted((TERRAFORM / "policies").glob("*.json.tftpl")):
        name = path.name.removesuffix(".json.tftpl")
        found = render(name, **ALL_VALUES)
        assert found.get("Version") == "2012-10-17" or found["Rules"]
        assert name in {*DUTIES, *AT_WORK, "bucket", "sign", "lifecycle", "trust"}


def test_a_role_can_be_taken_by_one_service_account_only():
    (statement,) = render("trust", **ALL_VALUES)["Statement"]
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert statement["Condition"] == {
        "StringEquals": {
            "oidc.eks.example/id/A:aud": "sts.amazonaws.com",
            "oidc.eks.example/id/A:sub": "system:serviceaccount:prompts-staging:softprompt-reconciler",
        }
    }


def test_generations_roots_and_decisions_are_only_ever_created():
    """On AWS; here the condition cannot be tried."""
    for duty, sid in (("publisher", "CreateGenerations"), ("keeper", "CreateRoots"), ("reviewer", "CreateReviewDecisions")):
        (statement,) = [one for one in render(duty)["Statement"] if one["Sid"] == sid]
        assert statement["Condition"] == {"Null": {"s3:if-none-match": "false"}}
    assert "Delete" not in json.dumps([render(duty) for duty in DUTIES if duty != "gc"])


def test_the_lifecycle_is_one_that_s3_takes(tmp_path):
    from softprompt.embedded.s3 import embedded_s3

    rules = render("lifecycle", prefix="fleet/", noncurrent_days="30", proposal_days="90")
    with embedded_s3(tmp_path) as server:
        client = s3_client(server.access)
        client.put_bucket_lifecycle_configuration(Bucket=server.bucket, LifecycleConfiguration=rules)
        found = client.get_bucket_lifecycle_configuration(Bucket=server.bucket)["Rules"]
    assert [rule["ID"] for rule in found] == [rule["ID"] for rule in rules["Rules"]]
    assert not [rule for rule in rules["Rules"] if "channels" in json.dumps(rule) or "audit" in json.dumps(rule)]


def test_the_terraform_files_parse():
    """With a parser that is not Terraform; providers were not there to validate against."""
    import hcl2

    files = sorted(TERRAFORM.rglob("*.tf"))
    assert len(files) > 10
    for path in files:
        with path.open() as file:
            assert hcl2.load(file), path


def terraform(folder, *arguments, **more):
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "CHECKPOINT_DISABLE": "1"}
    command = ["terraform", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120, **more)


@NEEDS_TERRAFORM
def test_terraform_formats_and_renders_the_same(tmp_path):
    checked = terraform(tmp_path, "fmt", "-check", "-recursive", str(TERRAFORM))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for path in sorted((TERRAFORM / "policies").glob("*.tftpl")):
        shown = terraform(tmp_path, "console", input=f'templatefile("{path}", {json.dumps(ALL_VALUES)})')
        text = shown.stdout.strip().removeprefix("<<EOT\n").removesuffix("\nEOT")
        assert json.loads(text) == render(path.name.removesuffix(".json.tftpl"), **ALL_VALUES), path


@NEEDS_TERRAFORM
@pytest.mark.parametrize(
    ("role", "refused"),
    [
        ({"policies": ["publisher-staging", "sign-staging"]}, ""),
        ({"policies": ["pipeline-staging", "sign-staging"]}, "never both"),
        ({"policies": ["reader-staging"], "service_account": "*"}, "no wildcards"),
    ],
    ids=["a reconciler", "a pipeline that signs", "whoever asks"],
)
def test_terraform_refuses_roles_that_reach_too_far(tmp_path, role, refused):
    """Of the module only its variables: without resources Terraform needs no provider."""
    shutil.copy(TERRAFORM / "modules" / "roles" / "variables.tf", tmp_path)
    role = {"namespace": "prompts-staging", "service_account": "softprompt-reconciler"} | role
    values = {"oidc_provider": {"arn": "a", "issuer": "i"}, "policy_arns": {}, "roles": {"one": role}}
    (tmp_path / "terraform.tfvars.json").write_text(json.dumps(values))
    planned = terraform(tmp_path, "plan", "-no-color", "-input=false")
    assert (planned.returncode == 0) == (not refused), planned.stdout + planned.stderr
    assert refused in planned.stderr
