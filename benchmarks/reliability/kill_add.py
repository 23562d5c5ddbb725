"""kill -9 at random moments of `modelkin add`: is anything acknowledged lost, or anything half there?

Four writers add small models to one registry while one reader lists and queries it. Each writer is killed at a random moment of its
life and replaced; a fresh registry every 25 kills, so that its first creation is hit as well. After each kill (or several that fell
together), while the others go on: the registry opens, `modelkin doctor` is clean, every model that was acknowledged on stdout is
there, and each model that is there is whole. (This does not test a power cut: for that the registry relies on SQLite's
`synchronous=FULL`.)

    python -m benchmarks.reliability.kill_add --kills 200
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from msgspec import Struct, field, to_builtins
from safetensors.numpy import save_file

from benchmarks.common.results import result_path, write_result
from modelkin_indexer.errors import ModelkinError
from modelkin_indexer.results import fingerprint
from modelkin_registry.store.opening import open_store

WRITERS = 4
KILLS_A_REGISTRY = 25  # then a fresh one: creation is hit more often, and the checks stay short
MODELS_A_WRITER = 40
POLL_SECONDS = 0.02  # how often to look for dead writers
LAYERS, HIDDEN, INNER, TOKENS = 2, 32, 64, 128


class Tally(Struct):
    """What happened. `problems` must stay empty."""

    kills: int = 0
    killed_before_first_model: int = 0
    finished_before_kill: int = 0
    acknowledged: int = 0
    present: int = 0
    reader_calls: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class Writer(Struct):
    """One running `modelkin add`, the folder of its models, and the clock that kills it."""

    process: subprocess.Popen[str]
    folder: Path
    death: threading.Timer


class Trial:
    """One registry under fire."""

    def __init__(self, command: list[str], folder: Path, seed: int, tally: Tally, life: float = 0.0) -> None:
        """`life` is how many seconds a writer takes that has the machine to itself; beside others it takes up to WRITERS times as long."""
        self.command, self.folder, self.registry = command, folder, folder / "registry.sqlite"
        self.random, self.numbers = random.Random(seed), np.random.default_rng(seed)
        self.made, self.tally, self.life = 0, tally, life
        self.acknowledged: set[str] = set()
        self.present = 0

    def run(self, kills: int) -> None:
        """Kill that often, then let the last writers finish."""
        wanted, done = self.tally.kills + kills, threading.Event()
        reader = threading.Thread(target=self.read_until, args=(done, self.make_model(self.folder)))
        writers = [self.start_writer() for _ in range(WRITERS)]
        reader.start()
        while self.tally.kills < wanted:
            dead = [number for number, writer in enumerate(writers) if writer.process.poll() is not None]
            for number in dead:
                self.bury(writers[number])
            if dead:
                self.check()
                print(f"{self.tally.kills} killed, {self.tally.finished_before_kill} too late, {self.present} models", file=sys.stderr)
            for number in dead:
                writers[number] = self.start_writer()
            time.sleep(POLL_SECONDS)
        for writer in writers:
            self.finish(writer)
        done.set()
        reader.join()
        self.check()
        self.tally.acknowledged += len(self.acknowledged)
        self.tally.present += self.present

    def undisturbed(self) -> float:
        """Seconds of a writer that is left alone."""
        start = time.monotonic()
        self.finish(self.start_writer())
        return time.monotonic() - start

    def start_writer(self) -> Writer:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        sources = [str(self.make_model(folder)) for _ in range(MODELS_A_WRITER)]
        call = [*self.command, "add", *sources, "--registry", str(self.registry), "--json"]
        process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        death = threading.Timer(self.random.uniform(0, WRITERS * self.life), process.kill)
        if self.life:
            death.start()
        return Writer(process, folder, death)

    def make_model(self, folder: Path) -> Path:
        """A small Llama-like model with a name never used before."""
        self.made += 1
        place = folder / f"model-{self.made:05d}"
        place.mkdir()
        shapes = {"model.embed_tokens.weight": (TOKENS, HIDDEN), "lm_head.weight": (TOKENS, HIDDEN), "model.norm.weight": (HIDDEN,)}
        for layer in range(LAYERS):
            inside = {"input_layernorm": (HIDDEN,), "post_attention_layernorm": (HIDDEN,), "mlp.down_proj": (HIDDEN, INNER)}
            inside |= {f"self_attn.{role}_proj": (HIDDEN, HIDDEN) for role in "qkvo"}
            inside |= {f"mlp.{role}_proj": (INNER, HIDDEN) for role in ("gate", "up")}
            shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in inside.items()}
        save_file({name: self.numbers.standard_normal(shape, np.float32) for name, shape in shapes.items()}, place / "model.safetensors")
        config = {"model_type": "llama", "num_hidden_layers": LAYERS, "hidden_size": HIDDEN, "num_attention_heads": 4, "vocab_size": TOKENS}
        (place / "config.json").write_text(json.dumps(config))
        return place

    def bury(self, writer: Writer) -> None:
        """Note how a writer ended and what it had acknowledged by then."""
        writer.death.cancel()
        names = self.acknowledgements(writer)
        killed = writer.process.returncode == -signal.SIGKILL
        self.tally.kills += killed
        self.tally.finished_before_kill += not killed
        self.tally.killed_before_first_model += killed and not names
        if not killed and writer.process.returncode:
            self.tally.problems.append(f"a writer ended by itself with {writer.process.returncode}")

    def finish(self, writer: Writer) -> None:
        """Let a writer add all it has."""
        writer.death.cancel()
        self.acknowledgements(writer)
        if writer.process.returncode not in (0, -signal.SIGKILL):
            self.tally.problems.append(f"a writer left alone ended with {writer.process.returncode}")
        self.tally.kills += writer.process.returncode == -signal.SIGKILL

    def acknowledgements(self, writer: Writer) -> set[str]:
        """Names on the whole lines that the writer printed; its output is small enough to wait in the pipe."""
        printed, complaints = writer.process.communicate()
        names = set()
        for line in printed.splitlines(keepends=True):
            if line.endswith("\n"):
                added = json.loads(line)
                if added["status"] != "added":
                    self.tally.problems.append(f"{added['model']}: {added['status']}, {added['reason']} {complaints}")
                names.add(added["model"])
        self.acknowledged |= names
        shutil.rmtree(writer.folder)
        return names

    def check(self) -> None:
        """What must hold after each kill, once there is a registry."""
        if not self.registry.exists() and not self.acknowledged:
            return
        after = f"after kill {self.tally.kills}"
        try:
            with open_store(self.registry, create=False) as store, store.reading():
                stored = store.stored(store.numbers(current=True))
                self.present = store.count()
                lost = self.acknowledged - set(store.names())
            for model in stored.values():
                fingerprint.from_bytes(model.blob, model.name)
        except ModelkinError as error:
            self.tally.problems.append(f"{after}: {error}")
            return
        if lost:
            self.tally.problems.append(f"{after}: acknowledged but not there: {sorted(lost)}")
        if len(stored) != self.present:
            self.tally.problems.append(f"{after}: {self.present - len(stored)} models without a fingerprint")
        self.call("doctor", "--check", "--registry", str(self.registry), "--json")

    def read_until(self, done: threading.Event, query: Path) -> None:
        """The reader: may never fail from the first acknowledged model on, whatever the writers do or however they die."""
        while not done.wait(0.1):
            if not self.acknowledged:
                continue
            self.call("list", "--registry", str(self.registry), "--json")
            self.call("query", str(query), "--registry", str(self.registry), "--json")
            self.tally.reader_calls += 2

    def call(self, *arguments: str) -> None:
        """Run the command; anything but exit code 0 is a problem (the doctor ends with 4 if a thing is broken)."""
        done = subprocess.run([*self.command, *arguments], capture_output=True, text=True)
        if done.returncode:
            said = f"{arguments[0]} ended with {done.returncode}: {done.stdout} {done.stderr}"
            self.tally.problems.append(f"after kill {self.tally.kills}: {said}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", default="modelkin", help="the command under test")
    parser.add_argument("--out", type=Path, default=result_path("kill_add"))
    options = parser.parse_args()
    tally, start, command = Tally(), time.monotonic(), shlex.split(options.command)
    with tempfile.TemporaryDirectory() as folder:
        life = Trial(command, Path(folder), options.seed, tally).undisturbed()
    while (left := options.kills - tally.kills) > 0:
        with tempfile.TemporaryDirectory() as folder:
            Trial(command, Path(folder), options.seed + tally.kills, tally, life).run(min(left, KILLS_A_REGISTRY))
    tally.seconds = round(time.monotonic() - start, 1)
    options.out.parent.mkdir(exist_ok=True)
    write_result("kill_add", {"seed": options.seed, "writers": WRITERS, **to_builtins(tally)}, out=options.out)
    print(options.out.read_text())
    raise SystemExit(bool(tally.problems))


if __name__ == "__main__":
    main()
