"""What the scripts share: checks that say what they expected, and the simulator's own account of a call."""

import json
import urllib.request

QUESTION = "My order A-1042 is late."


def same(seen, expected, what):
    if seen != expected:
        raise SystemExit(f"{what}: expected {expected!r}, saw {seen!r}")


def check(condition, what):
    if not condition:
        raise SystemExit(what)


def raises(kind, call):
    """The error of this class that the call raises."""
    try:
        call()
    except kind as error:
        same(type(error).__name__, kind.__name__, "class of the error")
        return error
    raise SystemExit(f"no {kind.__name__} was raised")


def ledger(url):
    """The lines of the simulator's ledger, in the order in which calls ended."""
    with urllib.request.urlopen(f"{url}/sim/ledger", timeout=10) as response:
        return [json.loads(line) for line in response.read().splitlines()]


def last(url):
    return ledger(url)[-1]
