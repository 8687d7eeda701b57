"""Whether every KIKET_ name in deploy/ is a setting of this sidecar, or of its command line: `settings.py BINARY`."""

import re
import subprocess
import sys
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"

# What a client of the REST API reads, and what belongs to an extension.
CLIENT = {"KIKET_URL", "KIKET_TOKEN", "KIKET_TOKEN_FILE", "KIKET_CA_FILE", "KIKET_ORGANIZATION"}
EXTENSION = {"KIKET_WEBHOOK_SECRET"}


def main(binary):
    manual = subprocess.run([binary, "config", "print", "--manual"], check=True, capture_output=True, text=True).stdout
    # A setting without a default stands there behind a `#`.
    settings = {f"KIKET_{name.upper()}" for name in re.findall(r"^(?:# )?([a-z_]+) = ", manual, re.MULTILINE)}
    named = {}
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            for name in re.findall(r"\bKIKET_[A-Z_]+\b", path.read_text()):
                named.setdefault(name, path.name)
    unknown = {name: where for name, where in named.items() if name not in settings | CLIENT | EXTENSION}
    if unknown or len(settings) < 20 or not named:
        sys.exit(f"no settings: {unknown}; {len(settings)} are known, {len(named)} are named")


main(sys.argv[1])
