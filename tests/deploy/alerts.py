"""Whether rules_test.yaml would notice that an alert never fires: each is made to never fire, one after the other."""

import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

PROMETHEUS = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"


def passes(rules, tests, folder):
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    (folder / "tests.yaml").write_text(yaml.safe_dump(tests))
    return subprocess.run(["promtool", "test", "rules", "tests.yaml"], cwd=folder, capture_output=True).returncode == 0


def about(tests, alert):
    """The cases that ask for the alert: the others cannot notice, and some of them take long."""
    asks = [test for test in tests["tests"] if any(ask["alertname"] == alert for ask in test["alert_rule_test"])]
    return {**tests, "tests": asks}


def main():
    rules, tests = (yaml.safe_load((PROMETHEUS / name).read_text()) for name in ["rules.yaml", "rules_test.yaml"])
    unnoticed = []
    alerts = [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    with tempfile.TemporaryDirectory() as folder:
        for rule in alerts:
            asked = about(tests, rule["alert"])
            kept, rule["expr"] = rule["expr"], "vector(0) > 1"
            if passes(rules, asked, Path(folder)):
                unnoticed.append(rule["alert"])
            rule["expr"] = kept
            if not passes(rules, asked, Path(folder)):
                unnoticed.append(f"{rule['alert']}, whose own case fails")
    if unnoticed or not alerts:
        sys.exit(f"not noticed: {unnoticed} of {len(alerts)} alerts")


main()
