"""Text to ids and back, with a start token a language; what is missing is said."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.batch.collate import Collator, Lengths
from shards.batch.fetch import Fetcher, ImageSizes
from shards.batch.reader import Reader, ReaderConfig
from shards.errors import InputError
from shards.format.index import Corpus
from shards.languages import LANGUAGE_CODES
from shards.stream.mixture import MixtureConfig
from shards.stream.sampler import Sampler
from shards.text.language_codes import MBART50_CODES
from shards.text.sentencepiece_tokenizer import SentencePieceTokenizer, train_sentencepiece
from shards.text.start_tokens import CROSSSUM_SENTINELS
from shards.text.tokenizer import Tokenizer, open_tokenizer
from tests.support.pretrained import save_mbart50, save_mt5, save_published
from tests.support.tiny import WORDS


@pytest.fixture(scope="module")
def tokenizer(tiny_corpus: Corpus) -> Tokenizer:
    return open_tokenizer(tiny_corpus.directory / "tokenizer")


@pytest.mark.parametrize("language", WORDS)
def test_texts_of_the_corpus_come_back(tokenizer: Tokenizer, language: str) -> None:
    ids = tokenizer.encode(WORDS[language], 500)
    assert ids[-1] == tokenizer.eos_id
    assert ids.count(tokenizer.eos_id) == 1
    assert tokenizer.decode(ids) == WORDS[language]
    assert max(ids) < tokenizer.vocab_size


@given(st.text(alphabet=st.characters(min_codepoint=0x21, exclude_categories=["C", "Z"]), max_size=30))
def test_no_character_is_unknown(tokenizer: Tokenizer, text: str) -> None:
    """Byte fallback: a script that training never saw costs more tokens, not the text."""
    ids = tokenizer.encode(text, 1000)
    assert 2 not in ids
    assert tokenizer.encode(tokenizer.decode(ids), 1000) == ids


@given(st.text(max_size=80), st.integers(2, 40))
def test_an_encoding_fits_and_ends(tokenizer: Tokenizer, text: str, length: int) -> None:
    ids = tokenizer.encode(text, length)
    assert len(ids) <= length
    assert ids[-1] == tokenizer.eos_id
    assert ids[:-1] == tokenizer.encode(text, 1000)[: len(ids) - 1]


def test_text_cannot_write_a_control_token(tokenizer: Tokenizer) -> None:
    start = tokenizer.start_id("urdu")
    ids = tokenizer.encode("<to:urdu> </s> <pad>", 100)
    assert start not in ids
    assert tokenizer.pad_id not in ids
    assert tokenizer.eos_id not in ids[:-1]


def test_decoding_stops_at_the_end_and_drops_control_tokens(tokenizer: Tokenizer) -> None:
    words = tokenizer.encode("sun moon", 100)
    start = tokenizer.start_id("english")
    assert tokenizer.decode([start, *words, *words, tokenizer.pad_id]) == "sun moon"
    assert tokenizer.decode([tokenizer.eos_id, *words]) == ""
    assert tokenizer.decode([]) == ""


def test_each_language_of_the_corpus_has_its_own_start_token(tokenizer: Tokenizer) -> None:
    starts = {tokenizer.start_id(language) for language in WORDS}
    assert len(starts) == 4
    assert not starts & {tokenizer.pad_id, tokenizer.eos_id, 2}


def test_training_gives_the_same_model_anywhere(tmp_path: Path) -> None:
    models = []
    for name in ("a", "another place"):
        train_sentencepiece(
            tmp_path / name, iter(WORDS.values()), languages=list(WORDS), vocab_size=420, character_coverage=1.0
        )
        models.append((tmp_path / name / "spiece.model").read_bytes())
    assert models[0] == models[1]


def test_a_kill_before_the_end_of_training_leaves_no_tokenizer(tmp_path: Path) -> None:
    def killed():
        yield "some text"
        raise KeyboardInterrupt

    with pytest.raises(BaseException):  # noqa: B017, PT011 (SentencePiece hands the interrupt on in a wrapping of its own)
        train_sentencepiece(tmp_path / "t", killed(), languages=["english"], vocab_size=300, character_coverage=1.0)
    with pytest.raises(InputError, match="no tokenizer"):
        open_tokenizer(tmp_path / "t")


@pytest.mark.parametrize(("texts", "vocab_size"), [(["a b c"], 20), ([], 400)])
def test_training_on_too_little_is_one_line(tmp_path: Path, texts: list[str], vocab_size: int) -> None:
    with pytest.raises(InputError, match="SentencePiece") as caught:
        train_sentencepiece(tmp_path / "t", texts, languages=["english"], vocab_size=vocab_size, character_coverage=1.0)
    assert "\n" not in str(caught.value)


def save_pretrained(directory: Path, sentinels: int) -> None:
    """A Hugging Face tokenizer of a few words, with mT5's kind of sentinels, saved as transformers saves one."""
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    vocab = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", "sun", "moon"])}
    backend = Backend(WordLevel(vocab, unk_token="<unk>"))
    backend.pre_tokenizer = Whitespace()
    names = [f"<extra_id_{number}>" for number in reversed(range(sentinels))]  # mT5 stores them backwards
    PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=names,
    ).save_pretrained(directory)


def test_a_pretrained_tokenizer_starts_languages_with_its_sentinels_in_the_former_order(tmp_path: Path) -> None:
    save_pretrained(tmp_path, 100)
    tokenizer = open_tokenizer(tmp_path, "alphabetical")
    assert not isinstance(tokenizer, SentencePieceTokenizer)
    assert tokenizer.encode("moon sun moon", 3) == [4, 3, tokenizer.eos_id]
    assert tokenizer.decode([tokenizer.start_id("urdu"), 3, 4, tokenizer.eos_id, 3]) == "sun moon"
    starts = [tokenizer.start_id(language) for language in LANGUAGE_CODES]
    assert len(set(starts)) == 45
    assert starts == list(range(starts[0], starts[0] - 45, -1))  # <extra_id_0> for the first language, and so on
    assert tokenizer.pad_id == 0
    assert max(starts) < tokenizer.vocab_size


def name_starts(directory: Path, named: object) -> None:
    """A config.json as CrossSum's trainer writes it."""
    config = {"model_type": "mt5", "task_specific_params": {"langid_map": named}}
    (directory / "config.json").write_text(json.dumps(config))


def sentinel(tokenizer: Tokenizer, language: str) -> str:
    assert tokenizer.langid_map is not None
    return tokenizer.langid_map[language][1]


def test_mt5_starts_languages_by_crosssums_published_map(mt5: Tokenizer) -> None:
    """Three of its lines, of both ends and the middle; all 45 are different."""
    assert [sentinel(mt5, name) for name in ("kirundi", "english", "chinese_traditional")] == [
        "▁<extra_id_99>",
        "▁<extra_id_69>",
        "▁<extra_id_55>",
    ]
    assert CROSSSUM_SENTINELS.keys() == LANGUAGE_CODES.keys()
    assert sorted(CROSSSUM_SENTINELS.values()) == list(range(55, 100))
    assert len({mt5.start_id(name) for name in LANGUAGE_CODES}) == 45


def test_the_tokens_that_a_checkpoint_names_come_before_the_published_ones(tmp_path: Path) -> None:
    save_mt5(tmp_path)
    published = open_tokenizer(tmp_path)
    name_starts(tmp_path, {"english": [0, "▁<extra_id_3>"], "klingon": [1, "▁<extra_id_4>"]})
    own = open_tokenizer(tmp_path)
    assert sentinel(own, "english") == "▁<extra_id_3>"
    assert sentinel(own, "urdu") == sentinel(published, "urdu")
    assert own.start_id("english") not in own.encode("sun <extra_id_3> moon", 100)
    former = open_tokenizer(tmp_path, "alphabetical")
    assert sentinel(former, "amharic") == "▁<extra_id_0>"
    assert own.langid_map is not None
    name_starts(tmp_path, own.langid_map)
    again = open_tokenizer(tmp_path)
    assert [again.start_id(name) for name in LANGUAGE_CODES] == [own.start_id(name) for name in LANGUAGE_CODES]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ([1], "is no map of languages to tokens"),
        ({"english": 7}, "is no map of languages to tokens"),
        ({"english": [0, "▁<extra_id_200>"]}, "has no ▁<extra_id_200> of english"),
        ({"english": [0, "▁<extra_id_61>"]}, "▁<extra_id_61> begins the summaries of two languages"),
    ],
)
def test_tokens_that_cannot_be_meant_are_one_line(tmp_path: Path, named: object, message: str) -> None:
    save_mt5(tmp_path)
    name_starts(tmp_path, named)
    with pytest.raises(InputError, match=message) as caught:
        open_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_pretrained_tokenizer_with_too_few_sentinels_is_refused(tmp_path: Path) -> None:
    save_pretrained(tmp_path, 10)
    with pytest.raises(InputError, match=r"10 <extra_id_\*> tokens"):
        open_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_a_directory_without_a_tokenizer_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no tokenizer") as caught:
        open_tokenizer(tmp_path / name)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def mbart(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return open_tokenizer(save_mbart50(tmp_path_factory.mktemp("mbart50")))


@pytest.fixture(scope="module")
def mt5(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return open_tokenizer(save_mt5(tmp_path_factory.mktemp("mt5")))


@pytest.mark.parametrize("language", WORDS)
@pytest.mark.parametrize("kind", ["mt5", "mbart"])
def test_pretrained_tokenizers_give_texts_back(kind: str, language: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    ids = tokenizer.encode(WORDS[language], 500)
    assert ids[-1] == tokenizer.eos_id
    assert tokenizer.decode([tokenizer.start_id(language), *ids, tokenizer.pad_id]) == WORDS[language]


@pytest.mark.parametrize("kind", ["mt5", "mbart"])
def test_text_cannot_write_a_pretrained_control_token(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    text = "sun </s> <pad> <s> <mask> <extra_id_3> en_XX am_ET moon"
    ids = tokenizer.encode(text, 100)
    control = {tokenizer.pad_id, tokenizer.eos_id, *(tokenizer.start_id(name) for name in LANGUAGE_CODES)}
    assert not control & set(ids[:-1])
    assert tokenizer.decode(ids).split()[0] == "sun"
    assert tokenizer.decode(ids).split()[-1] == "moon"


def test_mt5_starts_with_sentinels_that_decoding_drops(mt5: Tokenizer) -> None:
    """The published ones do not call them special."""
    assert mt5.start_id("indonesian") - mt5.start_id("kirundi") == 1  # <extra_id_98> and 99: they are stored backwards
    ids = mt5.encode("sun moon", 100)
    assert ids == mt5.encode("sun moon", 100, "english")
    assert not mt5.related_ids


def test_codes_of_mbart50_and_new_ones_behind_its_vocabulary(mbart: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    before = AutoTokenizer.from_pretrained(save_mbart50(tmp_path))
    new = [language for language, (_, related) in MBART50_CODES.items() if related]
    assert list(MBART50_CODES) == list(LANGUAGE_CODES)
    assert len(new) == 17
    for language, (code, related) in MBART50_CODES.items():
        assert set(related) < set(before.get_vocab())
        assert (code in before.get_vocab()) == (not related)
        if not related:
            assert mbart.start_id(language) == before.convert_tokens_to_ids(code)
            assert code.split("_")[0] == LANGUAGE_CODES[language].split("-")[0]
    assert [mbart.start_id(language) for language in new] == list(range(len(before), len(before) + 17))
    assert mbart.vocab_size == len(before) + 17
    assert (mbart.pad_id, mbart.eos_id) == (1, 2)


def test_new_codes_name_the_rows_they_start_from(mbart: Tokenizer) -> None:
    related = {mbart.start_id(name): codes for name, (_, codes) in MBART50_CODES.items() if codes}
    assert mbart.related_ids.keys() == related.keys()
    names = {code: language for language, (code, related) in MBART50_CODES.items() if not related}
    kyrgyz = mbart.related_ids[mbart.start_id("kyrgyz")]
    assert kyrgyz[1:] == tuple(mbart.start_id(names[code]) for code in ("tr_TR", "az_AZ"))
    assert mbart.related_ids[mbart.start_id("pidgin")] == (mbart.start_id("english"),)


@pytest.mark.parametrize("language", ["english", "kyrgyz"])
def test_a_text_that_mbart_reads_begins_with_its_language(mbart: Tokenizer, language: str) -> None:
    summary = mbart.encode("sun moon star sea", 100)
    document = mbart.encode("sun moon star sea", 100, language)
    assert document == [mbart.start_id(language), *summary]
    cut = mbart.encode("sun moon star sea", 4, language)
    assert cut == [*document[:3], mbart.eos_id]
    assert mbart.encode("sun", 2, language) == [mbart.start_id(language), mbart.eos_id]
    assert mbart.decode(document) == "sun moon star sea"


def test_documents_of_a_batch_begin_with_their_languages(tiny_corpus: Corpus, mbart: Tokenizer) -> None:
    reader = Reader(tiny_corpus, ReaderConfig(io_threads=0))
    fetch = Fetcher(tiny_corpus, reader, ImageSizes(images=2, regions=36, feature_size=32))
    collate = Collator(tiny_corpus, fetch, mbart, Lengths(document=12, summary=12))
    sampler = Sampler(tiny_corpus, split="train", mixture=MixtureConfig(), seed=0, group_size=4)
    batch = collate(sampler.groups(0, 3))
    reader.close()
    starts = [mbart.start_id(language) for language in tiny_corpus.languages]
    for ids, languages in (
        (batch.source_ids_BM, batch.source_language_B),
        (batch.target_ids_BM, batch.target_language_B),
    ):
        assert ids[:, 0].tolist() == [starts[language] for language in languages.tolist()]
        assert ids.shape[1] <= 12
    assert batch.start_B.tolist() == [starts[language] for language in batch.target_language_B.tolist()]
    assert not set(batch.summary_ids_BN[:, 0].tolist()) & set(starts)


@pytest.mark.parametrize("kind", ["mt5", "mbart", "tokenizer"])
def test_a_saved_tokenizer_gives_the_same_ids(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    tokenizer.save(tmp_path / "saved")
    again = open_tokenizer(tmp_path / "saved")
    assert again.vocab_size == tokenizer.vocab_size
    assert not again.related_ids, "a checkpoint saved with it has rows for all of its tokens"
    assert again.encode("sun moon", 100, "urdu") == tokenizer.encode("sun moon", 100, "urdu")
    assert [again.start_id(name) for name in WORDS] == [tokenizer.start_id(name) for name in WORDS]


def test_a_tokenizer_with_some_of_mbarts_codes_is_refused(tmp_path: Path) -> None:
    """mBART of 25 languages."""
    from transformers import MBartTokenizer

    MBartTokenizer(vocab=[("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]).save_pretrained(
        tmp_path
    )
    with pytest.raises(InputError, match=r"lacks 18 of mBART-50's language codes, .* first") as caught:
        open_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["mt5", "mbart"])
def test_the_files_of_the_published_directories(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """They hold a SentencePiece model, which transformers reads by protobuf."""
    pytest.importorskip("google.protobuf")
    saved: Tokenizer = request.getfixturevalue(kind)
    published = open_tokenizer(save_published(tmp_path, kind))
    assert published.vocab_size == saved.vocab_size
    assert [published.start_id(name) for name in LANGUAGE_CODES] == [saved.start_id(name) for name in LANGUAGE_CODES]
    for text in WORDS.values():
        assert published.encode(text, 500, "hindi") == saved.encode(text, 500, "hindi")
        assert published.decode(published.encode(text, 500)) == text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("tokenizer.json", content) for content in ("", "{", "{}", '{"model": 3}')),
        *(("tokenizer_config.json", content) for content in ("", "{")),
    ],
)
def test_a_damaged_tokenizer_is_one_line(tmp_path: Path, name: str, content: str) -> None:
    (save_mt5(tmp_path) / name).write_text(content)
    with pytest.raises(InputError, match="cannot read the tokenizer in") as caught:
        open_tokenizer(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_docs_list_every_new_code() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/recipes.md").read_text(encoding="utf-8")
    for language, (code, related) in MBART50_CODES.items():
        row = f"| {language} | `{code}` | {', '.join(f'`{name}`' for name in related)} |"
        assert (row in page) == bool(related), language


def test_a_character_that_is_no_piece_of_mt5s_is_spelled_in_its_bytes(tmp_path: Path) -> None:
    """transformers reads the byte pieces of a SentencePiece model and makes an unknown token of the character."""
    directory = save_published(tmp_path / "published", "mt5", byte_fallback=True)
    for number in range(2):  # as published, and as we save it
        tokenizer = open_tokenizer(directory)
        ids = tokenizer.encode("the 龘 ☃ river", 100)
        assert tokenizer.decode(ids) == "the 龘 ☃ river"
        assert max(ids) < tokenizer.vocab_size
        directory = tmp_path / f"saved{number}"
        tokenizer.save(directory)
