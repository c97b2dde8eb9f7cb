"""Names of the towers of a model that has several."""
from typing import Optional

_OTHER_WORDS = dict(visual='vision', image='vision', language='text')


def tower_name(tower: Optional[str]) -> Optional[str]:
    """Give a tower the name it has everywhere in this package.

    Args:
        tower (str, optional): 'vision' (or 'visual', 'image'), 'text' (or
            'language'), or anything else.

    Returns:
        str, optional: 'vision', 'text', or what was given.
    """
    return _OTHER_WORDS.get(tower, tower)
