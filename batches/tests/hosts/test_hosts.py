"""The app in existing projects. Each runs as a real process on its own databases."""

import re
import shlex
import sys
from urllib.parse import urljoin
from uuid import uuid4

import httpx
import lxml.html
import pytest
import yaml

from batches.tests.api.conftest import COMMITTED
from batches.tests.support.ports import free_port
from batches.tests.support.postgres import create_database
from batches.tests.support.processes import WAIT_SECONDS, Commands, all_in_one

#: The projects are made once on each database.
pytestmark = [pytest.mark.slow, pytest.mark.exhaustive_on("postgresql")]

EMAIL, PASSWORD = "ada@example.org", "a sentence that nobody guesses"
#: As the queue writes it in a project with German numbers.
VERSION = 1_000_000
#: A row for each page that the API cannot create.
ROWS = f"""
from batches.models import Profile, Queue, StoryResult, Webhook
Queue.objects.create(version={VERSION})
Webhook.objects.create(url="https://example.org/hook")
profile = Profile.objects.create(url="https://example.org/reported")
StoryResult.objects.create(profile=profile, story_id="1", title="A story")
"""


@pytest.fixture(scope="module")
def database_urls(database_url, tmp_path_factory):
    """Two empty databases."""
    if database_url.startswith("sqlite"):
        directory = tmp_path_factory.mktemp("hosts")
        return [f"sqlite:///{directory / name}.sqlite3" for name in ("host", "other")]
    return [create_database(database_url, name) for name in ("host", "other")]


class Host(Commands):
    """The commands of a project with these settings."""

    def __init__(self, settings: str, database_url: str, other_url: str) -> None:
        super().__init__(database_url)
        own = {"DJANGO_SETTINGS_MODULE": f"batches.tests.hosts.{settings}", "OTHER_DATABASE_URL": other_url}
        self.environ = {**self.environ, **own}


class Site(httpx.Client):
    """A browser, or with headers a program, that knows the site by its first address."""

    def __init__(self, address: str, **options) -> None:
        super().__init__(base_url=address, timeout=WAIT_SECONDS, **options)

    def log_in(self, path: str) -> "Site":
        self.submit(self.get(f"{path}login/"), username=EMAIL, password=PASSWORD, next=f"/host{path}")
        return self

    def submit(self, page: httpx.Response, to: str = "", **values: str) -> httpx.Response:
        """Send the page's first form that posts, with these values, and follow it to the next page."""
        form = next(form for form in parse(page).forms if form.method == "POST" and form.get("id") != "logout-form")
        address = urljoin(str(page.url), to or form.action or "")
        sent = self.post(address, data=dict(form.form_values()) | values, headers={"Referer": address})
        return self.get(urljoin(address, sent.headers["Location"])) if sent.is_redirect else sent


def parse(page: httpx.Response):
    assert page.status_code == 200, page.text
    return lxml.html.fromstring(page.text)


@pytest.fixture(scope="module")
def host(database_urls, german_catalogue):
    with Host("unusual", *database_urls) as host:
        host.environ["CATALOGUE"] = str(german_catalogue)
        superuser = {"DJANGO_SUPERUSER_EMAIL": EMAIL, "DJANGO_SUPERUSER_PASSWORD": PASSWORD}
        steps = ("migrate --verbosity 0", "migrate --verbosity 0 --database other", "createsuperuser --noinput")
        rows = f"shell --verbosity 0 --command {shlex.quote(ROWS)}"
        host.token = host.run(*all_in_one(*steps, rows, f"token create {EMAIL}"), **superuser).out.split()[-1]
        port = free_port()
        listen = f"--listen=127.0.0.1:{port}"
        application = "batches.tests.hosts.wsgi:application"
        server = host.start_program(sys.executable, "-m", "waitress", listen, "--url-prefix=/host", application)
        server.wait_for(lambda: "Serving on" in server.err + server.out)
        host.address = f"http://127.0.0.1:{port}/host"
        yield host


@pytest.fixture
def program(host):
    with Site(host.address, headers={"Authorization": f"Token {host.token}"}) as program:
        yield program


@pytest.fixture
def anybody(host):
    with Site(host.address) as anybody:
        yield anybody


@pytest.fixture(params=["/admin/", "/staff/"])
def operator(host, request):
    """An operator at one of the two admin sites."""
    with Site(host.address) as operator:
        operator.at = request.param
        yield operator.log_in(request.param)


def add_batch(program, name, **headers):
    body = {"name": name, "profiles": [f"https://example.org/{name}/{number}" for number in range(3)]}
    return program.post("/jobs/api/v1/batches/", json=body, headers=headers)


@pytest.mark.parametrize("settings", ["plain", "unusual", "headless"])
def test_after_the_documented_steps_the_system_check_is_silent(settings, database_urls):
    with Host(settings, *database_urls) as host:
        said = host.run(*all_in_one("makemigrations --check --dry-run batches", "check --deploy"))
        assert said.out == "No changes detected in app 'batches'\n"
        assert set(re.findall(r"\((\w+)\.", said.err)) == {"security"}  # the project's own


def test_the_api_is_closed_whatever_the_project_allows(anybody, program):
    address = add_batch(program, "closed").headers["Location"]
    for answer in (anybody.delete(address), anybody.get(address), anybody.post("/jobs/api/queue/hold/")):
        assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert program.get(address).json()["name"] == "closed"
    assert anybody.get("/api/batches/").status_code == 200  # the project's own


def test_the_api_has_its_own_versions_errors_types_and_pages(program, host):
    batch = add_batch(program, "own").json()["batch"]
    assert batch["url"] == f"{host.address}/jobs/api/v1/batches/{batch['id']}/"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", batch["created_at"])
    answers = {
        ("get", "/jobs/api/v1/batches/nothing/"): (404, "not_found"),
        ("get", "/jobs/api/v2/batches/"): (404, "not_found"),
        ("get", "/jobs/api/batches/?colour=red"): (400, "invalid"),
        ("get", "/jobs/api/batches/?format=json"): (400, "invalid"),
        ("put", "/jobs/api/batches/"): (405, "method_not_allowed"),
        ("options", "/jobs/api/batches/"): (405, "method_not_allowed"),
    }
    for (method, path), expected in answers.items():
        answer = program.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == expected, path
    form = program.post("/jobs/api/queue/hold/", data={"reason": "a form"})
    assert (form.status_code, form.json()["code"]) == (415, "unsupported_media_type")
    page = program.get("/jobs/api/batches/?page_size=1&name=own").json()
    assert page == {"next": None, "results": [batch]}


def test_a_key_works_with_atomic_requests(program):
    first, second = (add_batch(program, "once", **{"Idempotency-Key": "k"}) for _ in range(2))
    assert (first.status_code, first.json()) == (201, second.json())
    assert second.headers["Idempotent-Replayed"] == "true"
    missing = [program.post(f"/jobs/api/batches/{uuid4()}/pause/", headers={"Idempotency-Key": "m"}) for _ in range(2)]
    assert [answer.status_code for answer in missing] == [404, 422]
    again = program.post("/jobs/api/queue/release/", headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["code"]) == (422, "idempotency_key_reused")


def test_the_log_names_a_user_of_the_projects_own_model(program):
    log = program.get(add_batch(program, "logged").headers["Location"] + "logs/").json()["results"]
    assert [(line["action"], line["actor"], line["channel"]) for line in log] == [("create_batch", EMAIL, "api")]


def test_the_description_has_the_addresses_of_the_project(anybody):
    paths = anybody.get("/jobs/api/schema/", headers={"Accept": "application/json"}).json()["paths"].keys()
    committed = yaml.load(COMMITTED.read_text(), yaml.CSafeLoader)["paths"]
    assert sorted(paths) == sorted(path.replace("/api/", "/host/jobs/api/", 1) for path in committed)
    assert 'data-schema="/host/jobs/api/schema/"' in anybody.get("/jobs/api/docs/").text


def test_a_batch_is_added_in_the_admin_by_a_user_with_a_uuid(operator):
    form = operator.get(f"{operator.at}batches/batch/add/")
    values = {"name": f"Added at {operator.at}", "addresses": "https://example.org/added"}
    page = operator.submit(operator.submit(form, **values, preview="Preview"), **values, add="Add")
    assert f"„Added at {operator.at}“ wurde hinzugefügt und wartet" in page.text
    assert page.url.path.startswith(f"/host{operator.at}batches/batch/")


def test_a_move_is_previewed_and_confirmed(operator, program):
    ids = [add_batch(program, name).json()["batch"]["id"] for name in ("a", "b")]
    queue = operator.get(f"{operator.at}batches/batch/queue/")
    move = next(form for form in parse(queue).forms if form.fields.get("move") == ids[1])
    preview = operator.get(queue.url, params={**dict(move.form_values()), "to": "1"})
    [button] = parse(preview).xpath('//*[@id="move-confirm"]/@formaction')
    assert "„b“ wurde auf 1 verschoben." in operator.submit(preview, to=button).text
    assert program.get(f"/jobs/api/batches/{ids[1]}/").json()["position"] == 1


def test_every_link_of_an_admin_site_stays_at_that_site_and_every_style_and_script_loads(operator, program):
    for name in ("linked", "paused"):
        address = add_batch(program, name).headers["Location"]
    assert program.post(f"{address}pause/").status_code == 200  # writes a delivery to the webhook
    site, home = str(operator.base_url), f"{operator.base_url}{operator.at[1:]}"
    seen, files, todo = set(), set(), [home]
    while todo:
        page = operator.get(todo.pop(), follow_redirects=True)
        assert (page.status_code, str(page.url).startswith(home)) == (200, True), page.url
        if not page.headers["Content-Type"].startswith("text/html"):
            continue
        tree = lxml.html.fromstring(page.text)
        for recent in tree.xpath("//*[@id='recent-actions-module']"):  # Django's own: its links name no site
            recent.drop_tree()
        files.update(urljoin(site, file) for file in tree.xpath("//link[@rel='stylesheet']/@href | //script/@src"))
        links = urls_of(page, tree, "//a/@href | //@data-live | //@data-details")
        inside = {link for link in links | urls_of(page, tree, "//@action | //@formaction") if link.startswith(site)}
        assert [link for link in inside if not link.startswith(home)] == [], page.url
        for link in links:
            route = re.sub(r"/[0-9a-f-]{36}/|/\d+/", "/ID/", link)
            if link.startswith(f"{home}batches/") and route not in seen:  # one page of each kind
                seen.add(route)
                todo.append(link)
    assert {f"{home}batches/batch/{page}" for page in ("queue/", "queue/live/", "ID/change/", "ID/live/")} <= seen
    rows = ("accesstoken", "batchlog", "batchprofile", "profile", "storyresult", "webhook", "webhookdelivery")
    assert {f"{home}batches/{row}/ID/change/" for row in rows} <= seen
    assert f"{site}static/batches/admin.css" in files
    for file in files:
        assert operator.get(file).status_code == 200, file


def urls_of(page, tree, xpath):
    """The addresses, without their queries."""
    return {re.sub("[?#].*", "", urljoin(str(page.url), address)) for address in tree.xpath(xpath)}


def test_the_projects_own_pages_stay_as_they_are(operator):
    index = operator.get("/admin/")
    assert "Django-Verwaltung" in index.text
    assert "Live queue" not in index.text
    assert "batches/admin.css" not in index.text
    assert "<h1>Not Found</h1>" in operator.get("/nothing/").text


def test_a_list_that_is_too_long_gets_the_page_of_the_app(operator):
    form = operator.get(f"{operator.at}batches/batch/add/")
    refused = operator.submit(form, name="long", addresses="https://example.org/\n" * 150_000, preview="Preview")
    assert refused.status_code == 413
    assert "Bis zu 2,5\xa0MB lassen sich einfügen." in refused.text
    assert 'href="/host/admin/"' in refused.text


def test_only_the_projects_own_tables_are_in_its_second_database(host):
    tables = """
from django.db import connections
for name in ("default", "other"):
    print(*(table for table in connections[name].introspection.table_names() if not table.startswith("django_")))
"""
    shown = host.run(*all_in_one(f"shell --verbosity 0 --command {shlex.quote(tables)}", "batch doctor"))
    default, other, doctor = shown.out.splitlines()
    assert other == "people_note"
    assert {"batches_batch", "people_person", "batches_accesstoken"} <= set(default.split())
    assert doctor == "No problems found."
