"""The online side: answers which knowledge belongs to (user, item, category, version) rows."""
