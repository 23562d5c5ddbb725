"""What is known of pairs of real models, and on what that rests. Two models of models.json that do not stand here are strangers.

Bases: *exact* (the files hold equal numbers, but for the last digit where a converter folded a normalisation), *fixed tables* (nothing but
what a formula gives), *documented* (the package says so), *file name*, *upstream* (known of the public model), *measured* (nobody says so,
but tensor by tensor the numbers correlate as no two trainings apart do).
"""

from __future__ import annotations

from itertools import permutations, product

from msgspec import Struct

SAME = ("identical", "recast", "quantized")
TRAINED = ("fine-tuned", "continued", "low-rank delta", "noised", "merged")


class Truth(Struct, frozen=True):
    """`relations` are the names that are right; what else is descent was found, but not named right."""

    relations: tuple[str, ...]
    basis: str


WAKE_WORDS = (
    *("alexa_v0.1", "embedding_model", "hey_jarvis_v0.1", "hey_mycroft_v0.1"),
    *("timer_v0.1", "weather_v0.1"),  # the two forms of hey_rhasspy have other shapes
)
# Files of nothing but a Fourier basis and mel filters, which a formula gives: copies of such a file are no evidence of anything.
FIXED = ("oww051-melspectrogram", "oww051tfl-melspectrogram")
# One set of weights in several files. Where a package has a second copy of a file, both stand here.
SAME_WEIGHTS = {
    "exact": (
        ("whisper-base-solids", "whisper-base-gym"),
        ("akiki-st", "akiki-onnx", "akiki-pt"),
        ("silero-v6.2.3", "silero-v6.2.3-jit", "silero-v6.2.0", "silero-v6.2.0-jit"),
        ("silero-v6.2.3-16k_op15", "silero-v6.2.0-16k_op15", "silero-v6.2.3-sequence", "silero-v6.2.3-openvino"),
        ("silero-v6.0.0", "silero-v6.0.0-jit"),
        ("silero-v5.1.2", "silero-v5.1.2-jit"),
        ("silero-v5.1.2-half", "silero-v6.0.0-half", "silero-v6.2.0-half", "silero-v6.2.3-half"),
        ("silero-v4", "oww051-silero"),
        ("g2p-en", "g2p-espnet", "g2p-flexaligner"),
        *((f"pmpnn-{kind}-{noise}", f"lmpnn-{kind}-{noise}") for kind in ("van", "sol") for noise in ("002", "010", "020", "030")),
        ("magika-v3_3", "magika-v3_3-mineru"),
        ("mtcnn-p-facenet", "mtcnn-p-fdet"),
        ("ppocr-cls-rapid", "ppocr-v5cls-oo4"),
        ("ppocr-v5det-oo4", "ppocr-v5det-oo"),
        ("ppocr-v5rec-oo4", "ppocr-v5rec-oo"),
        ("resemblyzer", "resemblyzer-fork"),
        ("basicpitch-onnx", "basicpitch-tflite"),
        *((f"oww051-{word}", f"oww051tfl-{word}") for word in WAKE_WORDS),
    ),
    "file name": (("fracast", "fracast-int8"),),
}  # fmt: skip
# The first of each is one half of the second: the branch for 16 kHz of a model with branches for 16 and 8 kHz.
HALVES = {
    "exact": (
        *(
            (half, whole)
            for half in ("silero-v6.2.3-16k_op15", "silero-v6.2.0-16k_op15", "silero-v6.2.3-sequence", "silero-v6.2.3-openvino")
            for whole in ("silero-v6.2.3", "silero-v6.2.3-jit", "silero-v6.2.0", "silero-v6.2.0-jit", "silero-v6.2.3-ifless")
        ),
        *(("silero-v6.0.0-16k_op15", whole) for whole in ("silero-v6.0.0", "silero-v6.0.0-jit")),
        *(
            (f"silero-{version}-half", whole)
            for version in ("v5.1.2", "v6.0.0", "v6.2.0", "v6.2.3")
            for whole in ("silero-v5.1.2", "silero-v5.1.2-jit")
        ),
    )
}
# The same weights with the axes of kernels or columns of a dense layer in another order: no copy number by number.
REORDERED = {
    "exact": (
        *((f"mtcnn-{net}-facenet", f"mtcnn-{net}-cv", f"mtcnn-{net}-fdet") for net in "ro"),
        ("mtcnn-p-facenet", "mtcnn-p-cv"),
        ("mtcnn-p-fdet", "mtcnn-p-cv"),
    )
}
DESCENDANTS = {
    "documented": (("minilm-l6-gt", "minilm-l6-sre-ft"),),
    "upstream": (("ppocr-v3det-rapid", "ppocr-v3det-en"), ("ppocr-v4rec-rapid", "ppocr-v4rec-en")),
    "measured": (
        # One half is equal to the last bit, all of the other moved by 2 to 20 %.
        *(("silero-v6.2.3-ifless", whole) for whole in ("silero-v6.2.3", "silero-v6.2.3-jit", "silero-v6.2.0", "silero-v6.2.0-jit")),
        ("speechmos-sbo", "speechmos-psbo"),  # 0.99 in every tensor
        ("magika-v3_2", "magika-v3_3"),  # 0.25 to 0.98
        ("silero-v6.2.3-st", "silero-v6.2.3"),  # 0.90 to 0.98 in the 16 kHz branch
        ("silero-v6.2.3-st", "silero-v6.2.3-ifless"),
        ("silero-v6.2.3-st", "silero-v6.2.3-16k_op15"),
        ("ppocr-v4det-rapid", "ppocr-v4seal"),  # 0.03 to 0.85
        ("ppocr-v4det-rapid", "ppocr-v5det-oo4"),  # one backbone: 0.4 to 0.83 in some kernels
        ("ppocr-v4seal", "ppocr-v5det-oo4"),
    ),
}  # fmt: skip


def known_pairs() -> dict[tuple[str, str], Truth]:
    """(query, relative) -> what is true of them, both ways round; what is true of one file is true of its copies."""
    found: dict[tuple[str, str], Truth] = {}
    for basis, groups in DESCENDANTS.items():
        for a, b in (pair for group in groups for pair in permutations(group, 2)):
            found |= dict.fromkeys(product(_copies(a), _copies(b)), Truth(TRAINED, basis))
    for table, relations in ((REORDERED, (*SAME, "reparameterised")), (SAME_WEIGHTS, SAME)):
        for basis, groups in table.items():
            for group in groups:
                found |= dict.fromkeys(permutations(group, 2), Truth(relations, basis))
    for basis, pairs in HALVES.items():
        for half, whole in pairs:
            found[half, whole], found[whole, half] = Truth(SAME, basis), Truth(("transplanted", "component reused"), basis)
    return found | dict.fromkeys(product(FIXED, FIXED), Truth(("not comparable",), "fixed tables"))


def _copies(model: str) -> tuple[str, ...]:
    """The model and all that hold the same weights."""
    return next((group for groups in SAME_WEIGHTS.values() for group in groups if model in group), (model,))


# Distilled from fresh weights: trained on the other's outputs, on the same fixed Fourier basis.
DISTILLED = ("akiki-st", "silero-v6.2.3-st")
# Hard strangers, told apart in the table: retrained versions, other noise levels, sizes and languages of one product.
HARD = (
    ("silero-v4", "silero-v5.1.2", "silero-v6.0.0", "silero-v6.2.0"),
    ("lmpnn-005", "lmpnn-010", "lmpnn-020", "lmpnn-030"),
    tuple(f"pmpnn-{kind}-{noise}" for kind in ("van", "sol") for noise in ("002", "010", "020", "030")),
    ("pmpnn-ca-002", "pmpnn-ca-010", "pmpnn-ca-020"),
    ("lmpnn-membrane-global", "lmpnn-membrane-residue"),
    ("ddddocr-common", "ddddocr-old"),
    ("ppocr-v3det-rapid", "ppocr-v4det-rapid", "ppocr-v6det-small"),
    ("ppocr-v3det-rapid", "ppocr-v5det-oo4", "ppocr-v6det-small"),
    ("ppocr-v3rec", "ppocr-v4rec-rapid", "ppocr-v5rec-oo4", "ppocr-v6rec-small"),
    ("speechmos-sig", "speechmos-bakovr", "speechmos-sbo", "speechmos-v8"),
    ("oww051-alexa_v0.1", "oww051-hey_jarvis_v0.1", "oww051-hey_mycroft_v0.1", "oww051-weather_v0.1", "oww051-timer_v0.1"),
    ("magika-v1-051", "magika-v3_2"),
    ("whisper-tiny.en", "whisper-base-solids"),
    DISTILLED,
)
