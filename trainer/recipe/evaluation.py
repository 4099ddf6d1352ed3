"""Configure the evaluation of a run in a recipe."""

from typing import Any, Literal

from pydantic import Field, model_validator

from models.config import Decoding
from shards.locations import LocalPath
from trainer.recipe.profiles import DEFAULT, Profile
from trainer.recipe.sections import MOST_SEED, Count, Rows, Section

#: Keys of an evaluation that earlier releases lacked: its facts have them where they are not the default.
_OF_TASKS = ("task", "candidates")


class EvaluationSection(Section):
    """Settings of the evaluation after the last step (`d2tv evaluate` does it again with other directions)."""

    task: Literal["summarization", "translation", "retrieval", "classification", "representation"] = Field(
        "summarization",
        description="summarization: of documents with their images; translation: of names, with their images; "
        "retrieval: of images by names and of names by images, within a language; classification: of documents with "
        "their images, into the objective's labels; representation: of AMID's student and teacher, by "
        "class and neighbours",
    )
    directions: str = Field("all", description="all, mms, mxls, or a list like en-ru,*-ur")
    examples_per_kind: Count | None = Field(None, description="MMS and MXLS each; null: every held-out example")
    batch_size: Rows = 32
    num_beams: int = Field(4, gt=0, le=1024, description="Appendix B: 4; 1: greedy")
    length_penalty: float = Field(0.6, ge=-10, le=10, description="Appendix B: 0.6")
    no_repeat_ngram_size: int = Field(
        0, ge=0, le=1024, description="tokens that come in this order at most once; 0: any (XL-Sum's mT5: 2)"
    )
    temperature: float | None = Field(None, gt=0, description="with num_beams=1: draw words at this temperature")
    top_p: float = Field(1.0, gt=0, le=1, description="of the likeliest words that together have this probability")
    seed: int = Field(0, ge=0, le=MOST_SEED, description="of what is drawn")
    candidates: int = Field(
        100, ge=2, le=65_536, description="retrieval: stories of a language, whose names and images are compared"
    )
    rouge: Profile = Field(
        DEFAULT, description="xlsum: as published scores; normalized: of texts in the form that tokenizers keep"
    )
    labse: LocalPath | None = Field(
        None, description="directory of LaBSE: meaning similarity and LaSE are scored as well"
    )
    bertscore: LocalPath | None = Field(
        None, description="directory of an encoder: BERTScore as well (d2tv[bertscore])"
    )
    sentence_similarity: bool = Field(
        False, description="similarity to the reference by a sentence encoder, in 13 languages (d2tv[similarity])"
    )

    @model_validator(mode="after")
    def _decodes(self) -> "EvaluationSection":
        self.decoding(1)
        return self

    def decoding(self, max_new_tokens: int) -> Decoding:
        """Return the settings that decode summaries of at most `max_new_tokens` tokens."""
        keys = set(Decoding.model_fields) - {"max_new_tokens"}
        return Decoding(max_new_tokens=max_new_tokens, **self.model_dump(include=keys))

    def facts(self) -> dict[str, Any]:
        """Return the settings as an evaluation's report has them."""
        values, fields = self.model_dump(mode="json"), EvaluationSection.model_fields
        return {key: of for key, of in values.items() if key not in _OF_TASKS or of != fields[key].default}
