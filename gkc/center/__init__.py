"""The General Knowledge Center itself: question in, answer out; no I/O, no transport."""
