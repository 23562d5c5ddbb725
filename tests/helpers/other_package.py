"""A package of somebody else, installed as pip installs one: it adds a container (.tbx) and a scheme by entry points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

READER = '''
"""Reads TinyBox: a magic word, the length of a JSON header, the header, float32 numbers."""
import json, os
import numpy as np
from modelkin_indexer.errors import DamagedFile
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.sources.register import Container

container = Container("TinyBox", "tinybox.reader", (".tbx",), lambda head: head.startswith(b"TINYBOX1"))


def everything(head):
    raise AssertionError("asked of a file that modelkin reads itself")


greedy = Container("Greedy", "tinybox.reader", (".safetensors", ".bin"), everything)


class Box:
    def __init__(self, weights):
        (self.file,) = weights.files
        self.path, self.name, self.config, self.notes = weights.path, weights.name, {}, ()
        self.quantization, self.metadata, self.unread, self.bytes_read = "", {}, (), 0
        self.data = self.file.read_bytes()
        length = int.from_bytes(self.data[8:16], "little")
        if self.data[8:16] == b"explodes":
            raise ZeroDivisionError("as other people's code does")
        if 16 + length > len(self.data):
            raise DamagedFile("ends early", path=self.file, remedy="Get it again.")
        header = json.loads(self.data[16 : 16 + length])
        self.start = 16 + length
        self.at = {name: at for name, (at, _) in header.items()}
        sizes = {name: (tuple(shape), int(np.prod(shape)) * 4) for name, (_, shape) in header.items()}
        self.tensors = {name: TensorInfo(name, "F32", *sizes[name]) for name in sorted(header)}
        self.files = (SourceFile(self.file.name, os.path.getsize(self.file)),)

    def read(self, tensor, start, stop, out=None):
        first = self.start + self.at[tensor]
        found = np.frombuffer(self.data, np.uint8)[first + start : first + stop]
        if out is None:
            return found.copy()
        out[: len(found)] = found
        return out

    def close(self):
        pass


def open_weights(weights):
    return Box(weights)
'''
SCHEME = '''
"""Weights as codes and a step: (code - 128) * step."""
import numpy as np
from modelkin_indexer.quantised.parts import Plain

seen = []


def plain_tensors(parts):
    seen.extend(parts.tensors)
    for module, found in parts.modules.items():
        if "tb_codes" in found:
            codes, step = f"{module}.tb_codes", parts.number(f"{module}.tb_step")
            rows = lambda start, stop, codes=codes, step=step: (parts.raw_rows(codes, start, stop).astype(np.float32) - 128) * step
            yield Plain(f"{module}.weight", found["tb_codes"].shape, "tinybox codes", (codes, f"{module}.tb_step"), rows)
'''
ENTRY_POINTS = """[modelkin.containers]
tinybox = tinybox.reader:container
{more}
[modelkin.schemes]
tinybox = tinybox.scheme:plain_tensors
"""
GREEDY = "agreedy = tinybox.reader:greedy"  # named before the others
BROKEN = "broken = tinybox.nothing:container\nodd = tinybox.scheme:seen"


def install(site: Path, more: str = "") -> Path:
    """Put the package into a folder of installed packages."""
    package, about = site / "tinybox", site / "tinybox-1.0.dist-info"
    package.mkdir(parents=True)
    about.mkdir()
    (package / "__init__.py").write_text("")
    (package / "reader.py").write_text(READER)
    (package / "scheme.py").write_text(SCHEME)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tinybox\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS.format(more=more))
    return site


def write_box(path: Path, tensors: dict[str, Any]) -> Path:
    """A file of that container."""
    header, data = {}, b""
    for name, values in tensors.items():
        header[name] = [len(data), list(values.shape)]
        data += np.ascontiguousarray(values, np.float32).tobytes()
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"TINYBOX1" + len(text).to_bytes(8, "little") + text + data)
    return path


def coded(weight: Any, step: float = 0.01) -> dict[str, Any]:
    """A weight as that scheme stores it."""
    codes = np.clip(np.round(weight / step) + 128, 0, 255).astype(np.uint8)
    return {"tb_codes": codes, "tb_step": np.array([step], np.float32)}
