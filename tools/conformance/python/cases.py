"""Runs named cases one after another and says of each, on a line of its own,
whether it passed. The last line counts them."""

import sys
import traceback

_cases = {}


def case(name):
    """Names the function that follows as a case."""

    def add(test):
        _cases[name] = test
        return test

    return add


def run():
    passed = 0
    for name, test in _cases.items():
        try:
            test()
        except Exception:
            print(f"FAIL {name}", flush=True)
            print(f"{name}: {traceback.format_exc()}", file=sys.stderr, flush=True)
        else:
            passed += 1
            print(f"ok {name}", flush=True)
    print(f"{passed} of {len(_cases)} passed")
    sys.exit(passed != len(_cases))


def fails(kind, do, *args, **kwargs):
    """Returns the error, of one kind, that a call ends in, for a closer look."""
    try:
        do(*args, **kwargs)
    except kind as err:
        return err
    raise AssertionError("it was answered, and should have failed")


def equal(got, want, what="value"):
    assert got == want, f"{what}: {got!r}; want {want!r}"
