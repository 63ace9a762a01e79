"""The order of training: permutations, and independence of when it is asked."""

import numpy as np
import pytest

from gat.data.order import TrainingOrder
from gat.errors import UserError

COUNT, BATCH = 23, 5  # four batches an epoch, three images left over


@pytest.fixture
def order() -> TrainingOrder:
    return TrainingOrder(COUNT, BATCH, seed=3)


def epoch(order: TrainingOrder, number: int) -> list[int]:
    steps = range(number * order.steps_per_epoch, (number + 1) * order.steps_per_epoch)
    return np.concatenate([order.rows(step) for step in steps]).tolist()


def test_partial_batch_is_dropped(order: TrainingOrder) -> None:
    assert order.steps_per_epoch == 4
    assert {len(order.rows(step)) for step in range(9)} == {BATCH}


def test_no_image_twice_in_an_epoch(order: TrainingOrder) -> None:
    for number in range(5):
        rows = epoch(order, number)
        assert len(set(rows)) == 20
        assert set(rows) <= set(range(COUNT))


def test_whole_batches_make_a_permutation() -> None:
    order = TrainingOrder(20, BATCH, seed=3)
    for number in range(5):
        assert sorted(epoch(order, number)) == list(range(20))


def test_other_images_are_dropped_in_other_epochs(order: TrainingOrder) -> None:
    seen = set().union(*(epoch(order, number) for number in range(5)))
    assert seen == set(range(COUNT))


def test_epochs_and_seeds_differ(order: TrainingOrder) -> None:
    orders = [epoch(order, 0), epoch(order, 1), epoch(TrainingOrder(COUNT, BATCH, seed=4), 0)]
    assert len({tuple(o) for o in orders}) == 3
    assert all(o != sorted(o) for o in orders)


def test_function_of_seed_and_step_alone(order: TrainingOrder) -> None:
    in_turn = [order.rows(step).tolist() for step in range(12)]
    asked_anew = TrainingOrder(COUNT, BATCH, seed=3)
    for step in (11, 0, 5, 4, 5, 1, 8, 3):
        assert asked_anew.rows(step).tolist() == in_turn[step]
    assert TrainingOrder(COUNT, BATCH, seed=3).rows(7).tolist() == in_turn[7]


def test_one_batch_is_the_whole_data() -> None:
    order = TrainingOrder(6, 6, seed=0)
    assert order.steps_per_epoch == 1
    assert [sorted(order.rows(step)) for step in range(3)] == [list(range(6))] * 3


def test_batch_larger_than_the_data() -> None:
    with pytest.raises(
        UserError, match=r"training\.batch_size=24 is more than the 23 images of the data: make it small"
    ):
        TrainingOrder(COUNT, 24, seed=0)
