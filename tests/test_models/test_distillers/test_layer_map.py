import pytest

from transmamba_mm.models import map_layers


@pytest.mark.parametrize('student, teacher, want', [
    (4, 4, (0, 1, 2, 3)),
    (4, 12, (2, 5, 8, 11)),
    (6, 3, (0, 0, 1, 1, 2, 2)),
    (3, 4, (1, 2, 3)),
])
def test_proportional_ends_at_the_last_layer(student, teacher, want):
    assert map_layers('proportional', student, teacher) == want


def test_explicit_map_counts_from_the_end():
    assert map_layers([0, -1], 2, 12) == (0, 11)


@pytest.mark.parametrize('kind, message', [
    ('cosine', 'unknown'),
    ([0, 1, 2], '3 entries'),
    ([0, 12], r'\[12\]'),
])
def test_wrong_maps(kind, message):
    with pytest.raises(ValueError, match=message):
        map_layers(kind, 2, 12)
