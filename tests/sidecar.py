"""How a script starts a real sidecar on a throw-away store, and what an operator says to it."""

import json
import os
import re
import subprocess
import threading
import urllib.error
import urllib.request
from queue import Queue

# Longer than anything takes; what hangs fails.
PATIENCE_SECONDS = 120


class Failed(Exception):
    """What was not as it should be."""


def expect(what, actual, wanted):
    if actual != wanted:
        raise Failed(f"{what}: {actual!r} instead of {wanted!r}")


def first_line(stream, pattern):
    """The match of the first line that has the pattern. Reads on in the background, so that nobody blocks on a pipe."""
    found = Queue()

    def read():
        for line in stream:
            if match := re.search(pattern, line):
                found.put(match)
        found.put(None)

    threading.Thread(target=read, daemon=True).start()
    match = found.get(timeout=PATIENCE_SECONDS)
    if match is None:
        raise Failed("it ended before it listened")
    return match


def request(url, body=None, headers=None, method="POST"):
    """Status, headers and body of an answer, whatever its status."""
    asked = urllib.request.Request(url, body, headers or {}, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=PATIENCE_SECONDS) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


class Sidecar:
    """`BINARY serve` with a SQLite file, a key and an operator's token in `folder`. Ends with the `with` that made it."""

    def __init__(self, binary, folder, **settings):
        key = subprocess.run([binary, "keys", "generate"], check=True, capture_output=True).stdout
        self.token = os.urandom(24).hex()
        for name, content in [("master.key", key), ("operator.token", self.token.encode())]:
            (folder / name).touch(mode=0o600)
            (folder / name).write_bytes(content)
        settings = {
            "master_key_file": folder / "master.key", "bootstrap_token_file": folder / "operator.token",
            "database_url": f"sqlite:{folder}/kiket.db", "log_format": "json",
            "proxy_listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0", **settings,
        }
        # Settings of whoever calls are not meant for this one.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KIKET_")}
        flags = [f"--set={name}={value}" for name, value in settings.items()]
        self.process = subprocess.Popen([binary, "serve", *flags], env=environment, stderr=subprocess.PIPE, text=True)
        line = json.loads(first_line(self.process.stderr, r'.*"serving.*').group())
        self.proxy, self.admin = f"http://{line['proxy']}", f"http://{line['admin']}/api/v1"
        self.metrics = line["metrics"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def api(self, method, path, document):
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        status, _, body = request(self.admin + path, json.dumps(document).encode(), headers, method)
        if status >= 300:
            raise Failed(f"{method} {path}: {status} {body.decode()}")

    def install(self, name, callback):
        """An extension with this callback, installed as `ins_NAME` in project web of acme, and enabled."""
        self.api("PUT", f"/extensions/com.example.{name}", {"extension": {
            "id": f"com.example.{name}", "delivery": {"type": "http", "callback": callback}}})
        self.api("POST", "/marketplace/installations", {
            "id": f"ins_{name}", "extension_id": f"com.example.{name}", "organization_id": "acme", "project_id": "web"})
        self.api("PATCH", f"/marketplace/installations/ins_{name}", {"state": "enabled"})
