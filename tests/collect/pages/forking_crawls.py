"""Crawls in processes that fork from this one, which has Scrapy imported already. A line of stdin is an order; the
process id of its crawl is answered, and a line once that has ended, in whatever way."""

import os
import sys

from diptych.collect.pages.child import crawl_process


def crawl_in_a_fork(order: bytes) -> int:
    """The process id of a crawl with this order, whose stdin ends when it does."""
    if process := os.fork():
        return process
    reading, writing = os.pipe()
    os.write(writing, order)
    os.dup2(reading, 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stdin = os.fdopen(0)
    crawl_process.main()
    os._exit(0)


def main() -> None:
    """Until stdin ends."""
    orders = os.fdopen(os.dup(0), "rb", buffering=0)
    for order in iter(orders.readline, b""):
        process = crawl_in_a_fork(order)
        print(process, flush=True)
        os.waitpid(process, 0)
        print("ended", flush=True)


if __name__ == "__main__":
    main()
