"""Whose turn it is."""

import asyncio
import time

from diptych.collect.lists.host_queue import HostQueue, Job


def job(number: int, until_s: float = 1000.0) -> Job:
    return Job(number, f"http://a.example/{number}", time.monotonic() + until_s, 30.0)


def test_what_is_left_of_a_host_that_is_given_up_waits_for_no_pause() -> None:
    async def give_up() -> list[int]:
        queue = HostQueue(1, 0.0)
        for number in range(3):
            queue.put("a.example", job(number))
        host, first = await queue.take()
        host.pace.end(time.monotonic(), 500.0, 0)
        queue.give_back(host)  # from now on it waits for minutes
        queue.give_up(host, "time-out", "there was no answer")
        found = [first.id]
        for _ in range(2):
            host, following = await asyncio.wait_for(queue.take(), 60)
            queue.give_back(host)
            found.append(following.id)
        return found

    assert asyncio.run(give_up()) == [0, 1, 2]


def test_a_job_is_handed_out_when_it_is_of_no_use_any_more() -> None:
    """The host asks for a pause that is longer."""

    async def wait() -> int:
        queue = HostQueue(1, 0.0)
        queue.put("a.example", job(0))
        queue.put("a.example", job(1, until_s=0.2))
        host, _ = await queue.take()
        host.pace.end(time.monotonic(), 0.0, 429, "100000")
        queue.give_back(host)
        return (await asyncio.wait_for(queue.take(), 60))[1].id

    assert asyncio.run(wait()) == 1


def test_no_more_than_its_number_of_one_host_and_others_meanwhile() -> None:
    async def take() -> list[tuple[str, int]]:
        queue = HostQueue(2, 0.0)
        for number in range(4):
            queue.put("a.example", job(number))
        queue.put("b.example", job(9))
        taken = [await queue.take() for _ in range(3)]
        waiting = asyncio.ensure_future(queue.take())
        await asyncio.sleep(0)
        assert not waiting.done()
        queue.give_back(taken[0][0])
        taken.append(await asyncio.wait_for(waiting, 60))
        return [(host.name, each.id) for host, each in taken]

    assert asyncio.run(take()) == [("a.example", 0), ("a.example", 1), ("b.example", 9), ("a.example", 2)]
