"""The systems that KEEP is compared with: a module and a declaration each, on ``keep.data``.

``system.py`` says what a declaration is and trains it; ``registry.py`` lists them by name.
"""
