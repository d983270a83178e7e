"""What every store must do, whatever it is made of. A backend's tests subclass `StoreContract`.

The store is not its own witness: a `StorePlace` looks at what it holds, and damages it, without
going through it.
"""

from __future__ import annotations

from gkc.testing.contract.damage import DamageContract
from gkc.testing.contract.publications import PublicationContract
from gkc.testing.contract.reads import ReadContract
from gkc.testing.contract.store_place import StorePlace
from gkc.testing.contract.writers import WriterContract

__all__ = ["StoreContract", "StorePlace"]


class StoreContract(ReadContract, PublicationContract, WriterContract, DamageContract):
    """All the tests. A subclass overrides the fixture `place`."""
