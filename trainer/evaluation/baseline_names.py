"""Name the baselines of every evaluation. Imports nothing."""

#: Name in files and in `d2tv compare` -> label in tables.
LABELS = {"lead": "LEAD", "oracle": "oracle", "nearest": "nearest story"}


def describe_lead(words: dict[str, int]) -> str:
    """Return LEAD's numbers of words by target language, as `k = 2; 5 into burmese`."""
    if not words:
        return "k unknown"
    counts = list(words.values())
    usual = max(sorted(set(counts)), key=counts.count)
    others: dict[int, list[str]] = {}
    for language, count in sorted(words.items()):
        if count != usual:
            others.setdefault(count, []).append(language)
    exceptions = [f"{count} into {', '.join(languages)}" for count, languages in sorted(others.items())]
    return "; ".join([f"k = {usual}", *exceptions])
