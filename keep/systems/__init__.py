"""The systems that KEEP is compared with, one module each, on one data interface (``keep.data``).

Every module has frozen ``Options``, a ``grid(best)`` of at most twelve of them to choose from on
the tuning day, starting from the options of Base that were found best, and
``train(data, days, options, seed, task=0) -> Ranker``.
"""
