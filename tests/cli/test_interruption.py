"""SIGINT and SIGTERM end a command, whatever it is at."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from diptych.cli import INTERRUPTED
from diptych.cli.interruption import exit_on_signal

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")


def politely() -> None:
    time.sleep(600)


def deaf() -> None:
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(600)


def waits_for_a_thread() -> None:
    started = threading.Thread(target=time.sleep, args=(600,))
    started.start()
    try:
        time.sleep(600)
    finally:
        started.join()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("work", [politely, deaf, waits_for_a_thread])
def test_a_signal_ends_it(work: Callable[[], None], sent: signal.Signals) -> None:
    ready, told = os.pipe()
    if (child := os.fork()) == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with exit_on_signal(0.2):
                os.write(told, b"x")
                work()
        except KeyboardInterrupt:
            os._exit(INTERRUPTED)
        finally:
            os._exit(99)
    os.read(ready, 1)
    os.kill(child, sent)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == INTERRUPTED
    os.close(ready)
    os.close(told)


def test_what_ends_by_itself_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with exit_on_signal(0.01):
        assert signal.getsignal(signal.SIGTERM) is not before
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.set_wakeup_fd(-1) == -1
    assert not any(thread.name == "diptych-signals" for thread in threading.enumerate())


def test_outside_of_the_main_thread_it_takes_no_signals() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def inside() -> None:
        with exit_on_signal():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize("heard", [True, False], ids=["heard", "not heard"])
def test_a_command_that_is_interrupted_waits_for_no_thread(heard: bool) -> None:
    """As while two threads hash films: the interpreter would wait for both before it ends. One that comes before the
    command listens, or after, is as good."""
    code = (
        "import concurrent.futures, sys, time\n"
        "import diptych.cli, diptych.__main__ as m\n"
        "def run(arguments):\n"
        "    concurrent.futures.ThreadPoolExecutor(1).submit(time.sleep, 600)\n"
        "    try:\n"
        "        print('at it', flush=True)\n"
        "        time.sleep(600)\n"
        "    except KeyboardInterrupt:\n"
        f"        {'return 130' if heard else 'raise'}\n"
        "diptych.cli.run = run\n"
        "m.main()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "at it\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait() == INTERRUPTED
    process.stdout.close()
