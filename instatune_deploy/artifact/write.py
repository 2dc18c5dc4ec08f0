"""Write an artifact: first a draft in a scratch folder, proved there, and put in its place only when it is finished.

    with draft(target, deployment) as artifact:
        artifact.add_graph(graph)
        artifact.add_preprocessing(config, task.save)
        artifact.add_predict(task.described(artifact.folder, inputs, size), labels)
        artifact.add_samples(samples, task.samples("test", rows, artifact.folder))
        parity = artifact.prove_parity()
        measurement = artifact.remeasure(device.name, device.timing)
        artifact.finish(Manifest(...))

A block that is left without `finish`, by an error most of all, leaves nothing behind, and an older artifact as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instatune_deploy.artifact.card import write_card
from instatune_deploy.artifact.graph_files import write_graph
from instatune_deploy.artifact.manifest import FILE_NAME, FileEntry, Manifest, write_manifest
from instatune_deploy.artifact.parity import Parity, check_parity, tolerance
from instatune_deploy.artifact.preprocessing import write_preprocessing
from instatune_deploy.artifact.remeasure import remeasure
from instatune_deploy.artifact.samples import Samples
from instatune_deploy.artifact.tools import write_predict, write_verify
from instatune_deploy.config import TimingSettings
from instatune_deploy.devices.deployment import Deployment, Measurement
from instatune_deploy.digests import file_sha256
from instatune_deploy.errors import BadInput, VerificationFailed, clear_os_errors
from instatune_deploy.files import whole_folder, write_json

if TYPE_CHECKING:
    import onnx

SAMPLE_ROWS = "samples.json"


class Draft:
    """An artifact in the making. ``folder`` holds its files so far."""

    def __init__(self, folder: Path, deployment: Deployment) -> None:
        self.folder = folder
        self.finished = False
        self._deployment = deployment
        self._samples: Samples | None = None

    def add_graph(self, model: onnx.ModelProto) -> None:
        """Write the graph as the deployment's runtime reads it: standard operators for OpenVINO, fused for ONNX Runtime."""
        write_graph(model, self._deployment.runtime, self._deployment.precision, self.folder)

    def add_preprocessing(self, config: dict[str, Any], save: Callable[[Path], None]) -> None:
        """Write config.json (``config`` is what `PretrainedConfig.to_dict` gives) and, by ``save``, the preprocessor's files."""
        save(self.folder)
        write_json(self.folder / "config.json", config)

    def add_predict(self, described: Mapping[str, Any] | None, labels: Sequence[str]) -> None:
        """Write preprocessing.json and predict.py of what `Task.described` says; neither where it says nothing."""
        if described is not None:
            write_preprocessing(self.folder, described, self._deployment.batch_size, labels)
            write_predict(self.folder, self._deployment.run, described)

    def add_samples(self, samples: Samples, rows: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Write samples.npz, and samples.json with what they were made of, as a person sees it (`Task.samples`)."""
        samples.write(self.folder)
        self._samples = samples
        if rows is not None:
            told = [{**row, "logits": logits} for row, logits in zip(rows, samples.logits.tolist(), strict=True)]
            write_json(self.folder / SAMPLE_ROWS, told)

    def prove_parity(self) -> Parity:
        """Compare the written graph with the samples' logits; ``VerificationFailed`` when it is another network."""
        assert self._samples is not None, "add_samples comes before prove_parity"
        allowed = tolerance(self._deployment.precision, self._samples.logits)
        parity = check_parity(self.folder, self._deployment, self._samples, allowed)
        if not parity.ok:
            raise VerificationFailed(f"parity with PyTorch: {self._deployment}: {parity}")
        return parity

    def remeasure(self, device: str, timing: TimingSettings) -> Measurement:
        """Measure the written files in a fresh process; see `remeasure.remeasure`. Whether to believe it is the caller's."""
        return remeasure(self.folder, self._deployment, device, timing)

    def finish(self, manifest: Manifest) -> None:
        """Write verify.py and the model card; add every file's checksum to ``manifest`` and write it: the draft becomes an
        artifact when its block ends.

        ``ValueError`` when the manifest speaks of another deployment than the draft.
        """
        if manifest.deployment != self._deployment:
            raise ValueError(f"the manifest is of {manifest.deployment}, the draft of {self._deployment}")
        write_verify(self.folder, manifest.deployment.run)
        write_card(self.folder, manifest)
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        files = {
            path.relative_to(self.folder).as_posix(): FileEntry(sha256=file_sha256(path), bytes=path.stat().st_size)
            for path in paths
        }
        write_manifest(self.folder, Manifest.model_validate({**manifest.model_dump(), "files": files}))
        self.finished = True


def check_target(target: Path) -> None:
    """``BadInput`` when ``target`` holds something that is no artifact and would be lost."""
    with clear_os_errors(f"cannot write {target}"):
        if target.exists() and not (target / FILE_NAME).is_file() and not (target.is_dir() and not any(target.iterdir())):
            raise BadInput(f"cannot write {target}: it exists and is no artifact; move it away or choose another output folder")


@contextmanager
def draft(target: Path, deployment: Deployment) -> Iterator[Draft]:
    """A draft that becomes the folder ``target`` when the block ends and it is finished.

    ``BadInput`` when the disk is full, the folder cannot be written, or ``target`` holds something that is no artifact and
    would be lost. RuntimeError when the block ends well without `Draft.finish`.
    """
    check_target(target)
    with whole_folder(target) as folder:
        artifact = Draft(folder, deployment)
        yield artifact
        if not artifact.finished:
            raise RuntimeError(f"the draft of {target} was never finished")
