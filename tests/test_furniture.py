"""Made-up furniture: whose points are where a scanner sees them."""

from __future__ import annotations

import numpy as np

from quickstudy.datasets import furniture as made


def test_no_point_lies_in_another_part_nor_where_two_touch() -> None:
    """Such a point looks like one of the other part, and nobody could tell it."""
    for make in made._MADE:
        solids = make(np.random.default_rng(0))
        xyz, parts = made._drawn(np.random.default_rng(1), solids, 400)
        assert len(xyz) == 400 and {made.PARTS[code] for code in parts} == {solid.part for solid in solids}
        within = np.stack([made._inside(xyz, solid) for solid in solids])
        assert (within.sum(0) == 1).all()
        owners = np.array([made.PARTS.index(solid.part) for solid in solids])[within.argmax(0)]
        assert (owners == parts).all()
