"""What the benches share: building, ports, CPU and memory of processes, certificates, and the product as a user runs it."""

import json
import os
import pathlib
import re
import secrets
import shutil
import socket
import subprocess
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
KIB = 1024


def sh(*command, **options):
    return subprocess.run(command, check=True, **options)


def install(packages, modules=()):
    """Debian packages by the command that they bring, and others by a file."""
    missing = [package for tool, package in packages.items() if not shutil.which(tool)]
    missing += [package for file, names in modules if not pathlib.Path(file).exists() for package in names]
    if missing:
        quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
        sh("apt-get", "update", "-qq", **quiet)
        sh("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, **quiet)


def build():
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
    sh("cargo", "build", "--release", "--quiet", "--manifest-path", str(ROOT / "Cargo.toml"))
    sh("cargo", "build", "--release", "--quiet", "--locked", "--manifest-path", str(HERE / "Cargo.toml"),
       "--target-dir", f"{target}/bench")
    return pathlib.Path(target, "release/kiket"), pathlib.Path(target, "bench/release/kiket-bench")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{process.args[0]} ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit(f"{process.args[0]} does not listen")


def family(pid):
    """A process and all its descendants."""
    found, queue = [], [pid]
    while queue:
        pid = queue.pop()
        found.append(pid)
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
            queue += [int(child) for child in task.read_text().split()]
    return found


def cpu_seconds(pid):
    """User + system time of all threads that live, of a process and its descendants, in nanosecond resolution."""
    total = 0
    for member in family(pid):
        for stat in pathlib.Path(f"/proc/{member}/task").glob("*/schedstat"):
            total += int(stat.read_text().split()[0])
    return total / 1e9


def resident_kib(pid):
    total = 0
    for member in family(pid):
        rollup = pathlib.Path(f"/proc/{member}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss:\s+(\d+)", rollup, re.M).group(1))
    return total


def make_pki(folder, clients=("client",)):
    """A dev CA, a server's and clients' certificates: valid for a day."""
    def openssl(*words):
        sh("openssl", *words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=kiket bench dev CA", "-days", "1",
            "-addext", "basicConstraints=critical,CA:TRUE")
    for name, usage in (("server", "serverAuth"), *((client, "clientAuth") for client in clients)):
        openssl("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN=bench dev {name}")
        (folder / "ext").write_text(f"subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage={usage}\n"
                                    "basicConstraints=CA:FALSE\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-out", f"{name}.pem", "-days", "1", "-extfile", "ext")
    return folder


class Kiket:
    """The product as a user runs it, set up over its REST API."""

    def __init__(self, kiket, folder, pki, **settings):
        self.port, self.admin, self.metrics = free_port(), free_port(), free_port()
        key, token = folder / "keyring.toml", folder / "operator.token"
        key.write_bytes(sh(str(kiket), "keys", "generate", capture_output=True).stdout)
        token.write_text(secrets.token_hex(24))
        for file in (key, token):
            file.chmod(0o600)
        self.token = token.read_text()
        self.kiket = kiket
        self.environment = {
            **os.environ, "KIKET_PROXY_LISTEN": f"127.0.0.1:{self.port}", "KIKET_ADMIN_LISTEN": f"127.0.0.1:{self.admin}",
            "KIKET_METRICS_LISTEN": f"127.0.0.1:{self.metrics}", "KIKET_DATABASE_URL": f"sqlite:{folder}/kiket.db",
            "KIKET_MASTER_KEY_FILE": str(key), "KIKET_BOOTSTRAP_TOKEN_FILE": str(token),
            "KIKET_EGRESS_ALLOW_CIDRS": "127.0.0.0/8", "KIKET_DANGEROUS_ALLOW_HTTP": "true", "KIKET_LOG_FORMAT": "json",
            "KIKET_EGRESS_CA_FILE": str(pki / "ca.pem"), "KIKET_WORKERS": "1",
            **{f"KIKET_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.log = open(folder / "kiket.log", "wb")
        self.start()
        wait_for(self.port, self.process)
        wait_for(self.admin, self.process)

    def start(self):
        self.process = subprocess.Popen([str(self.kiket), "serve"], env=self.environment, stdout=self.log,
                                        stderr=self.log)

    def is_ready(self):
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                    f"http://127.0.0.1:{self.metrics}/readyz", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def install(self, installation, organization, callback, values):
        """An extension of its own, installed and enabled, with its values at organization scope."""
        extension = f"com.example.{installation}"
        manifest = {"extension": {"id": extension, "delivery": {"type": "http", "callback": callback}}}
        self.call("PUT", f"/extensions/{extension}", manifest)
        self.call("POST", "/marketplace/installations", {
            "id": installation, "extension_id": extension, "organization_id": organization, "project_id": "proj_bench"})
        for key, value in values.items():
            self.call("POST", "/extensions/secrets", {"scope": "organization", "id": organization, "key": key,
                                                      "value": value})
        self.call("PATCH", f"/marketplace/installations/{installation}", {"state": "enabled"})

    def call(self, method, path, body):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.admin}/api/v1{path}", data=json.dumps(body).encode(), method=method,
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"})
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).read()

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()
