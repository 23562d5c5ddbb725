"""A registry's pages over HTTP: what they show, what they refuse, and that a name stays a name."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

import modelkin
from calls import command, environment, run
from modelkin.errors import ServeError, UnknownModel
from modelkin.reporting.texts import texts_of
from modelkin.serving import openapi, pages
from modelkin.serving.application import PAGES, application
from modelkin.serving.incoming import guards, sent
from modelkin.serving.incoming.guards import Rate
from modelkin.serving.incoming.refusals import Refusal, told
from modelkin.serving.interface import OPERATIONS
from modelkin.serving.running import NEEDS_EXTRA, listening_at
from modelkin.serving.site import Site
from modelkin.serving.wishes import ServeWishes
from modelkin.serving.working.kept import Kept, Record
from modelkin.serving.working.questions import Questions
from modelkin.settings import Settings
from modelkin.wishes import Listener
from modelkin_registry.answers.plain import CONTRACT
from pages import Page
from tiny_models import save_model, tiny_llama, tuned

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "{{7*7}}{% raw %}",
    "../../etc/passwd",
    "a?b#c&d=%2e%2e/e",
    "org/na me",
)
TOKEN = "a-token-that-nobody-guesses"
Serve = Callable[..., TestClient]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A client of a page of r.db with these wishes; its faults fail the test."""
    with ExitStack() as opened:

        def start(**wishes: Any) -> TestClient:
            def fault(error: Exception) -> None:
                raise AssertionError from error

            wishes = {"rate": 0.0, **wishes}
            site = opened.enter_context(Site(Settings(Path("r.db")), ServeWishes(**wishes).checked(), Listener(fault=fault)))
            return TestClient(application(site), base_url="http://127.0.0.1", follow_redirects=False, client=("127.0.0.9", 1))

        yield start


@pytest.fixture
def kin(filled: Path) -> Path:
    """The registry with `parent`, its registered child `org/child`, which says so, and a stranger; `child.modelkin` beside it."""
    (filled / "child" / "README.md").write_text("---\nbase_model: parent\nlicense: mit\n---\n", encoding="utf-8")
    assert run("add", "child", "--as", "org/child").exit_code == 0
    modelkin.fingerprint("child", "child.modelkin")
    return filled


def page_of(client: TestClient, address: str, number: int = 200) -> Page:
    response = client.get(address)
    assert response.status_code == number, response.text
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    return Page(response.text)


def problem_in(response: Any, number: int) -> dict[str, Any]:
    assert response.status_code == number, response.text
    found = response.json()
    assert found["contract"] == CONTRACT
    return dict(found["error"])


# what is shown


def test_a_models_page_tells_all_of_it(kin: Path, serve: Serve) -> None:
    client = serve()
    page = page_of(client, "/model?name=org%2Fchild")
    say = texts_of("en")
    assert say("verdict-words", "related") in page.text
    assert re.search(r"base_model: parent parent README.md fine-tuned consistent", page.text)  # the claim beside what the weights show
    assert "license: mit" in page.text
    assert "full-" in page.text  # the revision
    assert "local: child (" in page.text  # the source, without its folder
    titles = [attributes.get("aria-label") or "" for tag, attributes in page.elements if tag == "svg"]
    assert any(title.startswith("Correlation by layer and family") for title in titles)  # the strip
    assert say("text", "tree-title") in titles
    assert "/model?name=parent" in page.links  # from the relatives and the tree
    assert all(say("text", f"never-{number}") in page.text for number in range(1, 5))
    ids = [str(a["id"]) for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    kept = next(link for link in page.links if link.startswith("/answers/"))
    assert say("verdict-words", "related") in page_of(client, kept).text


def test_a_model_is_no_relative_of_itself(kin: Path, serve: Serve) -> None:
    found = serve().get("/api/relatives", params={"name": "org/child"}).json()
    assert [one["model"] for one in found["relatives"]] == ["parent"]
    assert found["registry"]["models"] == found["examined"]["models"] == 2
    assert found["made"]["models"] == 3
    assert found["made"]["command"] == "GET /api/relatives?name=org%2Fchild"


def test_a_large_registry_is_not_waited_for(kin: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MOST_AT_ONCE", 2)
    client, say = serve(), texts_of("en")
    before = page_of(client, "/model?name=parent")
    assert say("serve", "ask-relatives") in before.text
    assert say("heading", "answer") not in before.text
    told = client.get("/relatives?name=parent")
    assert (told.status_code, told.headers["location"][:9]) == (303, "/answers/")
    client.get("/tree?name=parent")
    after = page_of(client, "/model?name=parent")
    assert say("verdict-words", "related") in after.text
    assert told.headers["location"] in after.links


@pytest.mark.parametrize("language", ["en", "ko"])
def test_pages_are_in_the_language_that_was_asked_for(kin: Path, serve: Serve, language: str) -> None:
    client, say = serve(language=language, hub=True, weights=5), texts_of(language)
    for path, words in (
        ("/", "title"),
        ("/models", "sort-added"),
        ("/compare", "compare-words"),
        ("/registry", "limits"),
        ("/api", "body"),
    ):
        page = page_of(client, path)
        assert ("html", {"lang": language}) in page.elements
        assert say("serve", words) in page.text
    assert say("verdict", "related") in page_of(client, "/model?name=parent").text


def test_a_lone_model_and_a_former_content_have_their_pages(own_folder: Path, serve: Serve) -> None:
    save_model(Path("one"), tiny_llama(1))
    assert run("add", "one").exit_code == 0
    client = serve()
    assert texts_of("en")("verdict-words", "not examined") in page_of(client, "/model?name=one").text
    save_model(Path("tuned"), tuned(tiny_llama(1), 3))
    assert run("add", "tuned", "--as", "one").exit_code == 0
    (former,) = {link for link in page_of(client, "/model?name=one").links if link.startswith("/model?name=one%40")}
    assert "one@" in page_of(client, former).text
    assert client.head("/compare").status_code == client.head("/model?name=one").status_code == 200


def test_a_fingerprint_of_an_older_spec_has_a_page_that_says_so(own_folder: Path, serve: Serve) -> None:
    data = (Path(__file__).parents[1] / "data" / "registry_of_spec_1.db.gz").read_bytes()
    Path("r.db").write_bytes(gzip.decompress(data))
    client = serve()
    told = client.get("/api/registry").json()
    assert told["outdated"] == told["models"] > 0
    name = client.get("/api/models").json()["models"][0]["model"]
    page = page_of(client, f"/model?name={quote(name, safe='')}")
    assert "made by spec '1'" in page.text
    assert problem_in(client.get(f"/api/tree?name={quote(name, safe='')}"), 422)["kind"] == "FingerprintError"
    assert str(Path.cwd()) not in page.text


def test_search_leads_to_the_model_or_to_what_has_it_in_its_name(kin: Path, serve: Serve) -> None:
    client = serve()
    assert client.get("/search", params={"q": "org/child"}).headers["location"] == "/model?name=org%2Fchild"
    assert client.get("/search", params={"q": "CHI"}).headers["location"] == "/models?text=CHI"
    assert "/model?name=org%2Fchild" in page_of(client, "/models?text=CHI").links
    assert run("rename", "parent", "mother").exit_code == 0
    assert client.get("/search", params={"q": "parent"}).headers["location"] == "/model?name=parent"
    assert "Formerly, or also, parent" in page_of(client, "/model?name=parent").text
    assert texts_of("en")("serve", "hub-off") in page_of(client, "/search?q=nobody%2Fnothing", 404).text


def test_what_changes_meanwhile_is_seen(kin: Path, serve: Serve) -> None:
    client = serve()
    assert client.get("/api/registry").json()["models"] == 3
    before = client.get("/api/relatives?name=stranger").json()
    assert before["verdict"] == "nothing found"
    save_model(kin / "kin", tuned(tiny_llama(2), 9))
    assert run("add", "kin").exit_code == 0
    assert [one["model"] for one in client.get("/api/models?text=kin").json()["models"]] == ["kin"]
    assert [one["model"] for one in client.get("/api/relatives?name=stranger").json()["relatives"]] == ["kin"]
    assert run("rename", "kin", "cousin").exit_code == 0
    assert run("remove", "org/child", "--yes").exit_code == 0
    names = [one["model"] for one in client.get("/api/models").json()["models"]]
    assert names == ["cousin", "parent", "stranger"]
    assert page_of(client, "/model?name=org%2Fchild", 404)


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, ["org/child", "parent", "stranger"]),
        ({"text": "r", "sort": "name"}, ["org/child", "parent", "stranger"]),
        ({"author": "ORG"}, ["org/child"]),
        ({"component": "vision"}, []),
        ({"component": "text", "level": "full"}, ["org/child", "parent", "stranger"]),
        ({"level": "probe"}, []),
        ({"least": "999999999"}, []),
        ({"most": "999999999", "start": "1", "count": "1"}, ["parent"]),
        ({"since": "2999"}, []),
        ({"sort": "added"}, ["org/child", "stranger", "parent"]),
    ],
)
def test_models_are_browsed_by_what_they_are(kin: Path, serve: Serve, asked: dict[str, str], names: list[str]) -> None:
    found = serve().get("/api/models", params=asked).json()
    assert [one["model"] for one in found["models"]] == names
    assert found["found"] == (3 if "start" in asked else len(names))


@pytest.mark.parametrize("asked", ["least=many", "level=half", "sort=colour", "since=yesterday", "text=" + "a" * 201, "count=-1"])
def test_a_wrong_filter_is_told(kin: Path, serve: Serve, asked: str) -> None:
    client = serve()
    assert problem_in(client.get(f"/api/models?{asked}"), 400)["message"].startswith(asked.partition("=")[0])
    assert asked.partition("=")[0] in page_of(client, f"/models?{asked}", 400).text


@pytest.mark.parametrize("asked", ["page=-1", "page=2", "offset=1", "Sort=added", "sort=added&<b>=1"])
def test_a_field_that_is_none_is_told_and_not_passed_over(kin: Path, serve: Serve, asked: str) -> None:
    client = serve()
    message = problem_in(client.get(f"/api/models?{asked}"), 400)["message"]
    assert "is no field of this address. Those are: text, author" in message
    assert "is no field of this address" in page_of(client, f"/models?{asked}", 400).text
    assert "<b>" not in client.get(f"/models?{asked}").text
    assert "Those are: name" in problem_in(client.get("/api/model?name=parent&revision=1"), 400)["message"]
    assert client.get("/api/models?start=3").json()["models"] == []
    assert problem_in(client.get("/api/models?start=-1"), 400)["message"].startswith("start '-1'")


def test_where_models_came_from_on_this_machine_is_not_told(kin: Path, serve: Serve) -> None:
    """Folders of the machine stand on no page and in no answer, unless that is asked for."""
    addresses = ["/model?name=parent", "/models", "/api/model?name=parent", "/api/models", "/api/relatives?name=parent", "/registry"]
    addresses += ["/model?name=nobody", "/api/model?name=nobody", "/api/compare?a=parent&b=stranger"]
    client = serve()
    assert not any(str(kin) in client.get(address).text for address in addresses)
    assert str(kin / "parent") in serve(paths=True).get("/api/model?name=parent").text


# names stay names


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_names(filled: Path, serve: Serve, name: str) -> None:
    assert run("add", "child", "--as", name).exit_code == 0
    client, asked = serve(), quote(name, safe="")
    addresses = [f"/model?name={asked}", "/model?name=parent", "/", "/models", f"/models?text={asked}", f"/compare?a={asked}"]
    addresses += [client.get(f"/compare?a={asked}&b=parent").headers["location"], client.get(f"/search?q={asked}").headers["location"]]
    for address in addresses:
        page = page_of(client, address)
        assert {"img", "script", "iframe", "object"} & {tag for tag, _ in page.elements} == set()
        for tag, attributes in page.elements:
            assert not any(attribute.startswith("on") or attribute == "style" for attribute in attributes), (tag, attributes)
        assert all(link.startswith(("/", "#")) for link in page.links)
        assert f"/model?name={asked}" in page.links or name in str(page.elements)
    assert client.get("/api/model", params={"name": name}).json()["model"] == name
    refused = page_of(client, f"/model?name={asked}x", 404)
    assert f"{name}x" in refused.text
    assert {"img", "svg"} & {tag for tag, _ in refused.elements} == set()


@pytest.mark.parametrize("name", ["parent/../stranger", "/etc/passwd", "./child", "child", "child.modelkin", "hf://org/child"])
def test_a_name_is_never_a_path(kin: Path, serve: Serve, name: str) -> None:
    """What lies in the server's folder is nobody's to ask about."""
    client = serve(hub=False)
    for address in ("/api/model?name={}", "/api/relatives?name={}", "/api/tree?name={}", "/api/compare?a={}&b=parent"):
        assert problem_in(client.get(address.format(quote(name, safe=""))), 404)["kind"] == "UnknownModel"


@pytest.mark.parametrize("name", ["", "a\nb", "\u202eevil", "x" * 513])
def test_what_can_be_no_name_is_refused(kin: Path, serve: Serve, name: str) -> None:
    client = serve()
    assert problem_in(client.get("/api/model", params={"name": name}), 400)["kind"] == "UsageError"
    assert client.get("/model", params={"name": name}).status_code == 400


# what is sent


def send(client: TestClient, name: str, data: bytes, address: str = "/ask", **fields: Any) -> Any:
    return client.post(address, files={"file": (name, data, "application/octet-stream")}, data=fields)


def test_a_fingerprint_is_asked_about_with_a_lasting_address(kin: Path, serve: Serve) -> None:
    client, data = serve(), Path("child.modelkin").read_bytes()
    told = send(client, "mine.modelkin", data)
    assert told.status_code == 303
    address = told.headers["location"]
    page = page_of(client, address)
    assert "mine" in page.text
    assert hashlib.sha256(data).hexdigest() in page.text  # what was asked about
    kept = client.get(f"/api{address}")
    assert hashlib.sha256(kept.content).hexdigest() == address.rpartition("/")[2]
    assert "immutable" in kept.headers["cache-control"]
    answer = client.post("/api/query?file=mine.modelkin", content=data)
    assert answer.content == kept.content
    assert f"</api{address}>" in answer.headers["link"]
    told_by_library = modelkin.query("child.modelkin", registry="r.db").to_dict()
    found = {**answer.json()}
    made = found.pop("made")
    assert found.keys() == told_by_library.keys()
    whole = json.loads(json.dumps(told_by_library["relatives"]))
    assert found["relatives"] == [{**one, "source": Path(one["source"]).name} for one in whole]
    assert made["inputs"][0]["files"][0]["sha256"] == hashlib.sha256(data).hexdigest()
    assert len(modelkin.list(registry="r.db").models) == 3  # nothing was registered


def test_answers_outlast_the_server_unless_nothing_may_be_written(kin: Path, serve: Serve) -> None:
    address = serve().get("/compare?a=org/child&b=parent&control=stranger").headers["location"]
    assert page_of(serve(), address)
    assert [path.name for path in Path("r.db.answers").glob("*/*")] == [f"{address.rpartition('/')[2]}.json.gz"]
    before = sorted(path.name for path in Path().rglob("*"))
    client = serve(read_only=True)
    assert page_of(client, address, 404)
    passing = client.get("/compare?a=org/child&b=parent").headers["location"]
    assert texts_of("en")("serve", "kept-for-now") in page_of(client, passing).text
    assert sorted(path.name for path in Path().rglob("*") if not path.name.endswith(("-wal", "-shm"))) == [
        name for name in before if not name.endswith(("-wal", "-shm"))
    ]


def test_two_files_are_compared(kin: Path, serve: Serve) -> None:
    client, data = serve(), Path("child.modelkin").read_bytes()
    files = {"a_file": ("x.modelkin", data), "b_file": ("", b"")}
    told = client.post("/compare", files=files, data={"b": "parent", "control": "stranger"})
    found = client.get(f"/api{told.headers['location']}").json()
    assert (found["a"]["source"], found["b"]["source"], found["controls"][0]["model"]) == ("x", "parent", "stranger")
    assert found["relation"] == "fine-tuned"
    missing = client.post("/compare", files={"a_file": ("x.modelkin", data)}, data={"b": ""})
    assert missing.status_code == 400
    assert "B is missing" in Page(missing.text).text


def test_weights_are_taken_where_that_is_allowed(kin: Path, serve: Serve) -> None:
    data = Path("child/model.safetensors").read_bytes()
    refused = send(serve(), "model.safetensors", data)
    assert refused.status_code == 415
    assert "modelkin fingerprint" in Page(refused.text).text
    client = serve(weights=8)
    found = client.get(f"/api{send(client, '../../my model.safetensors', data).headers['location']}").json()
    assert found["query"]["source"] == "my_model.safetensors"
    assert [one["model"] for one in found["relatives"]][:2] == ["org/child", "parent"]
    assert found["made"]["inputs"][0]["files"][0]["sha256"] == hashlib.sha256(data).hexdigest()
    assert client.post("/api/query?file=my_model.safetensors", content=data).json()["verdict"] == "related"
    assert "/tmp" not in json.dumps(found)
    for name in ("model.exe", "model", ".modelkin.safetensor"):
        assert send(client, name, data).status_code == 415
    damaged = send(client, "model.safetensors", data[:-10])
    assert damaged.status_code == 422
    assert "model.safetensors" in Page(damaged.text).text


@pytest.mark.parametrize("data", [b"", b"not a fingerprint", b"\x00" * 4096])
def test_a_wrong_file_is_told_as_such(kin: Path, serve: Serve, data: bytes) -> None:
    client = serve()
    told = send(client, "x.modelkin", data)
    assert told.status_code == 422
    assert "not a fingerprint, or a damaged one" in Page(told.text).text
    assert problem_in(client.post("/api/query", content=data), 422)["kind"] == "FingerprintError"
    assert problem_in(client.post("/api/query?file=x.safetensors", content=data), 415)["kind"] == "WrongKind"


def test_a_damaged_fingerprint_of_another_key_or_no_file_is_told(kin: Path, serve: Serve) -> None:
    client = serve()
    modelkin.key("new", "own.key")
    modelkin.fingerprint("child", "other.modelkin", key_file="own.key")
    told = send(client, "other.modelkin", Path("other.modelkin").read_bytes())
    assert told.status_code == 422
    assert "made with key" in Page(told.text).text
    assert client.post("/ask", data={"hub": ""}).status_code == 400
    assert client.post("/ask", content=b"x", headers={"content-type": "text/plain"}).status_code == 415
    broken = client.post("/ask", content=b"x", headers={"content-type": "multipart/form-data; boundary=y"})
    assert broken.status_code == 400
    assert Page(broken.text).text


def test_the_hub_is_asked_only_where_that_is_allowed(kin: Path, serve: Serve) -> None:
    assert serve().post("/ask", data={"hub": "org/other"}).status_code == 403
    allowed = serve(hub=True)
    assert allowed.post("/ask", data={"hub": "../child"}).status_code == 400
    assert texts_of("en")("serve", "hub-read", name="org/other") in page_of(allowed, "/search?q=org%2Fother").text
    told = allowed.post("/api/query?hub=org/other")  # MODELKIN_OFFLINE forbids it after all
    assert problem_in(told, 422)["kind"] == "Offline"


# bounds


def test_what_is_too_large_is_refused_before_and_while_it_comes(kin: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent, "FINGERPRINT_BYTES", 1000)
    monkeypatch.setattr(sent, "FORM_BYTES", 1000)
    client = serve()

    def pieces() -> Iterator[bytes]:
        yield from (b"x" * 400 for _ in range(8))

    for content in (b"x" * 3000, pieces()):  # with its length, and without
        told = client.post("/api/query", content=content)
        assert problem_in(told, 413)["message"].startswith("what was sent is larger than the 1,000 bytes")
    told = send(client, "x.modelkin", b"x" * 3000)
    assert told.status_code == 413
    assert "larger than" in Page(told.text).text


def test_who_asks_too_much_is_told_when_to_come_again(kin: Path, serve: Serve) -> None:
    client = serve(rate=2.0)
    codes = [client.get("/api/registry").status_code for _ in range(25)]
    assert codes.count(200) in range(20, 24)
    assert codes[-1] == 429
    refused = client.get("/api/registry")
    assert int(refused.headers["retry-after"]) >= 1
    assert problem_in(refused, 429)["kind"] == "TooMany"
    assert "Wait" in page_of(client, "/", 429).text


def test_units_come_back_with_time_and_addresses_do_not_fill_the_memory() -> None:
    now = [0.0]
    rate = Rate(2.0, lambda: now[0])
    assert [rate.wait("a", 10) for _ in range(3)] == [0.0, 0.0, 5.0]
    assert rate.wait("b", 10) == 0.0
    now[0] = 5.0
    assert rate.wait("a", 10) == 0.0
    assert Rate(0.0).wait("a", 1e9) == 0.0
    for number in range(guards.MOST_ADDRESSES + 5):
        rate.wait(str(number), 1)
    assert len(rate._left) == guards.MOST_ADDRESSES
    assert guards._whole_network({"client": ("2001:db8::1", 1)}) == guards._whole_network({"client": ("2001:db8::2", 1)})
    assert guards._whole_network({"client": ("10.0.0.1", 1)}) != guards._whole_network({"client": ("10.0.0.2", 1)})


def test_what_does_not_come_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent, "SECONDS", 0.01)

    async def slow() -> None:
        async with sent._in_time(0):
            await asyncio.sleep(60)

    with pytest.raises(Refusal, match="in time") as raised:
        asyncio.run(slow())
    assert raised.value.number == 408


def test_more_than_can_be_worked_out_is_told_to_come_again(kin: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelkin.serving.site.ASKERS_WAITING", 0)
    client = serve()
    refused = client.get("/api/relatives?name=parent")
    assert problem_in(refused, 503)["kind"] == "Busy"
    assert int(refused.headers["retry-after"]) > 0
    assert client.get("/api/model?name=parent").status_code == 200  # looking up goes on


def test_a_fault_shows_nothing_of_this_machine(kin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise ArithmeticError(f"in {kin}")

    faults: list[Exception] = []
    monkeypatch.setattr("modelkin.serving.working.questions.Questions.relatives", crash)
    with Site(Settings(Path("r.db")), ServeWishes(), Listener(fault=faults.append)) as site:
        client = TestClient(application(site), base_url="http://127.0.0.1")
        told = client.get("/api/relatives?name=parent")
        assert problem_in(told, 500)["kind"] == "ArithmeticError"
        assert client.get("/relatives?name=parent").status_code == 500
        assert str(kin) not in told.text + client.get("/relatives?name=parent").text
    assert len(faults) == 3


def test_an_error_does_not_tell_where_the_registry_is() -> None:
    for registry, shown in (("/srv/models/r.db", "r.db"), ("postgresql://me@server/models", "the registry")):
        _, problem, _ = told(UnknownModel(f"{registry}: no model 'x' in this registry."), registry)
        assert problem.message == f"{shown}: no model 'x' in this registry."


def test_the_same_question_is_worked_out_once(kin: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = Questions.relatives

    def noted(self: Questions, registry: Any, name: str) -> Record:
        asked.append(name)
        time.sleep(0.2)
        return ask(self, registry, name)

    monkeypatch.setattr(Questions, "relatives", noted)
    client = serve()
    site = client.app._refused.args[0]  # type: ignore[attr-defined]

    async def at_once() -> None:
        found = await asyncio.gather(*(site.relatives("parent") for _ in range(5)))
        assert len({record.digest for record, _ in found}) == 1

    asyncio.run(at_once())
    assert client.get("/api/relatives?name=parent").status_code == 200
    assert asked == ["parent"]


def test_no_room_for_answers_takes_only_their_addresses(own_folder: Path) -> None:
    kept = Kept(Path("small"), most_bytes=10)
    record = Record("t", "en", '{"contract": 1}', "<p>x</p>", "<p>x</p>", "")
    assert kept.keep(record) is False
    assert kept.get(record.digest) is None
    roomy = Kept(Path("small"))
    assert roomy.keep(record) is True
    assert Kept(Path("small")).get(record.digest) == record
    (file,) = Path("small").glob("*/*")
    file.write_bytes(file.read_bytes()[:-9])
    assert roomy.get(record.digest) is None
    assert roomy.get("../" + record.digest) is None


def test_another_site_can_neither_ask_nor_read(kin: Path, serve: Serve) -> None:
    client = serve()
    assert client.post("/ask", headers={"origin": "https://elsewhere.example"}).status_code == 403
    assert client.post("/ask", headers={"origin": "null"}).status_code == 403
    assert client.post("/ask", headers={"origin": "http://127.0.0.1"}, data={"hub": ""}).status_code == 400
    assert client.get("/", headers={"host": "rebound.example"}).status_code == 421
    assert client.get("/", headers={"host": "localhost:8017"}).status_code == 200
    assert serve(host="0.0.0.0").get("/", headers={"host": "models.example"}).status_code == 200


def test_every_response_says_what_a_browser_may_do(kin: Path, serve: Serve) -> None:
    client = serve()
    for address, number in (
        ("/", 200),
        ("/nowhere", 404),
        ("/api/nowhere", 404),
        ("/style.css", 200),
        ("/model", 400),
        ("/search?q=parent", 303),
    ):
        response = client.get(address)
        assert response.status_code == number
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'")
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
    assert client.put("/").status_code == 405
    assert problem_in(client.put("/api/registry"), 405)


def test_pages_run_nothing_and_ask_nothing_of_others(kin: Path, serve: Serve) -> None:
    client = serve(hub=True)
    for path, _, methods in PAGES:
        address = {"/model": "/model?name=parent", "/answers/{digest}": client.get("/tree?name=parent").headers["location"]}.get(path, path)
        if "GET" not in methods or path in ("/search", "/relatives", "/tree"):
            continue
        page = page_of(client, address)
        assert {"script", "style", "iframe", "object", "img"} & {tag for tag, _ in page.elements} == set()
        for _, attributes in page.elements:
            assert not any(name.startswith("on") or name == "style" for name in attributes)
            for name in ("href", "src", "action"):
                assert re.match(r"/(?!/)|#|data:,$", attributes.get(name) or "/"), attributes


def test_what_is_known_already_is_not_sent_again(kin: Path, serve: Serve) -> None:
    client = serve()
    for address in ("/", "/models", "/model?name=parent", "/api/registry", "/api/model?name=parent", "/style.css", "/api/openapi.json"):
        first = client.get(address)
        tag = first.headers["etag"]
        for given in (tag, f'"x", W/{tag}'):
            again = client.get(address, headers={"if-none-match": given})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert client.get(address, headers={"if-none-match": '"x"'}).content == first.content
    before = client.get("/models").headers["etag"]
    assert run("rename", "parent", "mother").exit_code == 0
    assert client.get("/models", headers={"if-none-match": before}).status_code == 200


# writing


def test_only_who_has_a_token_writes(kin: Path, serve: Serve) -> None:
    Path("tokens").write_text(f"# mine\n{TOKEN}\n", encoding="utf-8")
    data, bearer = Path("child.modelkin").read_bytes(), {"authorization": f"Bearer {TOKEN}"}
    shut = serve()
    assert problem_in(shut.post("/api/model?name=new", content=data, headers=bearer), 403)["kind"] == "ReadOnly"
    client = serve(token_file=Path("tokens"))
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}, {"authorization": "Bearer é"}):
        told = client.post("/api/model?name=new", content=data, headers={k: v.encode() for k, v in headers.items()})
        assert problem_in(told, 401)["kind"] == "NoToken"
        assert told.headers["www-authenticate"].startswith("Bearer")
        assert client.delete("/api/model?name=parent", headers={k: v.encode() for k, v in headers.items()}).status_code == 401
    assert {one.model for one in modelkin.list(registry="r.db").models} == {"org/child", "parent", "stranger"}
    added = client.post("/api/model?name=new", content=data, headers=bearer).json()
    assert (added["model"], added["status"], added["contract"]) == ("new", "added", CONTRACT)
    assert "new" in [one["model"] for one in client.get("/api/models").json()["models"]]
    other = modelkin.fingerprint("stranger", "stranger.modelkin")
    taken = client.post("/api/model?name=new", content=Path(other.file).read_bytes(), headers=bearer)
    assert "another model" in problem_in(taken, 409)["message"]
    assert client.delete("/api/model?name=new", headers=bearer).json()["removed"] == ["new"]
    assert problem_in(client.delete("/api/model?name=new", headers=bearer), 404)["kind"] == "UnknownModel"
    assert problem_in(client.post("/api/model?name=new", content=b"junk", headers=bearer), 422)["kind"] == "FingerprintError"


@pytest.mark.parametrize("text", ["", "# nothing\n", "short\n", f"{TOKEN}\nshort\n"])
def test_tokens_that_cannot_be_used_are_told(kin: Path, serve: Serve, text: str) -> None:
    Path("tokens").write_text(text, encoding="utf-8")
    with pytest.raises(ServeError, match="tokens"):
        serve(token_file=Path("tokens"))
    assert TOKEN not in run("serve", "--token-file", "tokens").output


def test_wishes_that_contradict_each_other_are_told(kin: Path) -> None:
    with pytest.raises(ValueError, match="read_only"):
        modelkin.serve(registry="r.db", read_only=True, answers="here")
    assert run("serve", "--read-only", "--token-file", "x").exit_code == 2
    with pytest.raises(ServeError, match="cannot be listened at"):
        modelkin.serve(registry="r.db", host="203.0.113.7", port=0)


def test_what_it_needs_is_named_where_it_is_not_installed(kin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("starlette", "uvicorn", "python_multipart"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, name, None)
            for module in [one for one in sys.modules if one.startswith("starlette.") or one == "modelkin.serving.application"]:
                without.delitem(sys.modules, module)
            said = run("serve", "--port", "0")
            assert said.exit_code == 2
            assert NEEDS_EXTRA in " ".join(said.stderr.split())


# the description for programs


def test_the_description_is_of_what_is_answered(kin: Path, serve: Serve) -> None:
    client = serve()
    told = client.get("/api/openapi.json").json()
    assert told["openapi"].startswith("3.1")
    assert {(path, method) for path, methods in told["paths"].items() for method in methods} == {
        (one.path, one.method.lower()) for one in OPERATIONS
    }
    schemas = told["components"]["schemas"]
    named = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(told))
    assert set(named) == set(schemas)
    asked = {"/api/relatives": {"name": "org/child"}, "/api/tree": {"name": "parent"}, "/api/compare": {"a": "org/child", "b": "parent"}}
    asked |= {"/api/model": {"name": "org/child"}, "/api/registry": {}, "/api/models": {}}
    for path, query in asked.items():
        found = client.get(path, params=query).json()
        found.pop("made", None)
        content = told["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert list(unlike(found, content, schemas, path)) == []
    assert list(unlike({"contract": "1"}, {"$ref": "#/components/schemas/Removed"}, schemas, "x")) != []
    assert {one.summary for one in OPERATIONS} <= {words.strip() for words in Page(client.get("/api").text).words}


def unlike(value: Any, schema: dict[str, Any], schemas: dict[str, Any], where: str) -> Iterator[str]:
    """Where a value is not what a schema says."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        if all(list(unlike(value, one, schemas, where)) for one in schema["anyOf"]):
            yield f"{where}: {value!r} is none of {schema['anyOf']}"
        return
    kinds = schema.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    of = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}
    if kinds and not any(isinstance(value, of[kind]) for kind in kinds):
        yield f"{where}: {value!r} is no {kinds}"
    elif isinstance(value, list):
        apart = schema.get("prefixItems", [schema.get("items", {})] * len(value))
        for one, item in zip(value, apart, strict=True):
            yield from unlike(one, item, schemas, f"{where}[]")
    elif isinstance(value, dict) and "properties" in schema:
        if set(value) != set(schema["properties"]):
            yield f"{where}: {set(value) ^ set(schema['properties'])}"
        for name in value.keys() & schema["properties"].keys():
            yield from unlike(value[name], schema["properties"][name], schemas, f"{where}.{name}")


def test_a_field_that_is_null_where_it_may_not_be_is_seen() -> None:
    schemas: dict[str, Any] = {}
    openapi.schema_of(Record, schemas)
    whole = {"title": "t", "language": "en", "answer": "a", "page": "", "section": "", "coda": ""}
    assert list(unlike(whole, {"$ref": "#/components/schemas/Record"}, schemas, "")) == []
    assert list(unlike({**whole, "page": None}, {"$ref": "#/components/schemas/Record"}, schemas, "")) != []


# the command itself


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_body_does_not_wait_for_the_headers_to_be_acknowledged(host: str) -> None:
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with (
        listening_at(ServeWishes(host=host, port=0)) as listening,
        socket.create_connection(listening.getsockname()[:2]),
        listening.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_command_serves_until_it_is_stopped(kin: Path) -> None:
    import httpx2

    started = subprocess.Popen(
        command("serve", "--port", "0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    try:
        assert started.stdout is not None
        line = started.stdout.readline()
        (url,) = re.findall(r"http://127\.0\.0\.1:\d+/", line)
        assert "3 models" in line
        with httpx2.Client(base_url=url, trust_env=False, timeout=60) as client:
            assert "parent" in client.get("/models").text
            assert client.get("api/relatives", params={"name": "org/child"}).json()["relatives"][0]["model"] == "parent"
            assert "server" not in client.get("/").headers
        os.kill(started.pid, signal.SIGINT)
        out, err = started.communicate(timeout=60)
    finally:
        if started.poll() is None:
            started.kill()
    assert (started.returncode, out) == (0, "")
    assert err.strip() == "3 requests answered."
