"""How often Python looks for garbage that refers to itself."""

import gc

_OBJECTS = 100_000
_YOUNG, _MIDDLE = 20, 100


def collect_seldom() -> None:
    """For a process that works on batches of many thousand objects without cycles, one after another.

    They go when the last reference goes. Looking for cycles among them took a third of the ledger worker's time.
    """
    gc.collect()
    gc.freeze()  # what start-up made stays: it need not be looked at again
    gc.set_threshold(_OBJECTS, _YOUNG, _MIDDLE)
