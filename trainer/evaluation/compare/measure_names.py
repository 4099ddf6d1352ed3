"""Name the measures of predictions in tables, and say which of their values are best."""

from trainer.evaluation.scoring.neighbours import MEASURES as CLASSES
from trainer.evaluation.scoring.recall import MEASURES as RECALLS
from trainer.evaluation.scoring.similarity import SIMILARITY

#: The measures' names in tables.
SHORT = {
    "rouge1": "R-1",
    "rouge2": "R-2",
    "rougeL": "R-L",
    "rougeLsum": "R-Lsum",
    "bertscore": "BERTScore",
    "bleu": "BLEU",
    "chrf": "chrF",
    SIMILARITY: "USE",
    **{
        measure: measure.replace("image_to_text_", "i→n ").replace("text_to_image_", "n→i ").replace("recall", "R@")
        for measure in RECALLS
    },
    **{measure: measure.replace("_", " ").replace("neighbour", "R@") for measure in CLASSES},
}
#: Measures whose lowest, or highest, value is best; others have no best.
LOWER_IS_BETTER = frozenset({"wrong_language", "repetition1", "repetition2"})
HIGHER_IS_BETTER = frozenset({*SHORT, "meaning_similarity", "lase", "language_confidence", "length_penalty"})
#: Measures that count no words of ROUGE's, and are the same in each of its profiles.
WITHOUT_WORDS = frozenset(
    {
        *("language_confidence", "wrong_language", "wrong_language_reference", "meaning_similarity", "bertscore"),
        *("bleu", "chrf", *RECALLS, *CLASSES),
    }
)
