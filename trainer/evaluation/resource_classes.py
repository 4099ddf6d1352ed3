"""How much there is to train on in a direction, in the classes that ACROSS tells apart."""

#: By training pairs, where ACROSS (Li et al., 2023, section 4.1) draws its lines: extremely low-resource, medium
#: low-resource, normal low-resource. It classes languages, which have one direction each there.
CLASSES = ("<1000", "1000-5000", ">5000")


def resource_class(train_pairs: int) -> str:
    return CLASSES[0] if train_pairs < 1000 else CLASSES[1] if train_pairs <= 5000 else CLASSES[2]
