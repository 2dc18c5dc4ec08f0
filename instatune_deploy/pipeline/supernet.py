"""Stages *supernet* and *finetune*: from a pre-trained checkpoint to a super-network that every device shares."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from instatune_deploy.devices.host import Host
from instatune_deploy.digests import digest, file_sha256
from instatune_deploy.errors import clear_os_errors
from instatune_deploy.files import read_json, whole_folder, write_json
from instatune_deploy.pipeline.inputs import PipelineInputs
from instatune_deploy.pipeline.teacher import Teacher, teacher_of, train_teacher
from instatune_deploy.pipeline.training import (
    alone,
    check_one_process,
    computes_in_bf16,
    load_model,
    new_head,
    progress,
    save_model,
    steps_of,
    trained_on,
    versions_of,
)
from instatune_deploy.search.strategies import check_strategy
from instatune_deploy.supernet.shape import ModelShape
from instatune_deploy.supernet.space import SPACE_REVISION, SearchSpace
from instatune_deploy.terminal import Terminal

if TYPE_CHECKING:
    from instatune_deploy.graphs.calibration import Rows
    from instatune_deploy.graphs.template import Template
    from instatune_deploy.graphs.variants import Variant
    from instatune_deploy.supernet.network import SuperNetwork

VNNI_FLAGS = {"avx512_vnni", "avx_vnni", "amx_int8"}
DONE = "supernet.json"
GRAPHS_REVISION = 3
"""Raised when `graphs/` makes other graphs of the same network: templates that were kept are made anew."""


@dataclass(frozen=True)
class Supernet:
    """A fine-tuned super-network on disk: the Hugging Face checkpoint of its full network, and what is elastic."""

    folder: Path
    key: str
    space: SearchSpace
    shape: ModelShape
    facts: dict[str, Any]

    @property
    def weights(self) -> str:
        """SHA-256 of the weights: what an accuracy is the accuracy of."""
        return str(self.facts["weights"])

    @cached_property
    def network(self) -> SuperNetwork:
        """The super-network, in evaluation mode."""
        from instatune_deploy.supernet.load import load_pretrained
        from instatune_deploy.supernet.network import SuperNetwork

        return SuperNetwork(load_pretrained(self.folder / "model", self.facts["labels"], seed=0)).eval()

    def template(
        self,
        variant: Variant,
        example: dict[str, np.ndarray],
        rows: Callable[[], Rows],
        open_shapes: bool = False,
        narrow: bool = False,
    ) -> Template:
        """The graph to carve architectures from; made once and kept.

        example:     one batch of inputs; the graph takes their shapes and no others, or any with ``open_shapes``
        rows:        gives the calibration rows of a quantised variant, each at the example's shapes
        narrow:      weights of 7 bits (`narrow_weights`)
        """
        from instatune_deploy.graphs.template import Template

        shape = next(iter(example.values())).shape
        # of an image only the batch can be open
        shapes = "x".join(map(str, ("open", *shape[2:]) if open_shapes else shape))
        made_by = digest([GRAPHS_REVISION, versions_of("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "nncf")])[:8]
        narrow = narrow and variant.quantised is not None
        folder = self.folder / "graphs" / f"{shapes}-{made_by}" / f"{variant}{'-narrow' if narrow else ''}"
        if not folder.is_dir():
            self._make_template(folder, variant, example, rows, open_shapes, narrow)
        return Template.load(folder, "template")

    def _make_template(
        self,
        folder: Path,
        variant: Variant,
        example: dict[str, np.ndarray],
        rows: Callable[[], Rows],
        open_shapes: bool,
        narrow: bool,
    ) -> None:
        """One process at a time; another that waited finds it made."""
        from instatune_deploy.graphs.variants import make_variant

        # its predecessor first: that has a lock of its own
        before = None if variant.before is None else self.template(variant.before, example, rows, open_shapes)
        with clear_os_errors(f"cannot write {folder}"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder.with_suffix(".lock"))
            lock.acquire()
        try:
            if folder.is_dir():
                return
            if before is None:
                import torch

                from instatune_deploy.graphs.export import export_template

                tensors = {name: torch.from_numpy(value) for name, value in example.items()}
                made = export_template(self.network, tensors, open_shapes)
            else:
                made = make_variant(variant, before, self.network.family, rows, narrow)
            with whole_folder(folder) as scratch:
                made.save(scratch, "template")
        finally:
            lock.release()


def supernet_key(
    inputs: PipelineInputs, space: SearchSpace, teacher: Teacher | None, seed: int, bf16: bool, portable: bool = False
) -> str:
    """Everything the weights of the super-network depend on.

    space:    where layers are kept by importance, in any order: the right one follows from the model, the rows and the settings
    portable: the same on hosts whose libraries are of the same versions in other builds, such as ``2.13.0`` and ``2.13.0+cpu``
    """
    # what the teacher is called says nothing on its weights
    settings = inputs.settings.finetune.model_dump(exclude={"checkpoint_steps", "teacher", "teacher_sha256"})
    value = {
        "space": space.to_json(),
        "space_revision": SPACE_REVISION,
        "finetune": settings,
        "teacher": None if teacher is None else teacher.key,
    }
    trained = trained_on(inputs, seed, bf16)
    if portable:
        trained["versions"] = {name: version.partition("+")[0] for name, version in trained["versions"].items()}
    return digest({**trained, **value})[:16]


def finetune_stage(inputs: PipelineInputs, work: Path, seed: int, terminal: Terminal, runs: int = 1) -> Supernet:
    """The super-network of a pipeline: the finished one of an earlier run, else trained (or trained on) now.

    runs: the most ways of running that a device will be searched in, to refuse before a training what cannot be searched after
    """
    terminal.stage("super-network")
    check_one_process()
    from instatune_deploy.supernet.network import SuperNetwork

    network = SuperNetwork(load_model(inputs, seed))
    space = SearchSpace.of(network.shape, inputs.settings.space, range(network.shape.layers))
    check_strategy(inputs.settings.search.strategy, space, runs)
    here = computes_in_bf16()

    def of(bf16: bool) -> tuple[bool, Teacher | None, str, Path]:
        teacher = teacher_of(inputs, work, seed, bf16)
        key = supernet_key(inputs, space, teacher, seed, bf16)
        return bf16, teacher, key, work / "supernets" / key

    # one that is finished is taken as it is: it may come from a host that computes in another precision
    chosen = of(here)
    if not (chosen[-1] / DONE).is_file() and ((other := of(not here))[-1] / DONE).is_file():
        chosen = other
    bf16, teacher, key, folder = chosen
    if not (folder / DONE).is_file():
        keys = {supernet_key(inputs, space, taught, seed, how, portable=True) for how, taught, *_ in (of(here), of(not here))}
        folder = _made_elsewhere(work, keys) or folder
    with alone(folder, "super-network", terminal):
        if not (folder / DONE).is_file():
            if teacher is not None:
                train_teacher(teacher, inputs, seed, bf16, terminal)
            if (new := new_head(inputs)) is not None:
                terminal.result(new)
            portable = supernet_key(inputs, space, teacher, seed, bf16, portable=True)
            _train(network, inputs, teacher, folder, key, portable, seed, bf16, terminal)
        else:
            terminal.result(f"fine-tuned before ({folder}), reused")
    supernet = load_supernet(folder)
    terminal.result(describe(supernet))
    return supernet


def _made_elsewhere(work: Path, keys: set[str]) -> Path | None:
    """A finished super-network that another host's build of the same libraries trained."""
    for path in sorted((work / "supernets").glob(f"*/{DONE}")):
        if read_json(path).get("portable_key") in keys:
            return path.parent
    return None


def load_supernet(folder: Path) -> Supernet:
    """A finished super-network."""
    facts = read_json(folder / DONE)
    return Supernet(folder, facts["key"], SearchSpace.from_json(facts["space"]), ModelShape(**facts["shape"]), facts)


def describe(supernet: Supernet) -> str:
    """One line on what is elastic."""
    space = supernet.space
    choices = f"depth {_list(space.depths)}, heads {_list(space.heads)}, MLP {_list(space.mlp_widths)}"
    if space.image_sizes:
        choices += f", images of {_list(space.image_sizes)} px"
    return f"{space.count():.3g} sub-networks: {choices}"


def _train(
    network: SuperNetwork,
    inputs: PipelineInputs,
    teacher: Teacher | None,
    folder: Path,
    key: str,
    portable_key: str,
    seed: int,
    bf16: bool,
    terminal: Terminal,
) -> None:
    from instatune_deploy.finetune.checkpoints import last_checkpoint
    from instatune_deploy.finetune.ordering import ordering_step
    from instatune_deploy.finetune.trainer import finetune

    settings = inputs.settings.finetune
    checkpoints = folder / "checkpoints"
    with clear_os_errors(f"cannot write {folder}"):
        checkpoints.mkdir(parents=True, exist_ok=True)
        rows = inputs.task.training_rows(seed)
        space = _space(network, inputs, rows, folder, seed)
        if settings.orders and last_checkpoint(checkpoints) is None:
            per_epoch, steps = steps_of(inputs)
            first = ordering_step(settings.full_epochs, per_epoch, steps, settings.max_steps is not None)
            used = min(settings.importance_rows, len(rows))
            of = f"importance on {used} rows" if used else "the size of their weights"
            terminal.result(f"heads and neurons will be ordered by {of} after {first} of {steps} steps")
        taught = "" if teacher is None else ", with a teacher"
        terminal.result(f"fine-tuning on {len(rows)} rows, {'bf16' if bf16 else 'float32'}, sampler {settings.sampler}{taught}")
        with progress(inputs, terminal) as report:
            log = finetune(
                network,
                space,
                settings,
                rows,
                inputs.task.collator(),
                checkpoints,
                seed,
                bf16,
                report,
                teacher=None if teacher is None else teacher.folder,
                log_folder=folder / "tensorboard",
            )
        save_model(network.model, inputs, folder / "model")
        facts: dict[str, Any] = {
            "key": key,
            "portable_key": portable_key,
            "labels": inputs.task.label_names,
            "space": space.to_json(),
            "shape": network.shape.to_json(),
        }
        facts["weights"] = file_sha256(folder / "model" / "model.safetensors")
        facts["teacher"] = None if teacher is None else file_sha256(teacher.folder / "model.safetensors")
        write_json(folder / DONE, {**facts, "seed": seed, "settings": settings.model_dump(), "log": log})
        shutil.rmtree(checkpoints)


def _space(network: SuperNetwork, inputs: PipelineInputs, rows: Sequence[dict[str, Any]], folder: Path, seed: int) -> SearchSpace:
    """The space; an order of the layers by importance is found once and kept for a training that is continued."""
    settings = inputs.settings.space
    if settings.keep_layers != "importance":
        return SearchSpace.of(network.shape, settings)
    path = folder / "layer_order.json"
    if not path.is_file():
        from instatune_deploy.finetune.ordering import batches_for_importance
        from instatune_deploy.supernet.importance import layer_order

        training = inputs.settings.finetune
        collate = inputs.task.collator()
        batches = batches_for_importance(rows, collate, training.importance_rows, training.batch_size, seed)
        write_json(path, layer_order(network, batches))
    return SearchSpace.of(network.shape, settings, read_json(path))


def narrow_weights(host: Host) -> bool:
    """Whether int8 weights get 7 bits: x86 without VNNI adds up products of 8 bits in 16, which overflows."""
    return host.machine == "x86_64" and VNNI_FLAGS.isdisjoint(host.cpu_flags)


def _list(values: tuple[int, ...]) -> str:
    return "/".join(map(str, values))
