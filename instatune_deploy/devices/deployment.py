"""What is measured and what came out: Deployment and Measurement, JSON both ways."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from instatune_deploy.devices.latency import Timing
from instatune_deploy.devices.runs import Run
from instatune_deploy.digests import digest
from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.architecture import Architecture

SCHEMA_VERSION = 2
"""2 added to 1 what has a default: the provider, and the reference model's figures."""
STRICT_FIELDS = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Deployment:
    """An Architecture and how it is run. This is what is measured, searched and handed over.

    sequence_length: tokens of one input
    """

    architecture: Architecture
    runtime: str
    precision: str
    threads: int
    batch_size: int
    sequence_length: int
    provider: str = "cpu"

    @property
    def run(self) -> Run:
        """How it is run."""
        return Run(self.runtime, self.precision, self.threads, self.provider)

    def to_json(self) -> dict[str, Any]:
        """A JSON value."""
        return {**asdict(self), "architecture": self.architecture.to_json()}

    def __str__(self) -> str:
        return f"{self.architecture}; {self.run}"


@dataclass(frozen=True)
class Measurement:
    """One Deployment on one device. Never edited, only added to the store.

    device:        name of the hardware profile
    graph_hash:    of the graph that ran: SHA-256 or whatever its maker identifies it by
    size_bytes:    of the graph's file
    host:          fingerprint of the host (`Host.fingerprint`)
    versions:      of the runtime, by its name
    protocol:      the timing settings
    timing:        None when the graph could not be run at all
    circumstances: started (ISO 8601, UTC), load before and after, what the runtime said, attempts; peak_memory_bytes and
                   energy_mj where the system tells them
    why:           why the figures are not to be believed; None when they are
    """

    __pydantic_config__ = STRICT_FIELDS

    deployment: Deployment
    device: str
    graph_hash: str
    size_bytes: int
    host: str
    versions: dict[str, str]
    protocol: dict[str, Any]
    timing: Timing | None
    circumstances: dict[str, Any]
    why: str | None = None

    @property
    def believed(self) -> bool:
        """Whether predictors, search and budgets may use this."""
        return self.timing is not None and self.timing.stable and self.why is None

    @property
    def memory_bytes(self) -> int | None:
        """Peak resident memory of the process that measured, from before the graph was loaded; None where nothing tells it."""
        return self.circumstances.get("peak_memory_bytes")

    @property
    def energy_mj(self) -> float | None:
        """Millijoules of one inference (`energy`); None where nothing tells it."""
        return self.circumstances.get("energy_mj")

    @cached_property
    def key(self) -> str:
        """The same for two measurements of the same thing under the same conditions."""
        return measurement_key(self.deployment, self.graph_hash, self.host, self.versions, self.protocol)

    def to_json(self) -> dict[str, Any]:
        """A JSON value; `from_json` gives the same Measurement back."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self), "deployment": self.deployment.to_json()}

    @classmethod
    def from_json(cls, value: Any, where: str = "measurement") -> Measurement:
        """``BadInput`` names ``where`` and the first thing that is wrong."""
        if not isinstance(value, dict):
            raise BadInput(f"{where}: not a measurement (found a {type(value).__name__})")
        if value.get("schema_version") not in range(1, SCHEMA_VERSION + 1):
            raise BadInput(f"{where}: schema_version must be 1 to {SCHEMA_VERSION} (found {value.get('schema_version')!r})")
        try:
            return _ADAPTER.validate_python({key: item for key, item in value.items() if key != "schema_version"})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise BadInput(f"{where}: {name}: {first['msg']}") from error


def measurement_key(
    deployment: Deployment, graph_hash: str, host: str, versions: dict[str, str], protocol: dict[str, Any]
) -> str:
    """Digest of everything a latency depends on; the profile's name is not part of it."""
    return digest([deployment.to_json(), graph_hash, host, versions, protocol])


_ADAPTER = TypeAdapter(Measurement)
