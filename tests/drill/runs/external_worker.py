"""The drill's external worker: the one of the examples, with work that writes down what it does."""
import os
import sys
import time

sys.path.insert(0, os.environ["EXAMPLE"])
import worker

TICK = 0.1
# A worker tells of its progress each second: four at once should not be all that the API has to do.
TOLD_EVERY = 10


def work(run, tell, check):
    """Works for a while, and says so in the ledger, a line in one write."""
    ledger = os.open(os.environ["DRILL_LEDGER"], os.O_WRONLY | os.O_APPEND)

    def note(what):
        line = f"{run['id']} {run['attempt']} {what} {time.time_ns() // 1000} {os.getpid()}\n"
        os.write(ledger, line.encode())

    try:
        check()
        note("start")
        ticks, whole = 0, run["input"]["ms"] / 1000
        end = time.monotonic() + whole
        try:
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(left, TICK))
                check()
                note("tick")
                ticks += 1
                if ticks % TOLD_EVERY == 0:
                    tell("progress", {"percent": 100 * min(1, 1 - left / whole)})
            check()
        except worker.Stop:
            note("failed")
            raise
        note("done")
    finally:
        os.close(ledger)


worker.work = work
worker.main()
