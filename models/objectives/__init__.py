"""Objectives: what each paper minimises. A new paper is one file here and one line in `OBJECTIVES`.

All of them are exercised by tests/numerics/test_objective.py; recipes live in launcher/recipes/.

| paper | file | equations | recipe |
|---|---|---|---|
| D2TV (Liang et al., 2023) | d2tv.py | 1-10 | d2tv.yaml |
| MMS (ibid., Table 1) | d2tv.py, branches: mms | 1, 2 | mms.yaml |
| MXLS (ibid., Table 1) | d2tv.py, branches: mxls | 1, 4 | mxls.yaml |
| MMS+MXLS (ibid., Table 1) | d2tv.py, branches: both | 1, 2, 4 | mms_mxls.yaml |
| Vanilla-KD (ibid., Table 1) | d2tv.py, distillation: vanilla | 1-5, 8 | vanilla_kd.yaml |
| w/o visual features (ibid., Table 2) | d2tv.py, vision.enabled: false | 1, 2, 4 | without_vision.yaml |
| w/ DKD (ibid., Table 2) | d2tv.py, distillation: dual | 1-8 | dkd.yaml |
| w/ TCO (ibid., Table 2) | d2tv.py, contrast: true | 1, 2, 4, 9 | tco.yaml |
"""

from models.network import Network
from models.objectives.base import Objective, ObjectiveConfig, Outputs, Term
from models.objectives.d2tv import D2TV, D2TVConfig
from shards.errors import InputError, did_you_mean

__all__ = ["OBJECTIVES", "Objective", "ObjectiveConfig", "Outputs", "Term", "build_objective"]

OBJECTIVES: dict[str, tuple[type[ObjectiveConfig], type[Objective]]] = {
    "d2tv": (D2TVConfig, D2TV),
}


def objective_types(name: str) -> tuple[type[ObjectiveConfig], type[Objective]]:
    """The configuration and the module registered under `name`; InputError for an unknown one."""
    if name not in OBJECTIVES:
        raise InputError(
            f"objective.name: no objective {name!r}{did_you_mean(name, OBJECTIVES)}; known: {', '.join(OBJECTIVES)}"
        )
    return OBJECTIVES[name]


def build_objective(name: str, config: ObjectiveConfig, network: Network) -> Objective:
    """The objective `name` around `network`. Raises InputError for a combination that makes no sense."""
    config_type, objective_type = objective_types(name)
    assert isinstance(config, config_type), f"{name} takes a {config_type.__name__}"
    return objective_type(config, network)
