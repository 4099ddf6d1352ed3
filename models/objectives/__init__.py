"""Objectives: what each paper minimises. A new paper is one file here, its configuration beside it, which imports no
torch, and one line in `OBJECTIVES`.

They are exercised by tests/numerics (test_objective.py, test_across.py, test_cat.py, test_ncls.py, test_rc3.py,
test_rc3_tasks.py, test_classification.py, test_amid.py, test_amid_summary.py);
recipes live in trainer/recipe/recipes/.

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
| CAT (ibid., Table 2, row 4; Liang et al., 2022b) | cat.py | 2, 4, and two tasks of the other paper | cat.yaml |
| ACROSS (Li et al., 2023), first stage | d2tv.py, branches: mms | 1 | across_mls.yaml |
| ACROSS (ibid.), second stage | across.py | 2-9 | across.yaml |
| NCLS+MLS (Zhu et al., 2019; ACROSS' Table 1) | ncls.py, task: mls | | ncls_mls.yaml |
| NCLS+MT (ibid.) | ncls.py, task: mt | | ncls_mt.yaml |
| RC³ (Zhou et al., 2023), pre-training | rc3.py | 1-13 | rc3_roi.yaml |
| RC³-Patch (ibid., Table 1) | rc3.py, vision.inputs: patches | 1-13 | rc3_patch.yaml |
| RC³-Combined (ibid., Table 1) | rc3.py, vision.inputs: both | 1-13 | rc3_combined.yaml |
| RC³ with the paper's numbers (ibid., section 3.2) | rc3.py | 1-13 | rc3_mbart50.yaml |
| RC³ (ibid.), retrieval | retrieval.py | 3 | rc3_retrieval.yaml |
| RC³ (ibid.), multimodal translation | translation.py | | rc3_translation.yaml |
| RC³ (ibid.), XVNLI, xGQA, MaRVL | classification.py | | rc3_classification.yaml |
| AMID (Chen et al., 2023), classification | amid.py, amid_distillation.py, adversary.py | 7-9, 11-17 | amid.yaml |
| AMID for summaries, which is ours | amid_summary.py, the same two | 7-9, 11-17 | amid_summary.yaml |
"""

import importlib
import os

from models.objectives.across_config import AcrossConfig
from models.objectives.amid_config import AmidConfig
from models.objectives.amid_summary_config import AmidSummaryConfig
from models.objectives.cat_config import CatConfig
from models.objectives.classification_config import ClassificationConfig
from models.objectives.config import ObjectiveConfig
from models.objectives.d2tv_config import D2TVConfig
from models.objectives.ncls_config import NclsConfig
from models.objectives.rc3_config import RC3Config
from models.objectives.retrieval_config import RetrievalConfig
from models.objectives.translation_config import TranslationConfig
from shards.errors import InputError, did_you_mean

OBJECTIVES: dict[str, type[ObjectiveConfig]] = {
    "d2tv": D2TVConfig,
    "across": AcrossConfig,
    "cat": CatConfig,
    "ncls": NclsConfig,
    "rc3": RC3Config,
    "retrieval": RetrievalConfig,
    "translation": TranslationConfig,
    "classification": ClassificationConfig,
    "amid": AmidConfig,
    "amid_summary": AmidSummaryConfig,
}


#: Environment variable: modules on PYTHONPATH, separated by commas, that add objectives of their own to `OBJECTIVES`.
MODULES = "D2TV_OBJECTIVES"


def objective_config(name: str) -> type[ObjectiveConfig]:
    """Return the configuration registered under `name`, which builds the objective.

    Raises InputError for an unknown name, and for a module of `MODULES` that is not found.
    """
    if name not in OBJECTIVES:
        _import_others()
    if name not in OBJECTIVES:
        raise InputError(
            f"objective.name: no objective {name!r}{did_you_mean(name, OBJECTIVES)}; known: {', '.join(OBJECTIVES)}, "
            f"and those of the modules that {MODULES} names"
        )
    return OBJECTIVES[name]


def _import_others() -> None:
    for module in filter(None, os.environ.get(MODULES, "").split(",")):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise InputError(
                f"{MODULES}: no module {module!r} ({error}): put its directory on PYTHONPATH, on every host"
            ) from error
