"""The general knowledge center: a store of versioned KEEP knowledge and the service on top of it.

Importing this package imports nothing else, so ``import gkc.knowledge`` stays cheap for training
code that only needs the row layout.
"""

__version__ = "0.1.0"
