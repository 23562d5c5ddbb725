"""The served pages: the first answer by name in a large registry, many readers beside a writer, and each page in a browser.

    python -m benchmarks.serve.pages [--models 100000] [--readers 200] [--seconds 60] [--registry FILE]
        [--browser /usr/bin/chromium --axe axe.min.js [--shots FOLDER]]

The registry has so many models with tiny fingerprints of one kind, which are browsed and not searched by, and a family of small decoders,
which is asked about; two names are hostile. The real command serves it on loopback in a process of its own. Measured are the time from a
name to its page, one after the other; then so many readers at once, each asking for one page after the other, while another process adds
models; errors are responses that refuse, and connections that fail. In the browser each page is looked at with axe-core at 1200 and 360
pixels (see benchmarks/reports/pages.py), and a bad page as control. --registry keeps the large registry for another run.
Writes results/serve.json, the tops of three pages as pictures beside it, and with --shots pictures of all pages there.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec
import numpy as np
from safetensors.numpy import save_file

import modelkin
from benchmarks.common.results import ROOT, result_path, write_result
from benchmarks.house.rooms import PARTS
from benchmarks.reports.pages import BAD, CHECKS, keep, looked_at, looked_at_address
from modelkin_registry.store.opening import open_store
from modelkin_registry.store.records import NewModel

WIDTHS = (1200, 360)
KEPT = {"model": {1200: "model", 360: "model-360"}, "models": {360: "models-360"}}  # whose tops are kept with the result, by width
BATCH = 500  # models added in one transaction
ORGANISATIONS = 997
NAMES = 200  # asked for one after the other
HOSTILE = ("<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>')
FIRST_ANSWER = 0.1  # seconds, in the issue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", type=int, default=100_000)
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--registry", type=Path, help="keeps the registry, or has it from an earlier run")
    parser.add_argument("--browser", help="Chromium's program")
    parser.add_argument("--axe", type=Path, help="axe.min.js")
    parser.add_argument("--shots", type=Path, help="where pictures of the pages go")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        registry = given.registry or Path(folder) / "large.db"
        family(Path(folder), registry)
        fill(registry, given.models, Path(folder))
        began = time.perf_counter()
        with served(registry) as (url, process):
            found: dict[str, Any] = {"models": given.models, "ready_seconds": round(time.perf_counter() - began, 2)}
            found["memory_at_start_mb"] = memory(process)
            found["first_answer"] = by_name(url, given.models, process)
            before = processor(process)
            found["under_load"] = asyncio.run(under_load(url, given, registry, Path(folder)))
            spent = processor(process) - before
            found["under_load"]["processor_seconds_a_request"] = round(spent / found["under_load"]["requests"], 4)
            found["memory_at_end_mb"] = memory(process)
            if given.browser and given.axe:
                found["browser"] = in_browser(url, given, Path(folder))
    write_result("serve", found, out=given.out, packages=["jinja2", "playwright", "starlette", "uvicorn"])


def decoder(name: Path, seed: int, change: float = 0.0) -> Path:
    """A small decoder in a folder of its own."""
    random, moved = np.random.default_rng(seed), np.random.default_rng((seed, 1))
    shapes = {"model.embed_tokens.weight": (300, 64), "model.norm.weight": (64,)}
    for layer in range(4):
        at = f"model.layers.{layer}."
        shapes |= {f"{at}{norm}.weight": (64,) for norm in ("input_layernorm", "post_attention_layernorm")}
        shapes |= {f"{at}self_attn.{role}_proj.weight": (64, 64) for role in "qkvo"}
        shapes |= {f"{at}mlp.{role}_proj.weight": (128, 64) for role in ("gate", "up")}
    tensors = {key: random.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}
    name.mkdir(parents=True)
    save_file(
        {key: one + change * moved.standard_normal(one.shape).astype(np.float32) for key, one in tensors.items()},
        name / "model.safetensors",
    )
    (name / "README.md").write_text("---\nbase_model: family/base\nlicense: mit\n---\n")
    return name


def family(folder: Path, registry: Path) -> None:
    """The models that are asked about, unless the registry has them."""
    base, tuned, other = decoder(folder / "base", 1), decoder(folder / "tuned", 1, 0.05), decoder(folder / "other", 2)
    modelkin.fingerprint(decoder(folder / "written", 5), folder / "written.modelkin")
    if registry.exists():
        return
    for source, name in ((base, "family/base"), (tuned, "family/tuned"), (other, HOSTILE[0]), (tuned, HOSTILE[1])):
        modelkin.add(source, name=name, registry=registry)


def name_of(number: int) -> str:
    """What a model is called."""
    return f"org-{number % ORGANISATIONS}/model-{number:06d}"


def fill(registry: Path, models: int, folder: Path) -> None:
    """So many models that are browsed, with the fingerprint of one tiny matrix."""
    (folder / "tiny").mkdir()
    save_file(
        {"model.layers.0.mlp.up_proj.weight": np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)},
        folder / "tiny" / "m.safetensors",
    )
    fingerprint = modelkin.read(folder / "tiny" / "m.safetensors").fingerprint
    about, blob = msgspec.to_builtins(fingerprint.about), fingerprint.to_bytes()
    described = {"level": about["level"], "key": about["key"], "coverage": 1.0, "about": about, "blob": blob, "who": "benchmark"}
    with open_store(registry, create=False) as store:
        spec = store.get("family/base").spec
        numbers = range(store.count(), models)
        for batch in batched(numbers):
            with store.batch():
                for number in batch:
                    sizes = {"parameters": 1000 + number * 7919 % 10**9, "bytes_total": 2000}
                    store.put(NewModel(name=name_of(number), content=f"full-{number:032x}", spec=spec, **sizes, **described))


def batched(numbers: range) -> Iterator[range]:
    """Pieces of a range."""
    for start in range(numbers.start, numbers.stop, BATCH):
        yield range(start, min(start + BATCH, numbers.stop))


@contextmanager
def served(registry: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The command in a process of its own, and its address; stopped as people stop it."""
    paths = os.pathsep.join(str(ROOT / part) for part in PARTS)
    command = [sys.executable, "-m", "modelkin_cli", "--registry", str(registry), "serve", "--port", "0", "--rate", "0", "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([paths, os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"], process
        process.send_signal(signal.SIGINT)
        if process.wait(60):
            raise RuntimeError(f"serve ended with {process.returncode}")
    finally:
        if process.poll() is None:
            process.kill()


def memory(process: subprocess.Popen[str]) -> int:
    """Resident megabytes of a process."""
    told = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", told)[0]) // 1000


def processor(process: subprocess.Popen[str]) -> float:
    """Processor seconds that a process has had, all its threads together."""
    told = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


def by_name(url: str, models: int, process: subprocess.Popen[str]) -> dict[str, Any]:
    """Seconds from a name to the model's page, redirect included, and to a list of those that have a text in theirs."""
    picked = [int(one) for one in np.random.default_rng(1).integers(4, models, NAMES)]
    with httpx2.Client(base_url=url, trust_env=False, follow_redirects=True, timeout=60) as client:
        timed(client, "", "modelkin")
        before = processor(process)
        pages = [timed(client, f"search?q={quote(name_of(number), safe='')}", name_of(number)) for number in picked]
        spent = (processor(process) - before) / len(pages)
        lists = [timed(client, f"models?text={number:06d}", name_of(number)) for number in picked]
        answers = [timed(client, "relatives?name=family%2Fbase", "family/tuned") for _ in range(2)]
    return {
        "page": spread(pages),
        "page_processor_seconds": round(spent, 4),
        "list_by_part_of_a_name": spread(lists),
        "relatives_first": round(answers[0], 3),
        "relatives_again": round(answers[1], 3),
        "target_seconds": FIRST_ANSWER,
        "within_target": sum(one < FIRST_ANSWER for one in pages) / len(pages),
    }


def timed(client: httpx2.Client, address: str, words: str) -> float:
    """Seconds of one request, whose page has to have these words."""
    began = time.perf_counter()
    told = client.get(address)
    took = time.perf_counter() - began
    if told.status_code != 200 or words not in told.text:
        raise RuntimeError(f"{address}: {told.status_code}")
    return took


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and maximum."""
    ordered = sorted(seconds)
    return {
        "median": round(statistics.median(ordered), 4),
        "p95": round(ordered[int(len(ordered) * 0.95)], 4),
        "max": round(ordered[-1], 4),
        "count": len(ordered),
    }


async def under_load(url: str, given: argparse.Namespace, registry: Path, folder: Path) -> dict[str, Any]:
    """So many readers for so many seconds, beside a process that adds models."""
    stop = folder / "stop"
    code = f"""
import itertools, pathlib, time, modelkin
fingerprint, count = modelkin.read({str(folder / "written.modelkin")!r}).fingerprint, 0
while not pathlib.Path({str(stop)!r}).exists():
    modelkin.add(fingerprint, name=f"written/{{time.time_ns()}}", registry={str(registry)!r})
    count += 1
print(count)
"""
    paths = os.pathsep.join(str(ROOT / part) for part in PARTS)
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths})
    errors: list[str] = []
    seconds: list[float] = []
    until = time.perf_counter() + given.seconds
    limits = httpx2.Limits(max_connections=given.readers, max_keepalive_connections=given.readers)

    async def reader(client: httpx2.AsyncClient, number: int) -> None:
        for turn in itertools.count(number):
            if time.perf_counter() > until:
                return
            began = time.perf_counter()
            try:
                told = await client.get(address_of(turn, given.models))
                if told.status_code != 200:
                    errors.append(f"{told.status_code} {told.request.url.path}")
            except httpx2.HTTPError as error:
                errors.append(repr(error))
            seconds.append(time.perf_counter() - began)

    async with httpx2.AsyncClient(base_url=url, trust_env=False, follow_redirects=True, timeout=60, limits=limits) as client:
        await asyncio.gather(*(reader(client, number) for number in range(given.readers)))
    stop.touch()
    written, _ = writer.communicate(timeout=120)
    return {
        "readers": given.readers,
        "seconds": given.seconds,
        "requests": len(seconds),
        "errors": len(errors),
        "first_errors": errors[:5],
        "seconds_a_request": spread(seconds),
        "models_written_meanwhile": int(written),
    }


def address_of(turn: int, models: int) -> str:
    """What a reader asks for in its turn: a page of every kind, and JSON."""
    name = quote(name_of(4 + turn * 7907 % max(models - 4, 1)), safe="")
    asked = (f"model?name={name}", f"search?q={name}", f"models?text={turn % 1000:03d}&sort=parameters", f"api/model?name={name}")
    asked = (*asked, "", "registry", "model?name=family%2Fbase", f"api/models?author=org-{turn % ORGANISATIONS}")
    return asked[turn % len(asked)]


def without_scripts(program: Any, url: str, fingerprint: Path) -> bool:
    """Whether searching, sending a fingerprint and comparing lead where they should in a browser that runs no script."""
    context = program.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url)
    page.fill("#q", "family/base")
    page.press("#q", "Enter")
    page.wait_for_url("**/model?name=family%2Fbase")
    page.goto(url)
    page.set_input_files("#file", fingerprint)
    page.click("form[action='/ask'] button")
    page.wait_for_url("**/answers/*")
    answered = page.locator("h1").inner_text()
    page.goto(f"{url}compare?a=family%2Ftuned")
    page.fill("#b", "family/base")
    page.click("main button")
    page.wait_for_url("**/answers/*")
    compared = page.locator("h1").inner_text()
    context.close()
    return "written" in answered and "base" in compared


def in_browser(url: str, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every page at both widths, and the control."""
    from playwright.sync_api import sync_playwright

    with httpx2.Client(base_url=url, trust_env=False, timeout=120) as client:
        answers = {
            "answer": client.get("relatives?name=family%2Ftuned").headers["location"],
            "tree": client.get("tree?name=family%2Ftuned").headers["location"],
            "pair": client.get("compare?a=family%2Ftuned&b=family%2Fbase&control=" + quote(HOSTILE[0])).headers["location"],
            "hostile-answer": client.get("relatives?name=" + quote(HOSTILE[1], safe="")).headers["location"],
        }
    pages = {
        "home": "/",
        "models": "/models",
        "search": "/models?text=family",
        "compare": "/compare",
        "registry": "/registry",
        "api": "/api",
    }
    pages |= {
        "model": "/model?name=family%2Ftuned",
        "hostile": "/model?name=" + quote(HOSTILE[1], safe=""),
        "error": "/model?name=nobody",
        **answers,
    }
    with sync_playwright() as started:
        program = started.chromium.launch(executable_path=given.browser, args=["--no-sandbox"])
        looked = {
            name: looked_at_address(program, url.rstrip("/") + path, name, given.axe, given.shots, own=url, widths=WIDTHS)
            for name, path in pages.items()
        }
        for name, pictures in KEPT.items():
            keep(program, url.rstrip("/") + pages[name], pictures, given.out or result_path("serve"))
        used = without_scripts(program, url, folder / "written.modelkin")
        bad = folder / "bad.html"
        bad.write_text(BAD)
        control = looked_at(program, bad, given.axe, None)
        version = program.version
        program.close()
    looked["error"]["errors"] = [one for one in looked["error"]["errors"] if "404" not in one]  # which is what that page is about
    faulty = {name: found for name, found in looked.items() if any(found[check] for check in CHECKS)}
    return {
        "pages": len(looked),
        "pages_with_a_fault": len(faulty),
        "console_errors": sum(len(found["errors"]) for found in looked.values()),
        "requests_elsewhere": sum(len(found["requests"]) for found in looked.values()),
        "scripts": sum(found["scripts"] for found in looked.values()),
        "axe_violations": sum(len(found["violations"]) for found in looked.values()),
        "overflowing": sum(bool(found["overflow"]) for found in looked.values()),
        "works_without_scripts": used,
        "control_fails_every_check": all(control[check] for check in CHECKS),
        "browser": version,
        "faulty": faulty,
    }


if __name__ == "__main__":
    main()
