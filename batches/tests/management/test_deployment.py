"""The files in `deploy/`, with the programs that read them: systemd's units, and nginx in front of the application."""

import json
import re
import shlex
import shutil
import socket
import ssl
import subprocess
from contextlib import ExitStack
from gettext import GNUTranslations

import httpx
import pytest
from django.conf import settings

from batches.tests.conftest import skip_or_fail
from batches.tests.support.documents import read_page
from batches.tests.support.nameserver import NameServer
from batches.tests.support.ports import free_port
from batches.tests.support.processes import WAIT_SECONDS, Commands, run_python, wait_until
from batches.tests.test_production import POLICY, PRODUCTION

DEPLOY = settings.BASE_DIR / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
HOST = "batches.example.org"


def find_program(name):
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    return found or skip_or_fail(f"{name} is not installed.")


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS, **options)


def read_environment():
    """As a shell reads it, which the guide asks for, and systemd too."""
    lines = run("env", "-i", "sh", "-c", f"set -a; . {DEPLOY / 'batches.env'}; env").stdout.splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines) if name != "PWD"}


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_accepts_the_units_and_finds_them_hardened(unit, tmp_path):
    analyse = find_program("systemd-analyze")
    text = unit.read_text().replace("/srv/batches/.venv/bin", str(tmp_path)).replace("/srv/batches", str(tmp_path))
    copy = tmp_path / unit.name
    copy.write_text(re.sub(r"^(User|Group)=.*$", r"\1=root", text, flags=re.MULTILINE))
    for program in ("python", "celery"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    verified = run(analyse, "verify", str(copy))
    assert (verified.returncode, verified.stderr) == (0, "")
    secured = run(analyse, "security", "--offline=true", "--threshold=20", str(copy))  # 0 is best, 100 is worst
    assert secured.returncode == 0, secured.stdout


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_each_unit_starts_a_command_that_exists(unit):
    [command] = re.findall(r"^ExecStart=/srv/batches/\.venv/bin/(.*)$", unit.read_text(), re.MULTILINE)
    program, *arguments = command.split()
    if program == "python":
        shown = run_python(*arguments[:2], "--help").stdout
        assert all(option in shown for option in arguments[2:] if option.startswith("--")), shown


@pytest.mark.parametrize("page", ["deploy", "upgrade"])
def test_the_guide_compiles_the_german_texts(page, tmp_path):
    [line] = set(re.findall(r"^ *(msgfmt .+)$", read_page(f"operations/{page}.md"), re.MULTILINE))
    program, *arguments = line.split()
    shutil.copy(settings.BASE_DIR / "batches" / "locale" / "de" / "LC_MESSAGES" / "django.po", tmp_path)
    done = run(find_program(program), *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "django.mo").open("rb") as compiled:
        assert GNUTranslations(compiled).gettext("Queue") == "Warteschlange"


def test_the_environment_file_has_what_djangos_deployment_check_asks_for():
    environ = read_environment()
    assert {name: environ[name] for name in ("HTTPS", "HSTS_SECONDS")} == {"HTTPS": "on", "HSTS_SECONDS": "3600"}
    assert environ.keys() >= PRODUCTION.keys()
    assert environ["BATCHES_USER_AGENT"].endswith(" (contact: ops@example.org)")


class Nginx:
    """nginx with the example's configuration, on other ports and with its own certificate."""

    def __init__(self, directory, upstream):
        self.directory = directory
        self.ports = {"80": free_port(), "443": free_port(), "8000": upstream}
        self._make_certificate()
        site = (DEPLOY / "nginx" / "batches.conf").read_text()
        for port, other in self.ports.items():
            site = re.sub(rf"((?:listen (?:\[::\]:)?)|127\.0\.0\.1:){port}\b", rf"\g<1>{other}", site)
        for path in (f"/etc/letsencrypt/live/{HOST}", "/var/log/nginx", "/var/www/html"):
            site = site.replace(path, str(directory))
        (directory / "site.conf").write_text(site)
        paths = "".join(
            f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        self.configuration = directory / "nginx.conf"  # one process, so that none is left when it is killed
        self.configuration.write_text(
            f"daemon off; master_process off; pid {directory}/pid; error_log {directory}/error.log;"
            f"events {{}} http {{ {paths} include {directory}/site.conf; }}"
        )

    def _make_certificate(self):
        files = ["-keyout", str(self.directory / "privkey.pem"), "-out", str(self.directory / "fullchain.pem")]
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={HOST}"]
        made = run(find_program("openssl"), "req", "-x509", *kind, *files)
        assert made.returncode == 0, made.stderr

    def connect(self, sent):
        """A visitor who sends this, and then nothing."""
        plain = socket.create_connection(("127.0.0.1", int(self.ports["443"])), timeout=WAIT_SECONDS)
        visitor = ssl._create_unverified_context().wrap_socket(plain)
        visitor.sendall(sent.encode())
        return visitor


def accepts(port):
    with socket.socket() as visitor:
        return visitor.connect_ex(("127.0.0.1", int(port))) == 0


@pytest.mark.slow
@pytest.mark.databases("sqlite")
@pytest.mark.django_db(transaction=True)
def test_nginx_serves_the_application_with_the_headers_and_keeps_slow_visitors_from_it(commands, tmp_path):
    program, port = find_program("nginx"), free_port()
    nginx = Nginx(tmp_path, port)
    tested = run(program, "-t", "-c", str(nginx.configuration))
    assert tested.returncode == 0, tested.stderr
    environ = read_environment() | {"SECRET_KEY": "k1-" + "0123456789abcdefghij" * 3}
    environ |= {"DATABASE_URL": commands.environ["DATABASE_URL"], "BATCHES_METRICS_TOKEN": "a token of twenty letters"}
    web = commands.start("serve", "--no-workers", "--port", port, environ=environ)
    web.wait_for(lambda: "Serving on" in web.out)
    commands.start_program(program, "-c", str(nginx.configuration))
    wait_until(lambda: accepts(nginx.ports["443"]))
    with httpx.Client(verify=False, headers={"Host": HOST}, timeout=WAIT_SECONDS) as visitor, ExitStack() as slow:
        plain, safe = f"http://127.0.0.1:{nginx.ports['80']}", f"https://127.0.0.1:{nginx.ports['443']}"
        moved = visitor.get(f"{plain}/admin/")
        assert (moved.status_code, moved.headers["Location"]) == (301, f"https://{HOST}/admin/")
        for sent in ("GET / HTTP/1.1\r\nHost: x\r\n", f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9\r\n\r\n"):
            for _ in range(8):  # as many as the application has threads
                slow.enter_context(nginx.connect(sent))
        page = visitor.get(f"{safe}/admin/login/")
        assert page.status_code == 200
        assert page.headers["Content-Security-Policy"] == POLICY
        assert page.headers["Strict-Transport-Security"] == "max-age=3600; includeSubDomains"
        assert (page.headers["X-Content-Type-Options"], page.headers["X-Frame-Options"]) == ("nosniff", "DENY")
        assert page.headers["Server"] == "nginx"
        assert "Secure" in page.headers["Set-Cookie"]
        answers = {path: visitor.get(safe + path).status_code for path in ("/healthz", "/readyz", "/metrics")}
        assert answers == {"/healthz": 200, "/readyz": 404, "/metrics": 404}
        log = (tmp_path / "batches.log").read_text()
        visitor.get(f"{safe}/api/v1/lists/1/feed.atom?token=secret")
        assert page.headers["X-Request-ID"] in log
        assert "secret" not in (tmp_path / "batches.log").read_text()
        logins = [visitor.get(f"{safe}/admin/login/").status_code for _ in range(22)]
        assert (logins[0], logins[-1]) == (200, 429)


@pytest.mark.exhaustive
def test_certbot_gets_and_renews_a_certificate_through_the_site(tmp_path):
    """With the line of the guide, from Pebble, which asks for proof as Let's Encrypt does."""
    certbot, pebble, program = map(find_program, ("certbot", "pebble", "nginx"))
    nginx, port = Nginx(tmp_path, free_port()), free_port()
    (tmp_path / "pebble.json").write_text(json.dumps({"pebble": {
        "listenAddress": f"127.0.0.1:{port}", "managementListenAddress": f"127.0.0.1:{free_port()}",
        "certificate": str(tmp_path / "fullchain.pem"), "privateKey": str(tmp_path / "privkey.pem"),
        "httpPort": int(nginx.ports["80"]), "tlsPort": int(nginx.ports["443"]),
    }}))  # fmt: skip
    [line] = re.findall(r"^certbot (certonly .*)$", read_page("operations/deploy.md"), re.MULTILINE)
    line = line.replace("/var/www/html", str(tmp_path)).replace("$HOST", HOST)
    arguments = shlex.split(line.replace("systemctl reload nginx", f"echo reloaded >> {tmp_path}/hook"))
    arguments += [f"--{name}-dir={tmp_path / name}" for name in ("config", "work", "logs")]
    arguments += [f"--server=https://localhost:{port}/dir", "--no-verify-ssl", "--agree-tos"]
    arguments += ["--register-unsafely-without-email", "--non-interactive", "--force-renewal"]
    with NameServer() as names, Commands("") as commands:
        names.answer(HOST, ["127.0.0.1"])
        commands.start_program(program, "-c", str(nginx.configuration))
        commands.environ |= {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}
        ca = ["-config", str(tmp_path / "pebble.json"), "-dnsserver", f"127.0.0.1:{names.port}"]
        commands.start_program(pebble, *ca)
        wait_until(lambda: accepts(nginx.ports["443"]) and accepts(port))
        for times in (1, 2):
            done = run(certbot, *arguments)
            assert done.returncode == 0, done.stdout + done.stderr
            assert (tmp_path / "hook").read_text() == "reloaded\n" * times
    certificate = tmp_path / "config" / "live" / HOST / "fullchain.pem"
    shown = run(find_program("openssl"), "x509", "-noout", "-ext", "subjectAltName", "-in", str(certificate))
    assert f"DNS:{HOST}" in shown.stdout
