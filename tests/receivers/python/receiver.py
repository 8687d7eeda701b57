"""Which secrets a Python extension reads from what the sidecar delivers: the whole of one, standard library only.

Follows the Kiket Python SDK (package kiket_sdk): `context["secret"]` and `SecretStore().get` of the document, routes and
answers (`allow`, `pending`) of sdk.py and responses.py. Signature: bare hex over "<timestamp>.<body>", 300 seconds.
Older releases of kiket_sdk/auth.py sign the body alone and expect an ISO date; they verify no sidecar's delivery.
"""

import contextvars
import hashlib
import hmac
import json
import os
import re
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WINDOW_SECONDS = 300
ROUTE = re.compile(r"^(?:/v/(?P<version>[^/]+))?/webhooks/(?P<event>[^/?]+)(?:\?.*)?$")

# The secrets of the delivery that is being handled.
delivered = contextvars.ContextVar("delivered", default={})


def secret(key):
    """What this organization has set, else the extension's own default. An empty text is none."""
    return delivered.get().get(key) or os.environ.get(key) or None


class SecretStore:
    """The older way to the same."""

    def get(self, key):
        return secret(key)


def is_signed(body, headers):
    """Whether the body is the sidecar's, and of now. Over the bytes that came, before anything is parsed."""
    timestamp = headers.get("X-Kiket-Timestamp") or ""
    signature = headers.get("X-Kiket-Signature") or ""
    if not re.fullmatch(r"[0-9]{1,12}", timestamp) or abs(time.time() - int(timestamp)) > WINDOW_SECONDS:
        return False
    key = os.environ["KIKET_WEBHOOK_SECRET"].encode()
    expected = hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode())


def issue_created(payload, context):
    """The extension itself: works with what it has, and says what it lacks."""
    keys = ["CRM_TOKEN", "SMTP_HOST", "SMTP_USERNAME", "SMTP_PASSWORD"]
    values = {key: context["secret"](key) for key in keys}
    reported = payload.get("secret_status", {}).get("missing", [])
    unset = [key for key in keys if values[key] is None]
    metadata = {
        # Never a value: whoever dispatches keeps answers.
        "read": {key: fingerprint(value) for key, value in values.items() if value},
        "legacy": fingerprint(SecretStore().get("CRM_TOKEN")),
        "reported": reported,
    }
    if unset:
        return {"status": "pending", "message": "not configured yet: " + ", ".join(unset), "metadata": metadata}
    return {"status": "allow", "metadata": metadata}


HANDLERS = {("issue.created", "v1"): issue_created}


def fingerprint(value):
    return value and hashlib.sha256(value.encode()).hexdigest()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not is_signed(body, self.headers):
            return self.answer(401, {"error": "invalid signature"})
        route = ROUTE.match(self.path)
        version = route and (route["version"] or self.headers.get("X-Kiket-Event-Version"))
        handler = route and HANDLERS.get((route["event"], version))
        if handler is None:
            return self.answer(404 if version else 400, {"error": "no handler for this event and version"})
        payload = json.loads(body)
        delivered.set(payload.get("secrets", {}))
        return self.answer(200, handler(payload, {"event": route["event"], "secret": secret}))

    def answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing of a request belongs into a log."""


if __name__ == "__main__":
    server = ThreadingHTTPServer((os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "0"))), Receiver)
    print(f"listening on {server.server_port}", flush=True)
    server.serve_forever()
