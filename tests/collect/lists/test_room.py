"""The bytes in memory are bounded, and nobody waits for ever."""

import asyncio
from collections.abc import AsyncIterator

from diptych.collect.lists.room import Room

KIB = 1 << 10


async def blocks(size: int, of: int = 100 * KIB) -> AsyncIterator[bytes]:
    for at in range(0, size, of):
        await asyncio.sleep(0)
        yield bytes(min(of, size - at))


def test_answers_of_unknown_length_do_not_block_each_other() -> None:
    """Twenty of 1 MiB in a room of 2: no more than the room and one answer is held at a time."""

    async def read_all() -> int:
        room = Room(2048 * KIB)

        async def one() -> int:
            body = await room.read(blocks(1024 * KIB), None, 1024 * KIB)
            assert body is not None
            await asyncio.sleep(0)
            room.release(len(body))
            return len(body)

        assert sum(await asyncio.gather(*(one() for _ in range(20)))) == 20 * 1024 * KIB
        assert room.used == 0
        return room.peak

    assert asyncio.run(asyncio.wait_for(read_all(), 30)) <= (2048 + 1024 + 256) * KIB


def test_what_is_too_large_is_not_held() -> None:
    async def read() -> None:
        room = Room(1024 * KIB)
        assert await room.read(blocks(0), 2048 * KIB, 1024 * KIB) is None  # by its length
        assert await room.read(blocks(4096 * KIB), None, 1024 * KIB) is None
        assert await room.read(blocks(512 * KIB), None, 1024 * KIB) == bytes(512 * KIB)
        assert room.used == 512 * KIB

    asyncio.run(read())


def test_who_is_cancelled_holds_nothing() -> None:
    async def cancel() -> None:
        room = Room(100)
        await room.take(100)
        waiting = asyncio.create_task(room.take(50))
        await asyncio.sleep(0)
        room.release(100)  # it is given, and cancelled before it knows
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert room.used == 0
        await asyncio.wait_for(room.take(100), 5)

    asyncio.run(cancel())


def test_a_number_larger_than_the_room_waits_for_all_of_it() -> None:
    async def take() -> None:
        room = Room(100)
        await room.take(60)
        large = asyncio.create_task(room.take(500))
        await asyncio.sleep(0)
        assert not large.done()
        room.release(60)
        await asyncio.wait_for(large, 5)
        assert room.used == 500

    asyncio.run(take())


def test_who_would_begin_waits_without_turns_until_there_is_room() -> None:
    """A release that leaves too little wakes none of them, however many there are; one that leaves enough wakes all."""

    async def begin() -> None:
        room = Room(100)
        await room.take(90)
        waiting = [asyncio.create_task(room.open()) for _ in range(50)]
        await asyncio.sleep(0)
        room.release(10)
        for _ in range(3):
            await asyncio.sleep(0)
        assert (room.used, room.peak) == (80, 90)
        assert not any(task.done() for task in waiting)
        waiting[0].cancel()
        room.release(40)
        await asyncio.wait_for(asyncio.gather(*waiting[1:]), 5)

    asyncio.run(begin())
