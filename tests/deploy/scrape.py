"""Whether a real Prometheus scrapes a sidecar and every rule and panel finds its metrics there: `scrape.py BINARY`.

One alert is made to fire for real, from a refused dial to the alert's state; the others are shown by rules_test.yaml.
"""

import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import quote

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from sidecar import PATIENCE_SECONDS, Failed, Sidecar, expect, request  # noqa: E402

DEPLOY = HERE.parents[1] / "deploy"

# What Grafana puts in place of its variables.
VARIABLES = {"$__rate_interval": "5m", "$instance": ".*"}

# What Prometheus itself makes.
OWN = {"up", "ALERTS"}


class Prometheus:
    """Prometheus with the rules, scraping one sidecar every second."""

    def __init__(self, folder, target):
        (folder / "prometheus.yml").write_text(json.dumps({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(folder / "rules.yaml")],
            "scrape_configs": [{"job_name": "kiket", "static_configs": [{"targets": [target]}]}],
        }))
        # The same rules, each looked at every second: their own pace is for production.
        rules = (DEPLOY / "prometheus" / "rules.yaml").read_text()
        (folder / "rules.yaml").write_text(re.sub(r"(?m)^    interval: .*$", "    interval: 1s", rules))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/api/v1"
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def get(self, path):
        try:
            return json.loads(request(self.url + path, method="GET")[2])
        except (OSError, ValueError):  # it is not up yet, or says so in plain text
            if self.process.poll() is not None:
                raise Failed(f"Prometheus ended: {self.process.stderr.read()}") from None
            return {}

    def query(self, expression):
        """The series of an expression; a fault is told."""
        answer = self.get(f"/query?query={quote(expression)}")
        if answer and answer["status"] != "success":
            raise Failed(f"{expression}: {answer['error']}")
        return answer["data"]["result"] if answer else []

    def rules(self):
        groups = self.get("/rules").get("data", {}).get("groups", [])
        return [rule for group in groups for rule in group["rules"]]

    def wait_for(self, what, condition):
        """Asks until it is so, once for every scrape."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        next_look = threading.Event()
        while not condition():
            if time.monotonic() > deadline:
                raise Failed(f"never: {what}")
            next_look.wait(0.5)


def expressions():
    """Every expression of the dashboard and of the rules, by where it stands."""
    dashboard = json.loads((DEPLOY / "grafana" / "kiket.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']}", target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield f"annotation {annotation['name']}", annotation["expr"]
    text = (DEPLOY / "prometheus" / "rules.yaml").read_text()
    for metric in re.findall(r"\bkiket_[a-z0-9_]+(?:\{[^}]*\})?", text):
        yield "rules.yaml", metric


def unknown(expression, series):
    """Metrics and words of labels in an expression that no series has. `series`: name → label → words."""
    recorded = set(re.findall(r"record: (\S+)", (DEPLOY / "prometheus" / "rules.yaml").read_text()))
    names = r"\b((?:kiket[_:]|process_)[a-z0-9_:]+|up\b|ALERTS\b)(?:\{([^}]*)\})?"
    for name, matchers in re.findall(names, expression):
        if name in recorded | OWN:
            continue
        if name not in series:
            yield name
            continue
        for label, text in re.findall(r"(\w+)!?=~?\"([^\"]*)\"", matchers):
            if label not in ("instance", "job"):
                yield from (f"{name}{{{label}={word}}}" for word in text.split("|") if word not in series[name].get(label, ()))


def undocumented(scraped):
    """Where the manual's table and what a sidecar shows differ in name, type or labels."""
    shown, labels = dict(re.findall(r"(?m)^# TYPE (\S+) (\S+)$", scraped)), {}
    for name, text in re.findall(r"(?m)^([a-z_]+)(?:\{(.*)\})? ", scraped):
        base = name if name in shown else re.sub(r"_(bucket|sum|count)$", "", name)
        labels.setdefault(base, set()).update(set(re.findall(r'(\w+)="', text)) - {"le"})
    page = (DEPLOY.parent / "src" / "manual" / "metrics.md").read_text()
    told = {}
    for name, kind, names in re.findall(r"(?m)^\| `(\w+)` \| (\w+) \|([^|]*)\|", page):
        told[name] = (kind, set(re.findall(r"`(\w+)`", names)))
    seen = {name: (kind, labels.get(name, set())) for name, kind in shown.items()}
    return [f"{name}: the manual says {told.get(name)}, the sidecar {seen.get(name)}"
            for name in sorted(told.keys() | seen.keys()) if told.get(name) != seen.get(name)]


def main(binary):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        with Sidecar(binary, folder) as sidecar, Prometheus(folder, sidecar.metrics) as prometheus:
            # A name is installed, and leads to this machine: it is refused when it is dialled.
            sidecar.install("inward", {"url": "https://localhost:9"})
            prometheus.wait_for("a scrape", lambda: prometheus.query("kiket_build_info"))
            series = {}
            for one in prometheus.query('{__name__=~"kiket_.*|process_start_time_seconds"}'):
                labels = series.setdefault(one["metric"]["__name__"], {})
                for label, word in one["metric"].items():
                    labels.setdefault(label, set()).add(word)
            wrong = undocumented(request(f"http://{sidecar.metrics}/metrics", method="GET")[2].decode())
            for where, expression in expressions():
                for variable, text in VARIABLES.items():
                    expression = expression.replace(variable, text)
                prometheus.query(expression)
                wrong += [f"{where}: {what}" for what in unknown(expression, series)]
            expect("metrics and labels that do not exist, or are not told of", wrong, [])
            prometheus.wait_for("every rule was looked at", lambda: (rules := prometheus.rules())
                                and all(rule["health"] != "unknown" for rule in rules))
            sick = [(rule["name"], rule.get("lastError")) for rule in prometheus.rules() if rule["health"] != "ok"]
            expect("rules that do not evaluate", sick, [])

            def firing():
                return [alert["metric"]["alertname"] for alert in prometheus.query('ALERTS{alertstate="firing"}')]

            expect("alerts of a sidecar that is well", firing(), [])
            body = json.dumps({"id": "inv_1", "extension_installation_id": "ins_inward"}).encode()
            answer = request(f"{sidecar.proxy}/webhooks/x", body, {"Content-Type": "application/json"})
            expect("the refusal", json.loads(answer[2])["type"], "urn:kiket:problem:destination-refused")
            prometheus.wait_for("KiketEgressRefused fires", lambda: "KiketEgressRefused" in firing())


try:
    main(sys.argv[1])
except Failed as reason:
    sys.exit(str(reason))
