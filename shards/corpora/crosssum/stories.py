"""Make stories of pairs of articles: what is connected, cut so that a story holds one article a language."""

import hashlib
import sqlite3
from array import array

import numpy as np
from numpy.typing import NDArray

from shards.problems import Problems

#: More than any split: "this article is in no XL-Sum file".
_NO_SPLIT = 255


def plan_stories(database: sqlite3.Connection, problems: Problems) -> dict[str, int]:
    """Fill the index's tables `stories` and `members`; how many articles, pairs and stories there are.

    Articles that pairs connect, directly or not, are a component. A component's stories keep one split, the most held
    out of those that the files name ("mixed split" where they differ). Within it, pairs are taken one by one in the
    order of their articles and join two stories unless these have a language in common ("edge across stories"): so
    every article is in one story, and a story holds at most one article a language.

    Stories are ordered by a hash of their key, so that the first so many are of all languages. The memory is some 30
    bytes an article.
    """
    (size,) = database.execute("SELECT coalesce(max(id), 0) + 1 FROM articles").fetchone()
    complete = bytearray(size)
    held, least = bytearray(size), bytearray([_NO_SPLIT]) * size
    languages = array("Q", bytes(8 * size))
    for article, language, split in database.execute(
        "SELECT id, language, split FROM articles WHERE text_file NOT NULL AND summary_file NOT NULL"
    ):
        complete[article] = 1
        languages[article] = 1 << language
        if split is not None:
            held[article] = least[article] = split
    component, story = array("i", range(size)), array("i", range(size))

    def connect(a: int, b: int) -> None:
        a, b = find(component, a), find(component, b)
        if a != b:
            component[b] = a
            held[a], least[a] = max(held[a], held[b]), min(least[a], least[b])

    pairs = 0
    for source, target, split in database.execute("SELECT source, target, split FROM pairs ORDER BY source, target"):
        for end in {source, target}:
            if complete[end]:  # also when the pair itself is dropped: an article of pairs has no other split
                root = find(component, end)
                held[root], least[root] = max(held[root], split), min(least[root], split)
        if not (complete[source] and complete[target]):
            continue
        connect(source, target)
        a, b = find(story, source), find(story, target)
        if a != b and languages[a] & languages[b]:
            (url,) = database.execute("SELECT url FROM articles WHERE id = ?", (source,)).fetchone()
            problems.count("edge across stories", url)
            continue
        pairs += 1
        if a != b:
            story[b] = a
            languages[a] |= languages[b]
    before = None
    for article, url in database.execute("SELECT id, url FROM articles ORDER BY url, language"):
        if before and before[1] == url and complete[article] and complete[before[0]]:
            connect(before[0], article)  # one page under two languages
        before = (article, url)

    number_of, first, hashes = array("i", [-1]) * size, array("i"), array("Q")
    seen = bytearray(size)
    # In this order a story's first article is that with its smallest URL, its key.
    for article, url in database.execute("SELECT id, url FROM articles ORDER BY url, language"):
        if not complete[article]:
            continue
        root = find(component, article)
        if not seen[root]:
            seen[root] = 1
            if held[root] != least[root]:
                problems.count("mixed split", url)
        root = find(story, article)
        if number_of[root] < 0:
            number_of[root] = len(first)
            first.append(article)
            hashes.append(int.from_bytes(hashlib.sha256(url.encode()).digest()[:8], "big"))
    splits = np.array([held[find(component, article)] for article in first], np.int64)
    order = np.argsort(np.asarray(hashes), kind="stable")
    number_in_split = _places(splits, order)
    database.executemany(
        "INSERT INTO stories VALUES (?, ?, ?)",
        ((int(splits[n]), int(number_in_split[n]), rank) for rank, n in enumerate(order)),
    )
    numbers = (number_of[find(story, article)] if complete[article] else -1 for article in range(size))
    database.executemany(
        "INSERT INTO members VALUES (?, ?, ?)",
        ((int(splits[n]), int(number_in_split[n]), article) for article, n in enumerate(numbers) if n >= 0),
    )
    return {"articles": sum(complete), "pairs": pairs, "stories": len(first)}


def find(parent: "array[int]", node: int) -> int:
    """Return the root of a node's tree, halving the path to it."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


def _places(splits: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of every story within its split, when stories are taken in `order`."""
    places = np.empty(len(splits), np.int64)
    for split in range(3):
        chosen = order[splits[order] == split]
        places[chosen] = np.arange(len(chosen))
    return places
