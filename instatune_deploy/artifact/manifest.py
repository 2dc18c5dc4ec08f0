"""The manifest: what an artifact is, what it promises, and how that was proved.

`manifest.json` carries the SHA-256 of every other file and one of itself, so a byte changed anywhere is found. That finds
accidents and careless edits; it is no signature, and does not stop someone who computes the checksums anew.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from instatune_deploy import __version__
from instatune_deploy.artifact.checks import (
    MANIFEST,
    SCHEMA_VERSION,
    SEAL,
    break_seal,
    check_manifest_size,
    exceeded,
    is_plain,
    schema_of,
)
from instatune_deploy.artifact.parity import Parity
from instatune_deploy.config import Count, Precision, Provider, RuntimeName, Sha256, Statistic, TimingSettings
from instatune_deploy.devices.deployment import Deployment
from instatune_deploy.devices.latency import Timing
from instatune_deploy.digests import digest
from instatune_deploy.errors import BadInput, VerificationFailed
from instatune_deploy.files import read_json, write_json
from instatune_deploy.supernet.architecture import Architecture

FILE_NAME = MANIFEST
PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "openvino", "numpy", "tokenizers", "pillow")

Milliseconds = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Record(BaseModel):
    """Base of the manifest's parts. A later version may add keys without raising the schema: unknown ones are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Budget(Record):
    """What the user asked for, as written and as meant: ``statistic`` of the latency is at most ``limit_ms``; None: anything.

    macs: of one input; accuracy: on the validation rows, at least; also_ms: limits of other percentiles of the latency
    """

    text: str
    statistic: Statistic
    limit_ms: Milliseconds | None
    size_bytes: float | None = Field(None, gt=0)
    memory_bytes: float | None = Field(None, gt=0)
    macs: float | None = Field(None, gt=0)
    accuracy: Fraction | None = None
    also_ms: dict[Statistic, Milliseconds] = {}


class Latency(Record):
    """Milliseconds of one inference on the finished files in a process of their own. ``count``: runs behind the figures.

    upper: what the budget's statistic stays below with 95% confidence; None when too few runs were made to say
    lower: what it stays above
    """

    p50: Milliseconds
    p90: Milliseconds
    p99: Milliseconds
    count: Count
    upper: Milliseconds | None
    lower: Milliseconds | None = None
    stable: bool

    @classmethod
    def of(cls, timing: Timing, statistic: Statistic) -> Latency:
        """The manifest's figures of a timing; ``upper`` belongs to ``statistic``."""
        return cls(
            p50=timing.p50_ms,
            p90=timing.p90_ms,
            p99=timing.p99_ms,
            count=timing.count,
            upper=timing.limits[statistic].upper_ms,
            lower=timing.limits[statistic].lower_ms,
            stable=timing.stable,
        )

    def statistic_ms(self, statistic: str) -> float:
        """The percentile that ``statistic`` (`config.Statistic`) names."""
        return {"p50": self.p50, "p90": self.p90, "p99": self.p99}[statistic]


class Accuracy(Record):
    """Fractions (0 .. 1) of rows decided right; ``test`` is None when there were no test rows.

    searched: of the graph that was searched, on the validation rows; int8 is calibrated afresh for what is handed over
    top5_validation, top5_test: of rows whose label is among the five likeliest; None for texts, five labels or fewer, and in
    older manifests
    """

    validation: Fraction
    test: Fraction | None
    searched: Fraction | None = None
    top5_validation: Fraction | None = None
    top5_test: Fraction | None = None

    @property
    def top5(self) -> dict[str, float]:
        """Top-5 accuracy by the split's name; empty where there is none."""
        both = {"validation": self.top5_validation, "test": self.top5_test}
        return {split: value for split, value in both.items() if value is not None}


class Baseline(Record):
    """The full model as most would ship it, in ONNX Runtime and fp32 where the device has that; validation rows.

    image_size: pixels of the edge of its images, where architectures say that of theirs
    """

    latency_ms: Milliseconds
    accuracy: Fraction
    runtime: RuntimeName
    precision: Precision
    image_size: Count | None = None


class Prediction(Record):
    """What the predictors promised before this architecture was measured; the accuracy of a regression may leave 0 .. 1."""

    latency_ms: float
    accuracy: float


class Data(Record):
    """What it was fine-tuned and judged on. ``key``: digest of all texts and labels; ``rows``: of each split."""

    reference: str
    key: str
    rows: dict[str, int]


class Vocabulary(Record):
    """Tokens that were kept of those there were, and what that costs on rows that chose none of them: the shares of rows that
    are tokenised differently, and of their tokens that are unknown."""

    tokens: int
    of: int
    validation_differing: Fraction
    validation_unknown: Fraction
    test_differing: Fraction
    test_unknown: Fraction


class Predictors(Record):
    """Held-out errors of the predictors that the search believed: latency as a share (in the way of running that was chosen)
    and accuracy as a fraction, with Kendall's tau; None where there was none."""

    latency_mape: float | None
    latency_tau: float | None
    accuracy_mae: float | None
    accuracy_tau: float | None


class FileEntry(Record):
    """Checksum and size of one file."""

    sha256: Sha256
    bytes: int = Field(ge=0)


class Manifest(Record):
    """Everything a receiver of an artifact may want to know, and what `verify` needs.

    created:      UTC
    base_model:   reference of the pre-trained model; base_model_on_hub: whether it came from the hub
    license:      of the base model, as its own card says; None where it says nothing
    labels:       class names; the i-th logit is the i-th name's
    device:       name of the hardware profile
    budget:       None when none was asked for
    statistic:    of the latency that counts: the budget's, else the hardware profile's; that of the baseline too
    sequence_length: tokens of one input, an image's patches among them; None in older manifests, which are of texts
    input_shapes: of every input of the graph; the budget is promised for these
    input_types:  what each holds; empty in older manifests
    open_axes:    of batch and tokens what the graph takes at any size; the promise is still that of ``input_shapes``
    latency_ms:   as the clock gave it, in the slowest of three processes
    circumstances: of that measurement: when, load, what the runtime said, attempts (`Measurement.circumstances`)
    baseline, predicted: on the nominal speed of the host, as everything that was searched
    predicted:    None when it was measured before there were predictors
    macs:         multiply-accumulate operations of one inference
    size_bytes:   of the graph's files
    memory_bytes: peak resident memory of a process that runs it, the largest of three; None where the host did not tell
    host:         `Host.describe` of the machine the latency was measured on
    timing:       the measuring protocol, so that `verify` measures by the same; a setting unknown here would be another one
    keys:         of every stage that led here
    files:        every file of the folder but manifest.json, by its path inside it
    """

    schema_version: int = Field(SCHEMA_VERSION, ge=1, le=SCHEMA_VERSION)
    created: AwareDatetime
    task: str
    base_model: str
    base_model_on_hub: bool = False
    license: str | None = None
    labels: list[str]
    device: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    budget: Budget | None
    statistic: Statistic = "p90"
    runtime: RuntimeName
    precision: Precision
    provider: Provider = "cpu"
    threads: Count
    batch_size: Count
    sequence_length: Count | None = None
    input_shapes: dict[str, list[Count]] = Field(min_length=1)
    input_types: dict[str, Literal["int64", "float32", "uint8"]] = {}
    open_axes: list[Literal["batch", "tokens"]] = []
    architecture: Architecture
    latency_ms: Latency
    circumstances: dict[str, Any] = {}
    accuracy: Accuracy
    data: Data | None = None
    vocabulary: Vocabulary | None = None
    baseline: Baseline
    predicted: Prediction | None
    predictors: Predictors | None = None
    parity: Parity
    macs: int = Field(ge=0)
    parameters: int = Field(ge=0)
    size_bytes: int = Field(ge=0)
    memory_bytes: int | None = Field(None, gt=0)
    host: dict[str, Any]
    versions: dict[str, str]
    seed: int
    timing: TimingSettings
    keys: dict[str, str]
    files: dict[str, FileEntry] = Field({}, description="filled in when the artifact is finished")

    @field_validator("files")
    @classmethod
    def _plain_names(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        for name in files:
            if not is_plain(name):
                raise ValueError(f"{name!r} is not the path of a file inside the artifact")
        return files

    @field_validator("input_shapes")
    @classmethod
    def _several_dimensions(cls, shapes: dict[str, list[int]]) -> dict[str, list[int]]:
        for name, shape in shapes.items():
            if len(shape) < 2:
                raise ValueError(f"input {name} must have at least two dimensions")
        return shapes

    @model_validator(mode="after")
    def _kept_its_word(self) -> Manifest:
        """What could not be proved when it was made is no artifact."""
        if any(shape[0] != self.batch_size for shape in self.input_shapes.values()):
            raise ValueError(f"the first dimension of every input must be the batch size, {self.batch_size}")
        if not self.parity.ok:
            raise ValueError(f"parity: {self.parity}")
        said = None if self.budget is None else exceeded(self, self.budget, self.size_bytes)
        if said is not None:
            raise ValueError(said)
        return self

    @property
    def tolerance(self) -> float:
        """How far from PyTorch's its logits may be."""
        return self.parity.tolerance

    def promised_ms(self, statistic: str) -> float:
        """Latency by a statistic: p50, p90 or p99."""
        return self.latency_ms.statistic_ms(statistic)

    @property
    def deployment(self) -> Deployment:
        """What was measured, and what `verify` measures again."""
        tokens = self.sequence_length or max(shape[1] for shape in self.input_shapes.values())
        return Deployment(self.architecture, self.runtime, self.precision, self.threads, self.batch_size, tokens, self.provider)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of manifest.json, as it is published in `manifest.schema.json` beside this file."""
    schema = Manifest.model_json_schema()
    schema["properties"][SEAL] = {
        "type": "string",
        "pattern": "^[0-9a-f]{64}$",
        "title": "SHA-256 of the rest, as canonical JSON",
    }
    schema["required"] = [*schema["required"], "schema_version", SEAL]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def installed_versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries an artifact depends on; what is not installed is left out."""
    versions = {"python": python_version(), "instatune-deploy": __version__}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json, sealed with the digest of its own content."""
    value = manifest.model_dump(mode="json")
    write_json(folder / FILE_NAME, {**value, SEAL: digest(value)})


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the artifact in ``folder``.

    ``BadInput`` when there is no artifact; ``VerificationFailed`` when its manifest is damaged, was edited, or was made by
    a newer instatune-deploy than this one.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder")
    path = folder / FILE_NAME
    if path.is_symlink() or not path.is_file():
        raise BadInput(f"{folder}: not an artifact (it has no file {FILE_NAME})")
    check_manifest_size(path)
    try:
        value = read_json(path)
    except BadInput as error:
        if isinstance(error.__cause__, ValueError):
            raise VerificationFailed(f"damaged: {error.message}") from error
        raise
    except RecursionError as error:
        raise VerificationFailed(f"{path}: damaged: nested too deeply") from error
    schema = schema_of(path, value)
    if schema > SCHEMA_VERSION:
        raise VerificationFailed(
            f"{path}: made by a newer instatune-deploy (schema {schema}); this one reads up to {SCHEMA_VERSION}"
        )
    return _validated(path, value)


def _validated(path: Path, value: dict[str, Any]) -> Manifest:
    break_seal(path, value)
    try:
        return Manifest.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        text = first["msg"].removeprefix("Value error, ")
        raise VerificationFailed(f"{path}: damaged: {key + ': ' if key else ''}{text}") from error
