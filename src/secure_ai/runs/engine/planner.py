"""From networks and measures to the stages of a run: one loop over the rows, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from secure_ai.core.errors import ConfigError
from secure_ai.runs.engine.forecast import REFERENCE_ARCH, seconds
from secure_ai.runs.engine.measure import Joint, Make, Measure, Network, offered
from secure_ai.runs.engine.rows import Given, run_joint, run_make, run_measure
from secure_ai.runs.engine.stage import Outputs, Stage, Work


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Planner:
    """Makes the stages of a run.

    Attributes:
        networks: every network of the run by id, in the order made.
        sizes: images by role (`train`, `test`), for the forecast.
        given: what is known of the networks that the user gave, by id.
    """

    networks: Mapping[str, Network]
    seed: int
    sizes: Mapping[str, int]
    precision: Literal["auto", "float32"]
    given: Mapping[str, Given] = field(default_factory=dict)

    def stages(self, joints: Sequence[Joint[Any]]) -> list[Stage]:
        """A stage for each network that is trained, each of its measures, and each joint measure, in order.

        Raises:
            ConfigError: a measure needs what its network does not offer, two stages share an id, or a row names a
                network that is not in the run.
        """
        stages: list[Stage] = []
        for network in self.networks.values():
            if network.make is not None:
                stages.append(self._make(network, network.make))
            stages += [self._measure(network, measure) for measure in network.measures]
        stages += [self._joint(joint) for joint in joints]
        ids = [stage.id for stage in stages]
        twice = next((name for number, name in enumerate(ids) if name in ids[:number]), None)
        if twice is not None:
            raise ConfigError("two stages of one id", where=twice, expected="ids of measures unique on their network")
        return stages

    def _make(self, network: Network, make: Make[Any]) -> Stage:
        parents = [self._network(name, network.id) for name in make.parents]
        return Stage(
            id=network.id,
            function=partial(run_make, network, parents, self.seed),
            settings=self._settings(make.function, make.settings.model_dump(mode="json")),
            needs=make.parents,
            data=("train",),
            cost_seconds=seconds(make.passes(make.settings, self.sizes.get("train", 0)), network.arch, self.precision),
        )

    def _measure(self, network: Network, measure: Measure[Any]) -> Stage:
        missing = measure.needs - offered(network)
        if missing:
            raise ConfigError(
                "a measure needs what the network does not offer",
                where=f"{network.id}/{measure.id}",
                expected=", ".join(sorted(measure.needs)),
                got=f"no {', '.join(sorted(missing))}",
            )
        concerned = [network, *([self._network(network.against, network.id)] if "twin" in measure.needs else [])]
        data = ("train", "test") if "train" in measure.needs else ("test",)
        cost = measure.passes(measure.settings, self.sizes.get(data[0], 0), network.holds)
        function = partial(run_measure, network, concerned, measure, self.seed, self.given)
        forecast = seconds(cost, network.arch, self.precision)
        return self._of_networks(f"{network.id}/{measure.id}", function, measure, concerned, data, forecast)

    def _joint(self, joint: Joint[Any]) -> Stage:
        concerned = [self._network(name, joint.id) for name in joint.networks]
        cost = joint.passes(joint.settings, self.sizes.get("test", 0), 0.0)
        arch = concerned[0].arch if concerned else REFERENCE_ARCH
        forecast = joint.seconds or seconds(cost, arch, self.precision) * max(len(concerned), 1)
        function = partial(run_joint, concerned, joint, self.seed, self.given)
        return self._of_networks(joint.id, function, joint, concerned, joint.data, forecast)

    def _of_networks(
        self,
        identifier: str,
        function: Callable[[Work], Outputs],
        row: Measure[Any] | Joint[Any],
        concerned: Sequence[Network],
        data: tuple[str, ...],
        cost_seconds: float,
    ) -> Stage:
        given = {network.id: self.given[network.id] for network in concerned if network.id in self.given}
        settings = self._settings(row.function, row.settings.model_dump(mode="json")) | {
            "networks": {network.id: _spec_json(network, given.get(network.id)) for network in concerned},
        }
        return Stage(
            id=identifier,
            function=function,
            settings=settings,
            needs=tuple(network.id for network in concerned if network.make is not None),
            data=data,
            cost_seconds=cost_seconds,
            fingerprint=partial(_fingerprints, tuple(given.values())) if given else None,
        )

    def _settings(self, function: Callable[..., Any], own: Mapping[str, Any]) -> dict[str, Any]:
        return {"function": f"{function.__module__}.{function.__qualname__}", "seed": self.seed, "own": dict(own)}

    def _network(self, name: str, row: str) -> Network:
        if name not in self.networks:
            raise ConfigError("no such network in this run", where=row, expected=", ".join(self.networks), got=name)
        return self.networks[name]


def _spec_json(network: Network, given: Given | None) -> dict[str, Any]:
    known = {"arch": network.arch}
    if network.spec is None or given is None:
        return known
    return known | {"spec": network.spec.as_json(), "file": given.file_sha256, "code": given.code_sha256}


def _fingerprints(given: Sequence[Given]) -> str | None:
    found = [one.fingerprint() for one in given]
    return None if None in found else " ".join(text for text in found if text is not None)
