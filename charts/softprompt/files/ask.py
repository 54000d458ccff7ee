"""`helm test`: ask the fleet a prompt, as a client in the cluster does. Standard library only."""

import json
import os
import sys
import time
import urllib.error
import urllib.request

URL, PROMPT, TEXT = (os.environ[name] for name in ("FLEET", "PROMPT", "INPUT"))
HEADERS = {"Content-Type": "application/json"}
if token := os.environ.get("TOKEN"):
    HEADERS["Authorization"] = f"Bearer {token}"


def ask(path: str, body: dict[str, str] | None = None) -> dict:
    """JSON of a request's answer, empty where the pod that was met has no such prompt.

    Connections are tried again for a while: network policies take effect a little late.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, headers=HEADERS, data=data)  # noqa: S310  # the fleet's own Service
    for attempt in range(20):
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310
                return json.load(reply)
        except urllib.error.HTTPError as error:
            if error.code == 404 and body:
                return {}
            sys.exit(f"{path} answered {error.code}: {error.read().decode()[:2000]}")
        except OSError as error:
            print(f"{URL} does not answer yet: {error}", flush=True)
            time.sleep(1 + attempt / 10)
    return sys.exit(f"{URL} never answered")


# Pods take up a generation one after the other, each when it next looks: one of them may be late.
for attempt in range(20):
    names = [model["id"] for model in ask("/v1/models")["data"]]
    print("a pod of the fleet offers", ", ".join(names) or "nothing", flush=True)
    if PROMPT in names or (names and not PROMPT):
        answer = ask("/v1/completions", {"model": PROMPT or names[0], "prompt": TEXT})
        if answer:
            print(f"{answer['model']} says {answer['choices'][0]['text']!r} to {TEXT!r}")
            sys.exit()
    time.sleep(attempt / 10)
sys.exit(f"it does not offer {PROMPT or 'any prompt'}")
