"""NSGA-II (Deb et al. 2002) from pymoo over integer vectors, seeded, with duplicates removed by what they stand for."""

from __future__ import annotations

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.duplicate import DefaultDuplicateElimination
from pymoo.core.evaluator import Evaluator
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.repair import Repair
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.pntx import TwoPointCrossover
from pymoo.operators.mutation.pm import PolynomialMutation
from pymoo.operators.sampling.rnd import IntegerRandomSampling

from instatune_deploy.search.base import Constraints, Objectives, Space

CROSSOVER = 0.9
MUTATION = 0.02


class Nsga2:
    """Ask for vectors, tell what they are worth.

    Crossover and mutation rates are those of LINAS (arXiv 2205.10358).
    """

    def __init__(
        self,
        space: Space,
        population: int,
        seed: int,
        start: np.ndarray,
        objectives: int = 2,
        constraints: int = 0,
        offspring: int | None = None,
    ) -> None:
        """start: (k, genes), part of the first population; the rest of it is random. offspring: of a generation."""
        genes = len(space.choices)
        self.problem = Problem(
            n_var=genes, n_obj=objectives, n_ieq_constr=constraints, xl=np.zeros(genes), xu=space.choices - 1.0, vtype=int
        )
        repair = _Canonical(space)
        drawn = IntegerRandomSampling().do(self.problem, population, random_state=np.random.default_rng(seed)).get("X")
        first = np.concatenate([start, drawn])[:population] if len(start) else drawn
        self.algorithm = NSGA2(
            pop_size=population,
            n_offsprings=offspring,
            sampling=space.canonical(first.astype(np.int64)),
            crossover=TwoPointCrossover(prob=CROSSOVER),
            mutation=PolynomialMutation(prob=1.0, prob_var=max(MUTATION, 1 / genes), vtype=float, eta=3, repair=repair),
            repair=repair,
            eliminate_duplicates=DefaultDuplicateElimination(),
        )
        self.algorithm.setup(self.problem, termination=NoTermination(), seed=seed, verbose=False)
        self.asked: Population = Population()

    def ask(self) -> np.ndarray:
        """The next generation, (n, genes) int64, canonical; none when nothing new can be made of the population."""
        asked = self.algorithm.ask()
        self.asked = Population() if asked is None else asked
        return np.asarray(self.asked.get("X"), dtype=np.int64).reshape(-1, self.problem.n_var)

    def tell(self, objectives: np.ndarray, constraints: np.ndarray | None = None) -> None:
        """What the vectors of the last `ask` are worth: (n, objectives), and (n, constraints), at most 0 where kept."""
        self.asked.set("F", objectives)
        if constraints is not None:
            self.asked.set("G", constraints)
        evaluator = Evaluator(skip_already_evaluated=True)
        for individual in self.asked:
            individual.evaluated.update({"F", "G", "H"})
        evaluator.eval(self.problem, self.asked)
        self.algorithm.tell(infills=self.asked)

    def front(self) -> np.ndarray:
        """The non-dominated vectors of the population that keep the constraints, (n, genes) int64."""
        return self._feasible(self.algorithm.opt)

    def population(self) -> np.ndarray:
        """All vectors of the population that keep the constraints, (n, genes) int64."""
        return self._feasible(self.algorithm.pop)

    def _feasible(self, chosen: Population) -> np.ndarray:
        feasible = chosen[chosen.get("FEAS").ravel()]
        return np.asarray(feasible.get("X"), dtype=np.int64).reshape(-1, self.problem.n_var)


def optimise(
    space: Space,
    objectives: Objectives,
    *,
    population: int,
    generations: int,
    seed: int,
    start: np.ndarray,
    constraints: Constraints | None = None,
    whole: bool = False,
) -> np.ndarray:
    """The front that NSGA-II finds of cheap ``objectives``, (n, genes) int64; with ``whole`` all of its last population."""
    worth = objectives(start[:1])
    kept = 0 if constraints is None else constraints(start[:1]).shape[1]
    strategy = Nsga2(space, population, seed, start, worth.shape[1], kept)
    for _ in range(generations):
        asked = strategy.ask()
        if len(asked) == 0:  # a small space: all of it is in the population
            break
        strategy.tell(objectives(asked), None if constraints is None else constraints(asked))
    return strategy.population() if whole else strategy.front()


class _Canonical(Repair):
    """Round to integers, and let equal things be equal vectors."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space

    def _do(self, problem: Problem, X: np.ndarray, **_: object) -> np.ndarray:  # noqa: N803 - pymoo's name
        limited = np.clip(np.round(X), 0, self.space.choices - 1).astype(np.int64)
        return self.space.canonical(limited)
