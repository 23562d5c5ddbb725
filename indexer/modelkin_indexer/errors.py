"""Everything that can go wrong, and what each means for the person who asked.

    ModelkinError
    ├── SourceError             weights cannot be read (exit code 3)
    │   ├── SourceNotFound      no such file, folder or usable weights in it
    │   │   └── NoCheckpoints   a folder that was given for a series has none in it (exit code 2)
    │   ├── DamagedFile         the file contradicts itself: truncated, lying header, overlap, duplicate key
    │   ├── UnsupportedFormat   readable, but of a kind that this version does not decode
    │   ├── UnusableValues      NaN or infinite weights
    │   └── Offline             only the network has it, and requests are forbidden
    ├── FingerprintError        a stored fingerprint is damaged or of an unknown spec
    ├── UnusableKey             a key file cannot be read or holds no key (exit code 2)
    ├── WrongLine               a policy, or a list of submissions, has a mistake (exit code 2)
    ├── WrongFilter             a condition that models are chosen by cannot be understood (exit code 2)
    ├── SharedFileError         a file of a shared registry is damaged, of another version or key
    ├── EvidenceError           a bundle of evidence is damaged, was changed, or cannot be written
    ├── ReportError             a page cannot be written in the form that was asked for (exit code 2)
    ├── LaunchError             workers cannot be begun on a cluster (exit code 2)
    ├── ServeError              a page cannot be served as asked (exit code 2)
    ├── JournalError            the journal of an exact comparison is damaged, or another comparison's
    └── RegistryError           the registry cannot be opened, is busy or is damaged (exit code 4)
        ├── UnknownModel        no model of that name in the registry
        ├── NameTaken           the name is that of a model with other weights
        └── RegistryAway        its server is out of reach, or others write for too long: later it may go

Every message names the file, the tensor where there is one, and what to do.
"""

from __future__ import annotations

from pathlib import Path


class ModelkinError(Exception):
    """Base of every error that modelkin raises on purpose.

    `exit_code` is what the command line ends with.
    """

    exit_code = 3


class SourceError(ModelkinError):
    """Weights cannot be read. `path` is the file, `tensor` the tensor where one is to blame, `remedy` what to do."""

    def __init__(self, problem: str, *, path: str | Path, tensor: str | None = None, remedy: str) -> None:
        self.problem, self.path, self.tensor, self.remedy = problem, str(path), tensor, remedy
        where = f"{self.path}: tensor {tensor!r}" if tensor is not None else self.path
        super().__init__(f"{where}: {problem}. {remedy}")


class SourceNotFound(SourceError):
    """There is nothing to read there."""


class NoCheckpoints(SourceNotFound):
    """A folder that was given for a series of checkpoints has none in it: the call names the wrong one, no file is bad."""

    exit_code = 2


class DamagedFile(SourceError):
    """The file contradicts itself."""


class UnsupportedFormat(SourceError):
    """The file may be sound, but this version cannot decode it."""


class UnusableValues(SourceError):
    """Weights that are not finite numbers."""


class Offline(SourceError):
    """What was asked for is not here, and the network may not be used."""


class FingerprintError(ModelkinError):
    """A fingerprint is damaged, or made by a spec that this version does not know."""


class UnusableKey(ModelkinError):
    """A file that should hold a private key cannot be read, or holds none. The message never shows what it holds."""

    exit_code = 2


class WrongLine(ModelkinError):
    """A policy, a list of submissions or a training log that cannot be used. `path` is the file, `line` where the mistake is."""

    exit_code = 2

    def __init__(self, path: str | Path, line: int, problem: str) -> None:
        self.path, self.line, self.problem = str(path), line, problem
        super().__init__(f"{self.path}, line {line}: {problem}")


class WrongFilter(ModelkinError):
    """A condition that models are chosen by cannot be understood: a field that there is none of, or a value that is not of its kind."""

    exit_code = 2


class OutputInside(ModelkinError):
    """A folder for what is written lies where it would be read another time."""

    exit_code = 2


class SharedFileError(ModelkinError):
    """A file that a registry was exported to cannot be taken in, or written."""


class EvidenceError(ModelkinError):
    """A bundle of evidence is damaged or was changed since it was made, is of another version, or cannot be written."""


class ReportError(ModelkinError):
    """A page cannot be written in the form or language that was asked for."""

    exit_code = 2


class ServeError(ModelkinError):
    """A registry's page cannot be served: what serves it is not installed, its address is taken, or its tokens cannot be used."""

    exit_code = 2


class LaunchError(ModelkinError):
    """Workers cannot be begun on a cluster: Ray is not installed, no cluster answers, or it does not reach the registry."""

    exit_code = 2


class JournalError(ModelkinError):
    """The journal of an exact comparison is damaged, belongs to another comparison, or cannot be written."""


class RegistryError(ModelkinError):
    """The registry cannot be opened, is busy, or is damaged."""

    exit_code = 4


class UnknownModel(RegistryError):
    """No model of that name is registered."""


class RegistryAway(RegistryError):
    """The registry's server is out of reach, or another process writes for too long. The same call may go well later."""


class NameTaken(RegistryError):
    """The name is that of a registered model whose weights have nothing to do with the new ones."""
