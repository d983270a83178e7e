"""The compared systems, Base and KEEP (``plugged.py``) among them, on ``keep.data``.

Each has a module of its name, which ends with its declaration. ``transformer.py`` and
``sequences.py`` are what BERT4Rec and S3-Rec share.

``system.py`` says what a declaration is and trains it; ``registry.py`` lists them by name.
"""
