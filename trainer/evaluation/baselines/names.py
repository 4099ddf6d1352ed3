"""The baselines that every evaluation is scored beside, by name. Imports nothing, so that any command may."""

#: As files and `d2tv compare` call them -> as tables do.
LABELS = {"lead": "LEAD", "oracle": "oracle", "nearest": "nearest story"}


def describe_lead(words: dict[str, int]) -> str:
    """Say how many words LEAD takes by target language: `k = 2; 5 into burmese`."""
    if not words:
        return "k unknown"
    counts = list(words.values())
    usual = max(sorted(set(counts)), key=counts.count)
    others: dict[int, list[str]] = {}
    for language, count in sorted(words.items()):
        if count != usual:
            others.setdefault(count, []).append(language)
    told = [f"{count} into {', '.join(languages)}" for count, languages in sorted(others.items())]
    return "; ".join([f"k = {usual}", *told])
