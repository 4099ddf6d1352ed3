"""Class directions by their amount of training data."""

#: By training pairs, as ACROSS (Li et al., 2023, section 4.1) classes languages: extremely, medium and normal
#: low-resource.
CLASSES = ("<1000", "1000-5000", ">5000")


def resource_class(train_pairs: int) -> str:
    """Return the class of a direction."""
    return CLASSES[0] if train_pairs < 1000 else CLASSES[1] if train_pairs <= 5000 else CLASSES[2]
