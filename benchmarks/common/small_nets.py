"""Small networks, tasks and training for benchmarks that need many runs whose descent is known. Everything is made from seeds."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from msgspec import Struct
from torch import nn

State = dict[str, npt.NDArray[np.float32]]
Data = tuple[torch.Tensor, torch.Tensor]
BATCH, TEXT = 64, 12  # examples of a step, tokens of a text


class Mlp(nn.Module):
    def __init__(self, inputs: int, width: int, depth: int, outputs: int, norms: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(inputs if n == 0 else width, width) for n in range(depth)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) if norms else nn.Identity() for _ in range(depth)])
        self.head = nn.Linear(width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = torch.relu(norm(layer(x)))
        return self.head(x)


class Convolutions(nn.Module):
    def __init__(self, side: int, width: int, depth: int, outputs: int, norms: bool) -> None:
        super().__init__()
        self.side = side
        self.convs = nn.ModuleList([nn.Conv2d(1 if n == 0 else width, width, 3, padding=1) for n in range(depth)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(width) if norms else nn.Identity() for _ in range(depth)])
        self.head = nn.Linear(width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(-1, 1, self.side, self.side)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = torch.relu(norm(conv(x)))
        return self.head(x.mean((2, 3)))


class Recurrent(nn.Module):
    def __init__(self, vocabulary: int, size: int, width: int, outputs: int, cell: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, size)
        self.rnn = getattr(nn, cell)(size, width, batch_first=True)
        self.classifier = nn.Linear(width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.rnn(self.embedding(x))[0].mean(1))


class Block(nn.Module):
    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.input_layernorm, self.post_attention_layernorm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.self_attn, self.mlp = nn.Module(), nn.Module()
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self.self_attn, name, nn.Linear(size, size))
        self.mlp.up_proj, self.mlp.down_proj = nn.Linear(size, 2 * size), nn.Linear(2 * size, size)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        count, length, size = h.shape
        x = self.input_layernorm(h)
        split = [
            getattr(self.self_attn, name)(x).view(count, length, self.heads, -1).transpose(1, 2) for name in ("q_proj", "k_proj", "v_proj")
        ]
        seen = nn.functional.scaled_dot_product_attention(*split).transpose(1, 2).reshape(count, length, size)
        h = h + self.self_attn.o_proj(seen)
        return h + self.mlp.down_proj(nn.functional.gelu(self.mlp.up_proj(self.post_attention_layernorm(h))))


class Transformer(nn.Module):
    def __init__(self, vocabulary: int, size: int, depth: int, outputs: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, size)
        self.layers = nn.ModuleList([Block(size, 4) for _ in range(depth)])
        self.norm = nn.LayerNorm(size)
        self.score = nn.Linear(size, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.embed_tokens(x)
        for layer in self.layers:
            h = layer(h)
        return self.score(self.norm(h).mean(1))


class Kind(Struct, frozen=True):
    """A kind of network. `make` builds it, `data` gives a task by number and a part of its examples; runs are saved at `lengths` steps."""

    name: str
    norms: bool
    make: Callable[[], nn.Module]
    data: Callable[[int, int], Data]
    rate: float
    lengths: tuple[int, ...]


def points(inputs: int, outputs: int) -> Callable[[int, int], Data]:
    """Points whose class a random network decides: task n, part p of its examples."""

    def data(task: int, part: int) -> Data:
        rule, draw = (torch.Generator().manual_seed(seed) for seed in (91_000 + task, 1_000_000 + 100 * task + part))
        first, second = torch.randn(inputs, 20, generator=rule), torch.randn(20, outputs, generator=rule)
        x = torch.randn(3000, inputs, generator=draw)
        return x, (torch.tanh(0.3 * x @ first) @ second).argmax(1)

    return data


def texts(vocabulary: int, outputs: int) -> Callable[[int, int], Data]:
    """Texts whose words follow Zipf's law; the class is that of most of their words."""

    def data(task: int, part: int) -> Data:
        rule, draw = (torch.Generator().manual_seed(seed) for seed in (92_000 + task, 2_000_000 + 100 * task + part))
        order, meaning = torch.randperm(vocabulary, generator=rule), torch.randint(0, outputs, (vocabulary,), generator=rule)
        often = 1.0 / torch.arange(1, vocabulary + 1).double()
        x = order[torch.multinomial(often, 2000 * TEXT, replacement=True, generator=draw)].view(-1, TEXT)
        return x, torch.stack([(meaning[x] == c).sum(1) for c in range(outputs)], 1).argmax(1)

    return data


def pictures(side: int, classes: int = 10) -> Callable[[int, int], Data]:
    """Classes of strokes on a field whose rim stays dark, as scanned digits are; every task has the same strokes."""

    def data(_: int, part: int) -> Data:
        rule, draw = torch.Generator().manual_seed(93_000), torch.Generator().manual_seed(3_000_000 + part)
        ends = torch.rand(classes, 3, 2, 2, generator=rule) * (side - 3) + 1
        y = torch.randint(0, classes, (2500,), generator=draw)
        shift, along = 0.5 * torch.randn(len(y), 2, generator=draw), torch.linspace(0, 1, 6)
        at = ends[y][:, :, None, 0] * (1 - along)[:, None] + ends[y][:, :, None, 1] * along[:, None] + shift[:, None, None]
        grid = torch.stack(torch.meshgrid(torch.arange(side).float(), torch.arange(side).float(), indexing="ij"), -1)
        drawn = torch.exp(-((grid - at.reshape(len(y), -1, 1, 1, 2)) ** 2).sum(-1) / 0.8).sum(1) / 3
        drawn[:, 0] = drawn[:, -1] = 0
        return drawn.clamp(0, 1).flatten(1), y

    return data


LONG, MIDDLE, SHORT = (30, 100, 300, 1000), (30, 100, 250, 600), (20, 60, 150, 400)
KINDS = (
    Kind("perceptron", False, lambda: Mlp(64, 128, 3, 10, False), points(64, 10), 1e-3, LONG),
    Kind("perceptron with norms", True, lambda: Mlp(64, 96, 4, 10, True), points(64, 10), 2e-3, LONG),
    Kind("convolutions", False, lambda: Convolutions(8, 20, 4, 10, False), points(64, 10), 2e-3, SHORT),
    Kind("convolutions with norms", True, lambda: Convolutions(8, 20, 3, 10, True), points(64, 10), 2e-3, SHORT),
    Kind("LSTM", False, lambda: Recurrent(900, 64, 64, 6, "LSTM"), texts(900, 6), 1e-3, SHORT),
    Kind("GRU", False, lambda: Recurrent(600, 96, 64, 4, "GRU"), texts(600, 4), 2e-3, SHORT),
    Kind("transformer", True, lambda: Transformer(600, 64, 3, 6), texts(600, 6), 1e-3, SHORT),
)


def drawn(matrix: torch.Tensor, law: str, generator: torch.Generator) -> None:
    """Draw a matrix anew, in place, by one of the laws that libraries start from."""
    if law == "kaiming":
        nn.init.kaiming_normal_(matrix, generator=generator)
    elif law == "xavier":
        nn.init.xavier_uniform_(matrix, generator=generator)
    elif law == "normal":
        nn.init.normal_(matrix, std=0.05, generator=generator)
    elif law == "truncated":
        nn.init.trunc_normal_(matrix, std=0.05, a=-0.1, b=0.1, generator=generator)
    elif law == "orthogonal":
        nn.init.orthogonal_(matrix, generator=generator)


LAWS = ("torch", "kaiming", "xavier", "normal", "truncated", "orthogonal")


def start(kind: Kind, seed: int, law: str) -> nn.Module:
    """The untrained network that this seed gives: torch's own law, or another one for all matrices."""
    torch.manual_seed(seed)
    net, generator = kind.make(), torch.Generator().manual_seed(seed)
    if law != "torch":
        for name, parameter in net.named_parameters():
            if parameter.ndim >= 2:
                drawn(parameter.data, law, generator)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter.data)
    return net


def trained(net: nn.Module, data: Data, steps: int, rate: float, order: int, decay: float = 0.0) -> nn.Module:
    """A copy trained on so many batches in an order that `order` draws; parameters that need no gradient stay."""
    net = copy.deepcopy(net).train()
    generator = torch.Generator().manual_seed(94_000 + order)
    optimiser = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], rate, weight_decay=decay)
    for _ in range(steps):
        chosen = torch.randint(0, len(data[0]), (BATCH,), generator=generator)
        loss = nn.functional.cross_entropy(net(data[0][chosen]), data[1][chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net


def run(net: nn.Module, data: Data, lengths: Sequence[int], rate: float, order: int, decay: float = 0.0) -> Iterator[tuple[int, nn.Module]]:
    """One run, as it stands after each of these numbers of steps."""
    done = 0
    for length in lengths:
        net, done = trained(net, data, length - done, rate, 1000 * order + length, decay), length
        yield length, net


def state(net: nn.Module) -> State:
    """The weights and buffers that a file would hold."""
    return {name: value.detach().numpy().copy() for name, value in net.state_dict().items() if value.ndim}
