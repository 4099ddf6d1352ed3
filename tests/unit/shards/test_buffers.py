"""Memory that is lent, and lent again only when nobody can see it any more."""

import gc

import torch

from shards.batch.buffers import BufferPool


def test_memory_is_used_again_once_it_is_free() -> None:
    pool = BufferPool()
    first = pool.take((4, 5, 36, 32), torch.float16)
    place = first.data_ptr()
    assert first.shape == (4, 5, 36, 32)
    assert first.dtype == torch.float16
    del first
    assert pool.take((4, 5, 36, 32), torch.float16).data_ptr() == place


def test_any_view_keeps_its_memory_from_being_lent() -> None:
    pool = BufferPool()
    first = pool.take((4, 8), torch.float16)
    row, array = first[2:3].view(-1)[1:], first.numpy()
    place = first.data_ptr()
    first.fill_(7)
    del first
    gc.collect()
    second = pool.take((4, 8), torch.float16).fill_(1)
    assert second.data_ptr() != place
    assert (row == 7).all()
    del row
    third = pool.take((4, 8), torch.float16).fill_(2)
    assert third.data_ptr() != place
    assert (array == 7).all()
    del array
    assert pool.take((4, 8), torch.float16).data_ptr() == place


def test_what_is_kept_is_bounded_and_small_requests_do_not_take_large_memory() -> None:
    pool = BufferPool(keep=2)
    lent = [pool.take((1000,), torch.float32) for _ in range(6)]
    places = {one.data_ptr() for one in lent}
    small = pool.take((10,), torch.float32).data_ptr()
    lent.clear()
    assert small not in places
    again = [pool.take((1000,), torch.float32) for _ in range(3)]
    assert sum(one.data_ptr() in places for one in again) >= 2
    tiny = pool.take((10,), torch.float32)
    assert tiny.untyped_storage().nbytes() == 40


def test_nothing_asked_for_is_nothing_given() -> None:
    assert BufferPool().take((3, 0), torch.float16).numel() == 0
