"""Places are held by as many rows as there are, given in order, and always given back."""

import asyncio

import pytest

from softprompt.serving.limits import Admission, Limits, Overloaded


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def test_never_more_rows_than_places_and_all_come_back():
    async def main():
        admission, most, running = Admission(Limits(max_rows=5, queue_seconds=10)), 0, 0

        async def one(rows):
            nonlocal most, running
            async with admission.places(rows):
                running += rows
                most = max(most, running)
                await asyncio.sleep(0.001)
                running -= rows

        await asyncio.gather(*(one(1 + number % 4) for number in range(200)))
        assert most == 5
        assert (admission.num_rows, admission.num_waiting) == (0, 0)

    run(main())


def test_whoever_waited_longest_goes_first_even_if_it_needs_more():
    async def main():
        admission, order = Admission(Limits(max_rows=4)), []

        async def one(name, rows):
            async with admission.places(rows):
                order.append(name)
                await asyncio.sleep(0.01)

        async with admission.places(2):
            waiting = [asyncio.create_task(one(name, rows)) for name, rows in (("large", 4), ("small", 1), ("small too", 1))]
            await asyncio.sleep(0.02)
            assert order == []
        await asyncio.gather(*waiting)
        assert order == ["large", "small", "small too"]

    run(main())


def test_who_finds_no_place_in_time_is_told_when_to_come_again():
    async def main():
        admission = Admission(Limits(max_rows=1, max_waiting=1, queue_seconds=0.02))
        async with admission.places(1):
            waiting = asyncio.create_task(admission.places(1).__aenter__())
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="wait already"):
                await admission.places(1).__aenter__()
            with pytest.raises(Overloaded, match="in time") as caught:
                await waiting
            assert caught.value.retry_after_seconds >= 1
        async with admission.places(1):
            pass

    run(main())


def test_a_large_one_that_gives_up_does_not_hold_up_the_small_ones_behind_it():
    async def main():
        admission = Admission(Limits(max_rows=4, queue_seconds=10))
        async with admission.places(2):
            large = asyncio.create_task(admission.places(4).__aenter__())
            await asyncio.sleep(0)
            small = asyncio.create_task(admission.places(1).__aenter__())
            await asyncio.sleep(0)
            large.cancel()
            await asyncio.wait_for(small, 1)

    run(main())


def test_places_of_clients_that_go_away_come_back():
    async def main():
        admission = Admission(Limits(max_rows=1, queue_seconds=10))

        async def one():
            async with admission.places(1):
                await asyncio.sleep(0.001)

        tasks = [asyncio.create_task(one()) for _ in range(100)]
        for number, task in enumerate(tasks):
            await asyncio.sleep(0.0005)
            if number % 3:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (admission.num_rows, admission.num_waiting) == (0, 0)
        await one()

    run(main())
