"""What a pipeline starts from: its settings, the pre-trained model, the data. Checked before anything long begins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from instatune_deploy.config import TRAIN_TEACHER, PipelineSettings
from instatune_deploy.devices.profile import Device
from instatune_deploy.digests import digest, folder_sha256
from instatune_deploy.errors import BadInput
from instatune_deploy.pipeline.embedding import Embedding
from instatune_deploy.resources import find_resource
from instatune_deploy.tasks.base import PIXELS, Task
from instatune_deploy.tasks.references import check_model_folder, resolve
from instatune_deploy.tasks.registry import load_task
from instatune_deploy.tasks.text_inputs import load_tokenizer
from instatune_deploy.tasks.text_task import TextTask
from instatune_deploy.yamlfile import load_yaml

TRIM_REVISION = 1
"""Raised when a trimmed checkpoint is made in another way."""
FOLD_REVISION = 2
"""Raised when a folded checkpoint is made in another way."""


@dataclass(frozen=True)
class Vocabulary:
    """What trimming left, and what it costs elsewhere: shares of the rows that are tokenised differently, and of their tokens
    that are unknown."""

    tokens: int
    of: int
    validation_differing: float
    validation_unknown: float
    test_differing: float
    test_unknown: float

    def __str__(self) -> str:
        return (
            f"{self.tokens} of {self.of} tokens are kept; of the validation rows {self.validation_differing:.1%} are tokenised "
            f"differently, {self.validation_unknown:.2%} of their tokens are unknown"
        )


@dataclass(frozen=True)
class PipelineInputs:
    """Resolved references of a pipeline file.

    named_folder: the DINOv2 checkpoint that the plain ViT in ``model_folder`` was made of; None: nothing was folded
    embedding:    what graphs do of the preprocessing, if anything
    """

    settings: PipelineSettings
    model_folder: Path
    task: Task
    vocabulary: Vocabulary | None = None
    named_folder: Path | None = None
    embedding: Embedding | None = None

    @cached_property
    def model_sha256(self) -> str:
        """Of every file of the checkpoint."""
        return folder_sha256(self.model_folder)

    def on(self, device: Device) -> Device:
        """The device at the shape of the task's rows: its inputs are no larger than those that were trained on."""
        try:
            size = self.task.size_on(device.sequence_length, device.settings.image_size)
        except BadInput as error:
            raise BadInput(f"hardware profile '{device.name}': {error.message}") from error
        return self.sized(device, size)

    def size_note(self, device: Device) -> str | None:
        """A line where the images of a device are not of a size that is trained on; ``BadInput`` as in `on`."""
        size, asked = self.on(device).size, device.settings.image_size
        if self.task.unit != PIXELS or asked is None:
            return None
        profile = f"hardware profile '{device.name}'"
        if asked > size:
            return f"{profile}: image_size {asked} is more than the {size} px that are trained on; {size} it is"
        if size != self.task.largest and size not in (self.settings.space.image_sizes or []):
            return f"{profile}: images of {size} px are not trained on; space.image_sizes: [{size}] does it, in another training"
        return None

    def sized(self, device: Device, size: int) -> Device:
        """The device with inputs of a size, in the task's own unit."""
        pixels = size if self.task.unit == PIXELS else None
        return replace(device, sequence_length=self.task.tokens(size), image_size=pixels)


def load_pipeline(name: str) -> PipelineSettings:
    """The settings of a pipeline file, or of a shipped one by its name."""
    return load_yaml(find_resource("pipelines", name, "pipeline"), PipelineSettings)


def load_inputs(settings: PipelineSettings, work: Path | None = None) -> PipelineInputs:
    """Fetch and check model and data. ``BadInput`` says what is wrong with which.

    work: where a checkpoint that is made of the one that is named, with a trimmed vocabulary or as a plain ViT, is kept
    """
    from instatune_deploy.supernet.families import family_of
    from instatune_deploy.supernet.load import load_config

    model = settings.model
    folder = resolve(model.reference, sha256=model.sha256, revision=model.revision, kind="model", where="model.reference")
    check_model_folder(folder)
    config, named = load_config(folder), None
    if config.model_type == "dinov2":
        named, folder = folder, _folded(folder, work)
        config = load_config(folder)
    family = family_of(config.model_type, str(folder))
    if family.task != settings.task:
        raise BadInput(
            f"{folder}: model type '{config.model_type}' is for {family.task}, and the pipeline's task is {settings.task}"
        )
    task = load_task(settings, folder, config, family.positions)
    inputs = PipelineInputs(settings, folder, task, named_folder=named)
    rows, step = task.counts["train"], settings.finetune.batch_size * settings.finetune.gradient_accumulation_steps
    if rows < step:
        raise BadInput(
            f"{rows} training rows are fewer than one batch; set finetune.batch_size times "
            f"finetune.gradient_accumulation_steps below {step} or give more data"
        )
    if not model.trim_vocabulary:
        return inputs
    if not isinstance(task, TextTask):
        raise BadInput(f"model.trim_vocabulary: {settings.task} has no vocabulary; leave it out")
    return _trimmed(inputs, task, work)


def _folded(folder: Path, work: Path | None) -> Path:
    """A DINOv2 checkpoint as a plain ViT's that computes the same; made once."""
    from instatune_deploy.supernet.layer_scale import fold

    if work is None:
        raise BadInput(f"{folder}: a DINOv2 checkpoint is made a ViT's first, and this command has no work folder to keep it in")
    target = work / "folded" / digest([FOLD_REVISION, folder_sha256(folder)])[:16]
    if not target.is_dir():
        fold(folder, target)
    return target


def _trimmed(inputs: PipelineInputs, task: TextTask, work: Path | None) -> PipelineInputs:
    """The same with a checkpoint that has the tokens of the training rows only; made once."""
    from instatune_deploy.tasks.vocabulary import differing, trim, used_tokens

    if inputs.settings.finetune.teacher not in (None, TRAIN_TEACHER):
        raise BadInput(
            "finetune.teacher: a teacher that is given has the whole vocabulary; leave model.trim_vocabulary out, or 'train'"
        )
    if work is None:
        raise BadInput("model.trim_vocabulary: this command has no work folder to keep the smaller checkpoint in")
    texts = task.data.texts
    kept = used_tokens(texts["train"], task.tokenizer)
    target = work / "trimmed" / digest([TRIM_REVISION, inputs.model_sha256, sorted(kept)])[:16]
    if not target.is_dir():
        trim(inputs.model_folder, kept, target)
    before, after = len(task.tokenizer), load_tokenizer(target)
    changed = {split: differing(rows, task.tokenizer, after) for split, rows in texts.items()}
    if changed["train"][0] > 0:
        raise BadInput("model.trim_vocabulary: the training rows would be tokenised differently by this tokenizer; leave it out")
    vocabulary = Vocabulary(len(after), before, *changed["validation"], *changed["test"])
    return PipelineInputs(inputs.settings, target, replace(task, tokenizer=after), vocabulary)
