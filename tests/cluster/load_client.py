"""Ask a fleet over and over and never again: what a client sees that does not retry. Runs in a pod, too: standard library only.

Reads what to do as JSON from its argument, asks until /tmp/stop is there, `seconds` are over or SIGTERM comes, and prints a JSON
document: how many requests were answered, each that was not, and every second in which answers came.

    address         host and port of the Service
    questions       {text: {label: probability}}: what may be asked, and the only right answers
    threads         askers at once
    pause_seconds   between two requests of an asker
    keeps           whether an asker keeps its connection
    connects        how often it tries to connect before that counts as a failure
    seconds         how long, at most
"""

import http.client
import json
import os
import random
import signal
import sys
import threading
import time

STOP = "/tmp/stop"
TOLERANCE = 1e-4


class Askers:
    def __init__(self, task):
        self.task, self.lock, self.ended = task, threading.Lock(), threading.Event()
        self.failures, self.wrong, self.digests, self.seconds = [], [], {}, {}
        self.refused, self.slowest = 0, 0.0

    def run(self):
        signal.signal(signal.SIGTERM, lambda *_: self.ended.set())
        threads = [threading.Thread(target=self.ask) for _ in range(self.task["threads"])]
        deadline = time.monotonic() + self.task["seconds"]
        for thread in threads:
            thread.start()
        print("asking", flush=True)
        while not self.ended.wait(0.2) and time.monotonic() < deadline and not os.path.exists(STOP):
            pass
        self.ended.set()
        for thread in threads:
            thread.join()
        facts = {name: getattr(self, name) for name in ("failures", "wrong", "digests", "seconds", "refused", "slowest")}
        print(json.dumps(facts), flush=True)

    def ask(self):
        draw, connection = random.Random(), None
        while not self.ended.is_set():
            text, right = draw.choice(list(self.task["questions"].items()))
            began = time.time()
            try:
                connection = connection or self.connect()
                connection.request(
                    "POST", "/v1/classify", json.dumps({"model": "colours", "input": text}), {"content-type": "application/json"}
                )
                reply = connection.getresponse()
                self.note(began, reply, json.loads(reply.read()), right)
                if reply.will_close or not self.task["keeps"]:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException, ValueError) as error:
                connection = None
                with self.lock:
                    self.failures.append([began, time.time() - began, repr(error)])
            time.sleep(self.task["pause_seconds"])

    def connect(self):
        host, _, port = self.task["address"].partition(":")
        connection, tries = http.client.HTTPConnection(host, int(port or 80), timeout=20), self.task["connects"]
        while True:
            try:
                connection.connect()
            except OSError:
                tries -= 1
                with self.lock:
                    self.refused += 1
                if not tries:
                    raise
                time.sleep(0.05)
            else:
                return connection

    def note(self, began, reply, answer, right):
        now = time.time()
        with self.lock:
            if reply.status != 200:
                self.failures.append([began, now - began, f"{reply.status} {json.dumps(answer)[:200]}"])
                return
            found = answer["probabilities"]
            if max(abs(found[label] - right[label]) for label in right) > TOLERANCE:
                self.wrong.append([began, found])
            digest = reply.headers["x-softprompt-digest"]
            self.digests[digest] = self.digests.get(digest, 0) + 1
            self.seconds[int(now)] = self.seconds.get(int(now), 0) + 1
            self.slowest = max(self.slowest, now - began)


if __name__ == "__main__":
    Askers(json.loads(sys.argv[1])).run()
