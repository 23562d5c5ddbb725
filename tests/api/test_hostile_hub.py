"""A Hub that means harm: every answer ends in bounded bytes and time, the token stays at home, and the rest goes on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import safetensors.numpy

import hostile_hub as hostile
from calls import ROOT, run
from hub_server import Hub, serving
from modelkin_indexer.hub import limits
from modelkin_indexer.hub.budget import Budget
from modelkin_indexer.hub.client import PAGE, TRIES, UPLOAD_CALLS
from modelkin_indexer.hub.described import page_of, repo_of
from modelkin_indexer.hub.errors import BadAnswer
from modelkin_indexer.hub.exchange import joined, origin
from tiny_models import tiny_llama

CONFIG = json.dumps({"model_type": "llama", "num_hidden_layers": 3, "hidden_size": 48, "num_attention_heads": 4}).encode()
DEADLINE, PAUSE = 1.0, 0.05  # seconds: of a call here, and between the bytes of a slow answer
PATIENT = 20 * DEADLINE  # seconds for a whole command on a busy machine; what does not end takes for ever
SHORT: dict[str, float] = {"DEADLINE": DEADLINE, "IDLE": 0.4, "PATIENCE": 0.2, "SLOWEST": 1 << 30}
FEW: dict[str, int] = {"BODY": 1 << 16, "ITEMS": 5000, "PAGES": 8, "THIN": 5, "MALFORMED": 3}
MAPPED = [{"rfilename": "model.tflite", "size": 1 << 40}]
TOKEN = "hf_secret"


@pytest.fixture
def hub(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with two models, one of which will be described badly; the limits are short."""
    import huggingface_hub.constants

    with serving(Hub()) as hub:
        monkeypatch.delenv("MODELKIN_OFFLINE")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        monkeypatch.setattr("modelkin_indexer.hub.client.FIRST_WAIT", 0.001)
        for name, value in {**SHORT, **FEW}.items():
            monkeypatch.setattr(limits, name, value)
        for number, name in enumerate(("org/good", "org/bad")):
            hub.put(name, {"model.safetensors": safetensors.numpy.save(tiny_llama(number)), "config.json": CONFIG, "README.md": b"#"})
        yield hub


def sync(*arguments: str, code: int = 0) -> dict[str, str | None]:
    """What came of each repository: its reason, None where it was taken in."""
    done = run("sync", *arguments, "--rate", "1000", "--json")
    assert done.exit_code == code, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["repo"]: line["reason"] for line in lines if "repo" in line}


DESCRIPTIONS: dict[str, tuple[Callable[[Hub], hostile.Answer], str]] = {
    "endless": (lambda _: hostile.endless(), "longer than 65,536 bytes"),
    "packed": (lambda _: hostile.packed, "longer than 65,536 bytes"),
    "packed twice": (lambda _: hostile.packed_twice, "encoded as 'gzip, gzip, gzip'"),
    "not packed": (lambda _: hostile.whole(b"{}", Content_Encoding="gzip"), "cannot be decompressed"),
    "nested": (lambda _: hostile.whole(b"[" * 4000), "nested too deeply"),
    "many items": (lambda _: hostile.whole(b"[" + b"0," * 20_000 + b"0]"), "more than 5,000 items"),
    "slow body": (lambda _: hostile.slow_body(PAUSE), "had not ended"),
    "slow head": (lambda _: hostile.slow_head(PAUSE), "had not ended"),
    "interim": (lambda _: hostile.interim(PAUSE), "had not ended"),
    "silent": (lambda _: hostile.silent, ""),  # one try or all of them, by what the machine is busy with
    "to itself": (lambda hub: hostile.redirected(f"{hub.url}/api/models/org/bad"), "sends on more than 10 times"),
    "to a file": (lambda _: hostile.redirected("file:///etc/hostname"), "no address of the web"),
    "to no address": (lambda _: hostile.redirected("http://[::"), "cannot be read"),
    "on and on": (lambda _: hostile.redirected_without_end, "sends on more than 10 times"),
    "endless refusal": (lambda _: hostile.endless(status=404), "status 404"),
    "endless failure": (lambda _: hostile.endless(status=500), "status 500"),
    "odd refusal": (lambda _: hostile.whole(b"[]", 400, Content_Type="application/json"), "status 400"),
    "busy for years": (lambda _: hostile.whole(b"", 429, Retry_After="99999999"), "busy for another"),
    "busy for years more": (lambda _: hostile.whole(b"", 429, RateLimit='"api";r=0;t=999999'), "busy for another"),
    "busy for ages": (lambda _: hostile.whole(b"", 429, Retry_After="9" * 5000), "status 429"),
    "a number": (lambda _: hostile.whole(b"5"), "not a description"),
    "no text": (lambda _: hostile.whole(b"\xff\xfe\xfd"), "cannot be read"),
    "siblings": (lambda hub: hostile.described(hub, "org/bad", lambda said: said.update(siblings=5)), "siblings is no list"),
    "mapped": (lambda hub: hostile.described(hub, "org/bad", lambda said: said.update(siblings=MAPPED)), "more than 2,147,483,648"),
    "name": (lambda hub: hostile.described(hub, "org/bad", lambda said: said.update(id=None)), "id is missing"),
    "half a character": (lambda hub: hostile.described(hub, "org/bad", lambda said: said.update(sha="\ud800")), "sha is no text"),
    "time": (lambda hub: hostile.described(hub, "org/bad", lambda said: said.update(lastModified="9999")), "lastModified is no time"),
}


@pytest.mark.parametrize("case", DESCRIPTIONS)
def test_a_hostile_description_ends_soon_and_the_others_are_done(hub: Hub, case: str) -> None:
    answer, words = DESCRIPTIONS[case]
    hub.hostile["/api/models/org/bad"] = answer(hub)
    began = time.monotonic()
    found = sync("org/bad", "org/good")
    assert found["org/good"] is None
    assert found["org/bad"] is not None
    assert words in found["org/bad"]
    done = run("fingerprint", "org/bad", "-o", "made.modelkin")
    assert (done.exit_code, Path("made.modelkin").exists()) == (3, False), done.output
    assert time.monotonic() - began < PATIENT
    assert not hub.told_tokens


def test_malformed_entries_are_left_out_by_name(hub: Hub) -> None:
    def change(said: dict[str, Any]) -> None:
        said["siblings"] += [None, {"rfilename": "odd.json", "size": "x"}, {"rfilename": 5}]
        said |= {"tags": [None, "base_model:org/zero", "a\ud800"], "pipeline_tag": 7, "downloads": None}

    hub.hostile["/api/models/org/bad"] = hostile.described(hub, "org/bad", change)
    assert sync("--author", "org") == {"org/good": None, "org/bad": None}
    done = run("query", "org/bad", "--json")
    assert done.exit_code == 0, done.output
    warnings = " ".join(json.loads(done.stdout)["warnings"])
    assert "3 entries of the Hub's list of files cannot be read and are left out: entry 4, odd.json, entry 6" in warnings


def test_malformed_entries_of_a_list_are_told_and_the_rest_is_done(hub: Hub) -> None:
    good = hub.repos["org/good"].described(False)
    listed = [None, {"id": "org/lost", "sha": 5}, {**good, "siblings": [None]}]
    hub.hostile["/api/models?"] = hostile.whole(json.dumps(listed).encode())
    found = sync("--author", "org", "--dry-run")
    assert found["org/good"] is None
    found = sync("--author", "org")
    assert set(found) == {"entry 1 of page 1", "org/lost", "org/good"}
    assert "cannot be read" in (found["org/lost"] or "")
    assert found["org/good"] is None


def test_a_time_to_come_hides_nothing_that_follows(hub: Hub) -> None:
    good = hub.repos["org/good"].described(False)
    hub.hostile["/api/models?"] = hostile.whole(json.dumps([{**good, "lastModified": "2999-01-01T00:00:00.000Z"}]).encode())
    assert sync("--author", "org") == {"org/good": None}
    hub.hostile.clear()
    later = {**hub.repos["org/bad"].described(False), "lastModified": "2998-01-01T00:00:00.000Z"}
    hub.hostile["/api/models?"] = hostile.whole(json.dumps([later]).encode())
    assert sync("--author", "org") == {"org/bad": None}


def hundred(number: int) -> list[Any]:
    return [hostile.entry(number * 100 + one) for one in range(100)]


LISTS: dict[str, tuple[Callable[[Hub], hostile.Answer], str]] = {
    "to itself": (lambda hub: hostile.pages(lambda _: f"{hub.url}/api/models?a", lambda n: [hostile.entry(n)]), "comes back"),
    "in a circle": (lambda hub: hostile.pages(lambda n: f"{hub.url}/api/models?{n % 3}", lambda n: [hostile.entry(n)]), "comes back"),
    "the same again": (lambda hub: hostile.pages(lambda n: f"{hub.url}/api/models?{n}", lambda _: [hostile.entry(0)]), "comes back"),
    "on and on": (lambda _: hostile.pages(lambda n: f"?{n}", hundred), "more than 8 pages"),
    "thin": (lambda hub: hostile.pages(lambda n: f"{hub.url}/api/models?{n}", lambda n: [hostile.entry(n)]), "in 6 pages and goes on"),
    "elsewhere": (lambda hub: hostile.pages(lambda n: f"{hub.store}/api/models?{n}", lambda n: [hostile.entry(n)]), "goes on elsewhere"),
    "endless": (lambda _: hostile.endless(b"["), "longer than"),
    "slow": (lambda _: hostile.slow_body(PAUSE), "had not ended"),
    "nulls": (lambda _: hostile.whole(json.dumps([None] * 9).encode()), "9 of the 9 entries of its list are no repositories"),
    "a word": (lambda _: hostile.whole(b'"models"'), "no list of models"),
}


@pytest.mark.parametrize("case", LISTS)
def test_a_hostile_list_ends(hub: Hub, case: str) -> None:
    answer, words = LISTS[case]
    hub.hostile["/api/models?"] = answer(hub)
    began = time.monotonic()
    done = run("sync", "--author", "org", "--rate", "1000")
    assert done.exit_code == 3, done.output
    assert words in " ".join(done.output.split())
    assert time.monotonic() - began < PATIENT
    assert not hub.told_tokens


def test_a_list_of_little_in_much_time_ends(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LISTED", 0.0)
    monkeypatch.setattr(limits, "PAGES", 1000)
    monkeypatch.setattr(limits, "THIN", 1000)
    hub.hostile["/api/models?"] = hostile.pages(lambda n: f"?{n}", lambda n: time.sleep(0.2) or [hostile.entry(n)])
    done = run("sync", "--author", "org", "--rate", "1000")
    assert done.exit_code == 3
    assert any(words in " ".join(done.output.split()) for words in ("repositories in 1 s", "had not ended"))


FILES: dict[str, tuple[Callable[[Hub], hostile.Answer], str]] = {
    "endless": (lambda _: hostile.endless(b""), "more bytes came than were asked for"),
    "slow": (lambda _: hostile.slow_head(PAUSE), "had not ended"),
    "packed": (lambda _: hostile.packed, "which was not asked for"),
    "on and on": (lambda _: hostile.redirected_without_end, "sends on more than"),
}


@pytest.mark.parametrize("where", ["/org/bad/resolve", "/store/org/bad"])
@pytest.mark.parametrize("case", FILES)
def test_a_hostile_file_ends_and_the_others_are_done(hub: Hub, case: str, where: str) -> None:
    answer, words = FILES[case]
    hub.hostile[where] = answer(hub)
    found = sync("--author", "org")
    assert found["org/good"] is None
    assert words in (found["org/bad"] or "")
    assert not hub.told_tokens


def test_the_token_goes_to_the_origin_of_the_hub_only(hub: Hub) -> None:
    heard: list[str | None] = []

    def told(handler: Any) -> None:
        heard.append(handler.headers.get("Authorization"))
        assert handler.headers.get("Cookie") is None
        hostile.whole(json.dumps(hub.repos["org/bad"].described(True)).encode(), Set_Cookie="seen=before; Path=/")(handler)

    hub.hostile["/elsewhere"] = told
    for place, secret in ((hub.store, None), (hub.url.replace("127.0.0.1", "localhost"), None), (hub.url, f"Bearer {TOKEN}")):
        hub.hostile["/api/models/org/bad"] = hostile.redirected(f"{place}/elsewhere")
        assert run("fingerprint", "org/bad", "-o", "made.modelkin").exit_code == 0
        assert heard.pop() == secret


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("https://hub.org/a", "https://hub.org:443/b", True),
        ("https://hub.org", "http://hub.org", False),
        ("https://hub.org", "https://hub.org:8443", False),
        ("https://hub.org", "https://hub.org.evil.net", False),
        ("https://hub.org", "https://hub.org@evil.net/", False),
        ("https://hub.org", "https://HUB.org/", True),
    ],
)
def test_origins(a: str, b: str, same: bool) -> None:
    assert (origin(httpx2.URL(a)) == origin(httpx2.URL(b))) is same


def test_no_way_leads_from_https_to_http() -> None:
    with pytest.raises(BadAnswer, match="from https"):
        joined(httpx2.URL("https://hub.org/a"), "http://hub.org/a")
    assert str(joined(httpx2.URL("https://hub.org/a/b"), "../c")) == "https://hub.org/c"


def test_a_download_is_refused_as_soon_as_it_is_longer_than_announced(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "registry.modelkin-registry"
    hub.datasets["me/registry"] = {name: b"x" * 100}
    sizes: list[int] = []
    unlink = Path.unlink

    def noted(path: Path, missing_ok: bool = False) -> None:
        sizes.extend([path.stat().st_size] if path.name == name and path.exists() else [])
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", noted)
    hub.hostile["/datasets/me/registry"] = hostile.endless(b"")
    for announced in ("by its listing", "by no listing"):
        done = run("pull", "me/registry", registry="other.db")
        assert done.exit_code == 3, announced
        hub.hostile["/api/datasets"] = hostile.whole(b"", 404, X_Error_Code="EntryNotFound")
    assert max(sizes) <= 100
    assert "does not say how long" in " ".join(done.output.split())
    assert not Path("other.db").exists()
    hub.hostile["/datasets/me/registry"] = hostile.whole(b"x" * 50)
    hub.hostile.pop("/api/datasets")
    assert "fewer bytes than the 100" in " ".join(run("pull", "me/registry", registry="other.db").output.split())


UPLOADS: dict[str, tuple[hostile.Answer, str]] = {
    "endless": (hostile.endless(), "longer than"),
    "packed": (hostile.packed, "longer than"),
    "packed twice": (hostile.packed_twice, "packed several times"),
    "slow head": (hostile.slow_head(PAUSE), "had not ended"),
    "a number": (hostile.whole(b"5"), "cannot be read"),
}


@pytest.mark.parametrize("case", UPLOADS)
def test_a_hostile_answer_to_an_upload_ends(hub: Hub, case: str) -> None:
    sync("org/good")
    answer, words = UPLOADS[case]
    hub.hostile["/api/"] = answer
    done = run("push", "me/registry")
    assert done.exit_code == 3, done.output
    assert words in " ".join(done.output.split())


def test_what_is_in_memory_at_once_is_bounded() -> None:
    budget, held, most = Budget(10), 0, 0
    lock = threading.Lock()

    def hold(size: int) -> None:
        nonlocal held, most
        with budget.holding(size):
            with lock:
                held += size
                most = max(most, held)
            time.sleep(0.01)
            with lock:
                held -= size

    threads = [threading.Thread(target=hold, args=(size,)) for size in (4, 4, 4, 4, 10, 3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (held, most <= 10) == (0, True)


def test_a_page_or_description_of_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadAnswer, match="2,001 entries"):
        page_of(json.dumps([0] * 2001).encode(), 1)
    said = {**hostile.entry(1), "siblings": [{"rfilename": "a"}] * 20_001}
    with pytest.raises(ValueError, match="20,001 files"):
        repo_of(json.dumps(said).encode())


def test_the_limits_are_those_that_the_docs_state() -> None:
    page = (ROOT / "docs" / "method" / "sharing.md").read_text(encoding="utf-8")
    table = page.partition("| of | at most |")[2].partition("\n\n")[0]
    stated = (
        f"{limits.IDLE:.0f} s, then another try: {TRIES} in all",
        f"{limits.DEADLINE:.0f} s; {limits.PATIENCE:.0f} s more",
        f"{limits.DEADLINE:.0f} s, and 1 s for each {limits.SLOWEST >> 10} KiB; no byte more",
        f"{limits.BODY >> 20} MiB, {limits.ITEMS:,} items, {limits.FILES:,} files, {limits.ENTRIES:,} repositories",
        f"{limits.PAGES:,} pages, {limits.THIN} of them thin (under {PAGE // 10} repositories)",
        f"{limits.DEADLINE:.0f} s, and {limits.LISTED * 1000:.0f} ms for each repository",
        f"| {limits.HOPS}, none from https to http",
        f"{limits.IN_FLIGHT >> 20} MiB over all threads; a file beside the weights {limits.OTHER >> 20} MiB",
        f"a TFLite file {limits.MAPPED >> 30} GiB",
        f"{UPLOAD_CALLS * limits.DEADLINE + limits.deadline():.0f} s, and 1 s for each",
        f"answers of {limits.DRAINED >> 10} KiB",
    )
    assert [words for words in stated if words not in table] == []
    assert f"; {limits.MALFORMED} of them end it" in page


@pytest.mark.parametrize("status", [401, 404])
def test_a_mirror_without_descriptions_says_in_its_headers_how_long_a_file_is(hub: Hub, status: int) -> None:
    sync("org/good")
    pushed = json.loads(run("push", "me/registry", "--json").stdout)
    hub.hostile["/api/datasets"] = hostile.whole(b"", status)
    pulled = json.loads(run("pull", "me/registry", "--json", registry="other.db").stdout)
    assert (pulled["added"], pulled["digest"]) == (1, pushed["digest"])
